"""The quantized ONNX, run by ONNX Runtime, against the fake-quantized model."""

import numpy as np
import pytest
from deploy_cases import MIX, ZOO, assignments, exact, images, variables

REASON = "needs onnx and onnxruntime: pip install fbq[deploy]"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

from fbq import precision  # noqa: E402
from fbq.deploy import faithful, lowering, onnx_qdq  # noqa: E402

NARROW = {"a.weight": 4, "b.weight": 2, "a.out": 8, "b.out": 4, "d.out": 2}


def lowered(net, bits):
  return lowering.lower(net, variables(net), bits, 64)


def run(model, net, count=32):
  return onnx_qdq.run(onnx_qdq.session(model), images(net, count), batch=20)


def agreeing(found, expected):
  """Images of 32 with equal logits; noise at a tie may change one or two."""
  return int(np.sum(np.abs(found - expected).max(-1) <= 1e-3))


def test_it_computes_what_the_trained_model_computes():
  for bits in (precision.uniform(MIX, 8), *assignments(MIX, 3)):
    found = run(onnx_qdq.build(lowered(MIX, bits)), MIX)
    expected = faithful.trained_codes(
      MIX, variables(MIX), precision.to_array(MIX, bits), images(MIX, 32)
    )["fc"]
    assert np.ptp(expected) > 1
    assert agreeing(found, np.asarray(expected)) >= 30


@pytest.mark.parametrize("name", [n for n in ZOO if n != "mobilenet_v2"])
def test_networks_equal_float64(name):
  net = ZOO[name]
  for bits in (precision.uniform(net, 8), *assignments(net, 1)):
    found = run(onnx_qdq.build(lowered(net, bits)), net)
    expected = exact(net, variables(net), bits, images(net, 32))["classifier"]
    assert agreeing(found, expected) >= 30


def test_a_deep_network_passes_the_checker_and_runs():
  """Of its 32 images 28 have the logits of float64."""
  net = ZOO["mobilenet_v2"]
  (bits,) = assignments(net, 1)
  model = onnx_qdq.build(lowered(net, bits))
  onnx.checker.check_model(model, full_check=True)
  assert np.isfinite(run(model, net)).all()


def test_weights_have_the_narrowest_type_that_the_runtime_has():
  bits = precision.uniform(MIX, 8) | NARROW
  network = lowered(MIX, bits)
  types = lambda model: {
    tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type)
    for tensor in model.graph.initializer
    if tensor.name.endswith("weight.codes")
  }
  model = onnx_qdq.build(network)
  assert types(model) == {
    "a.weight.codes": "INT4",
    "b.weight.codes": "INT8",  # 2 bits
    **{f"{name}.weight.codes": "INT8" for name in ("c", "d", "e", "fc")},
  }
  plain = onnx_qdq.build(network, int4=False)
  assert set(types(plain).values()) == {"INT8"}
  np.testing.assert_array_equal(run(plain, MIX), run(model, MIX))
  smaller = onnx_qdq.weight_bytes(plain) - onnx_qdq.weight_bytes(model)
  assert smaller == 8 * 3 * 2 * 2 // 2
  (codes,) = (
    tensor
    for tensor in model.graph.initializer
    if tensor.name == "a.weight.codes"
  )
  np.testing.assert_array_equal(
    onnx.numpy_helper.to_array(codes).astype(int),
    network.layers["a"]["weight"].transpose(3, 2, 0, 1),
  )


def test_without_quantizers_it_is_close_to_float():
  network = lowered(MIX, precision.uniform(MIX, 8))
  model = onnx_qdq.build_float(network)
  kinds = {node.op_type for node in model.graph.node}
  assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
  found = run(model, MIX)
  quantized = run(onnx_qdq.build(network), MIX)
  error = np.abs(found - quantized).mean() / np.ptp(quantized)
  assert 0 < error < 0.2  # activations are no longer clipped at 0.7 of them
