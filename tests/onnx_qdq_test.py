"""The quantized ONNX, run by ONNX Runtime, against the fake-quantized model."""

import numpy as np
import pytest
from deploy_cases import (
  CONV,
  MIX,
  ZOO,
  assignments,
  combine,
  exact,
  images,
  variables,
)

REASON = "needs onnx and onnxruntime: pip install fbq[deploy]"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

from fbq import precision  # noqa: E402
from fbq.deploy import faithful, lowering, onnx_fast, onnx_qdq  # noqa: E402
from fbq.nets import Net, Node  # noqa: E402

EXACT_SUMS = pytest.mark.skipif(
  onnx_fast.saturates(), reason="this processor's sums of int8 are cut off"
)
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


def test_biases_are_left_as_they_are_by_a_session_of_anybody():
  """Steps of sums of 2-bit weights are many codes of 8-bit outputs."""
  bits = {x: 2 if "weight" in x else 8 for x in MIX.workload.sites}
  network = lowered(MIX, bits)
  model = onnx_qdq.build(network)
  inputs = [n.input for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
  assert {len(each) for each in inputs} == {2}
  values = images(MIX, 32)
  expected = exact(MIX, variables(MIX), bits, values)["fc"]
  assert agreeing(run(model, MIX), expected) >= 30


@EXACT_SUMS
def test_rounded_biases_of_narrow_weights_are_hardly_rounded():
  """Weights of 2 bits are taken 63 times, so sums have steps 63 times finer."""
  bits = {x: 2 if "weight" in x else 8 for x in MIX.workload.sites}
  network = lowered(MIX, bits)
  expected = exact(MIX, variables(MIX), bits, images(MIX, 32))["fc"]
  fused = onnx_qdq.build(network, fused_bias=True)
  assert agreeing(run(fused, MIX), expected) >= 28

  # Of 8-bit weights they are, which a class may not survive
  net = ZOO["mobilenet_v1"]
  bits = precision.uniform(net, 8)
  values = images(net, 32)
  expected = exact(net, variables(net), bits, values)["classifier"]
  for fused, least, most in ((False, 30, 32), (True, 0, 8)):
    model = onnx_qdq.build(lowered(net, bits), fused_bias=fused)
    assert least <= agreeing(run(model, net), expected) <= most


def kernels_of(model, path):
  """What a default session runs, but for the product that makes logits."""
  onnx_qdq.session(model, optimized=str(path))
  nodes = [n for n in onnx.load(path).graph.node if ".logits" not in n.name]
  return {node.op_type for node in nodes}


def test_forms_run_on_the_kernels_that_they_are_for(tmp_path):
  """Activations below 8 bits too, and weights are multiplied out once."""
  net = ZOO["resnet8"]
  (bits,) = assignments(net, 1)
  network = lowered(net, bits)
  fused = onnx_qdq.build(network, fused_bias=True)
  found = kernels_of(fused, tmp_path / "fused.onnx")
  assert "QLinearConv" in found and "Conv" not in found
  found = kernels_of(onnx_qdq.build(network), tmp_path / "exact.onnx")
  assert "Conv" in found and not found & {"QLinearConv", "Mul", "Cast"}


def test_a_channel_of_factor_0_keeps_its_bias():
  net = ZOO["resnet8"]
  bits = precision.uniform(net, 8)
  given = variables(net)
  norm = dict(given["params"]["stage0.conv1_norm"])
  norm["scale"] = np.zeros_like(norm["scale"])
  params = given["params"] | {"stage0.conv1_norm": norm}
  given = given | {"params": params}
  network = lowering.lower(net, given, bits, 64)
  values = images(net, 32)
  expected = exact(net, given, bits, values)["classifier"]
  for fused in (False, True):
    if fused and onnx_fast.saturates():
      continue
    model = onnx_qdq.build(network, fused_bias=fused)
    assert agreeing(run(model, net), expected) >= 16


def test_without_quantizers_it_is_close_to_float():
  network = lowered(MIX, precision.uniform(MIX, 8))
  model = onnx_qdq.build_float(network)
  kinds = {node.op_type for node in model.graph.node}
  assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
  found = run(model, MIX)
  quantized = run(onnx_qdq.build(network), MIX)
  error = np.abs(found - quantized).mean() / np.ptp(quantized)
  assert 0 < error < 0.2  # activations are no longer clipped at 0.7 of them


def pooling(window, stride, padding, signed, size):
  """A network of two means, the second of the whole image."""
  last = dict(norm=True) if signed else CONV
  return Net(
    "means",
    (*size, 2),
    (
      Node("a", "conv", ("input",), 8, (3, 3), 1, 1, **CONV),
      Node("b", "conv", ("a",), 8, **last),
      Node("mean", "avg_pool", ("b",), 0, window, stride, padding),
      Node("pool", "avg_pool", ("mean",), kernel=None),
      Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
    ),
  )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
  ("window", "stride", "padding", "size"),
  [
    ((2, 2), 2, 0, (8, 8)),
    ((1, 2), 1, 0, (8, 7)),
    ((3, 3), 1, 1, (9, 8)),
    ((2, 3), 2, (1, 0, 1, 1), (7, 8)),
    ((5, 5), 3, 0, (11, 14)),
    ((1, 1), 1, 0, (32, 30)),
    ((1, 1), 1, 0, (33, 33)),
  ],
)
def test_means_round_halves_up(window, stride, padding, size, signed):
  """Of even and odd numbers of codes of both signs, padded ones too."""
  net = pooling(window, stride, padding, signed, size)
  for bits in (
    precision.uniform(net, 8),
    precision.uniform(net, 8) | ({} if signed else {"b.out": 4}),
  ):
    model = onnx_qdq.build(lowered(net, bits))
    kind = onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8
    names = [f"{name}.codes" for name in ("b", "mean", "pool")]
    for name in names:
      model.graph.output.append(
        onnx.helper.make_tensor_value_info(name, kind, None)
      )
    found = onnx_qdq.session(model).run(
      names, {"input": images(net, 16).transpose(0, 3, 1, 2)}
    )
    codes = [x.transpose(0, 2, 3, 1).astype(np.int64) for x in found]
    for name, given, made in zip(
      ("mean", "pool"), codes, codes[1:], strict=False
    ):
      node = net.node[name]
      count = np.prod(node.kernel or given.shape[1:3])
      total = np.rint(combine(node, [given]) * count).astype(np.int64)
      np.testing.assert_array_equal(made, (2 * total + count) // (2 * count))
    assert codes[0].min() < 0 or not signed


def test_files_are_the_same_for_both_widths_of_requantization():
  """They requantize in floating point."""
  bits = next(assignments(MIX, 1))
  narrow = lowering.lower(MIX, variables(MIX), bits, 32)
  assert onnx_qdq.build(narrow) == onnx_qdq.build(lowered(MIX, bits))
