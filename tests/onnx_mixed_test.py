"""Float and integer layers side by side, against float64, layer by layer."""

import dataclasses

import numpy as np
import pytest
from deploy_cases import MIX, ZOO, combine, images, variables

REASON = "needs onnx and onnxruntime: pip install fbq[deploy]"
onnx = pytest.importorskip("onnx", reason=REASON)
pytest.importorskip("onnxruntime", reason=REASON)

from fbq import nets, precision  # noqa: E402
from fbq.deploy import (  # noqa: E402
  mixed_layers,
  onnx_fast,
  onnx_mixed,
  onnx_timing,
)
from fbq.nets import Node  # noqa: E402
from fbq.nets.graph import INPUT  # noqa: E402

FREE = dataclasses.replace(MIX, fixes_adders=False)
KINDS = (4, 8, 32)


def float_net(net):
  return onnx_mixed.folded(net, variables(net), images(net, 8))


def assignments(net, count, seed=0, weights=KINDS):
  random = np.random.default_rng(seed)
  for _ in range(count):
    yield {
      site: net.fixed_bits.get(
        site,
        int(random.choice(weights if site.endswith("weight") else (8, 32))),
      )
      for site in net.workload.sites
    }


def tapped(network, bits, given):
  """Every tensor as it lies, [B, H, W, C], as the runtime makes them."""
  model = onnx_mixed.build(network, bits, taps=True)
  onnx.checker.check_model(model, full_check=True)
  names = [node.name for node in network.net.nodes[:-1]]
  found = onnx_timing.session(model).run(
    [*names, "logits"], {INPUT: onnx_mixed.as_bytes(given)}
  )
  last = network.net.nodes[-1].name
  return {
    name: x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
    for name, x in zip([*names, last], found, strict=True)
  } | {INPUT: onnx_mixed.as_bytes(given).transpose(0, 2, 3, 1)}


def oracle(network, bits, node, tensors):
  """What a layer should make of tensors as they lie: values, before codes."""
  net = network.net
  kind = bits.get(f"{node.name}.weight")
  if kind is None:
    kind = min(bits[net.site_of[name]] for name in node.inputs)
    kind = 8 if {bits[net.site_of[n]] for n in node.inputs} == {8} else 32
  inputs = []
  for name in node.inputs:
    x = tensors[name]
    if x.dtype == np.uint8:
      x = dequantized(network, name, x)
    elif kind == 8:
      x = dequantized(network, name, codes(network, name, x))
    inputs.append(np.asarray(x, np.float64))
  kernel = network.params.get(f"{node.name}_kernel")
  if kernel is not None and kind == 8:
    scale = np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / 127
    kernel = np.rint(kernel / scale) * scale
  if kernel is not None and kind == 4:
    kernel = four_bits(net, node, kernel)
  x = combine(node, inputs, kernel, -1e9 if node.op == "max_pool" else 0)
  if kernel is not None:
    x = x + network.params.get(f"{node.name}_bias", 0)
  return np.maximum(x, 0) if node.activation == "relu" else x


def four_bits(net, node, kernel):
  if node.op != "linear":
    scale = np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / 7
    return np.rint(kernel / scale) * scale
  height, width, channels = net.shapes[node.inputs[0]]
  rows = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
  rows = rows.reshape(len(kernel), -1)  # as the file has them
  block = 32 if len(rows) % 32 == 0 else len(rows)
  parts = rows.reshape(-1, block, rows.shape[1])
  scale = np.abs(parts).max(1, keepdims=True) / 7
  rows = (np.rint(parts / scale) * scale).reshape(rows.shape)
  back = rows.reshape(channels, height, width, -1).transpose(1, 2, 0, 3)
  return back.reshape(kernel.shape)


def step_of(network, tensor):
  if tensor == INPUT:
    return 1 / 255, (network.net.image_zero or (0,))[0]
  site = network.net.site_of[tensor]
  peak = network.ranges[site.removesuffix(".out")]
  signed = network.net.is_signed[site]
  return (peak / 127, 128) if signed else (peak / 255, 0)


def codes(network, tensor, values):
  step, zero = step_of(network, tensor)
  return np.clip(np.rint(values / step) + zero, 0, 255).astype(np.uint8)


def dequantized(network, tensor, codes_):
  step, zero = step_of(network, tensor)
  return (codes_.astype(np.float64) - zero) * step


@pytest.mark.skipif(
  onnx_fast.saturates(), reason="this processor's sums of int8 are cut off"
)
@pytest.mark.parametrize("name", ["mix", "grey", "mobilenet_v2", "resnet8"])
def test_every_layer_computes_what_its_kind_says(name):
  """Given what it read: floats to 1e-5, and codes but for a few ties."""
  net = FREE
  if name == "grey":  # images are padded with their mean colour
    net = dataclasses.replace(FREE, image_zero=(90, 90))
  elif name != "mix":
    net = dataclasses.replace(ZOO[name], fixes_adders=False)
  network = float_net(net)
  for bits in assignments(net, 12):
    tensors = tapped(network, bits, images(net, 2))
    for node in network.net.nodes:
      expected = oracle(network, bits, node, tensors)
      found = tensors[node.name]
      kind = mixed_layers.is_integer(network.net, bits, node)
      where = f"{node.name} {'int' if kind else 'float'} {bits}"
      if found.dtype == np.uint8:
        wanted = codes(network, node.name, expected)
        apart = np.abs(found.astype(int) - wanted)
        ties = 0.3 if node.op == "avg_pool" else 0.05  # means of 4 tie often
        assert apart.max() <= 1 and (apart > 0).mean() < ties, where
      elif kind and not node.is_output:  # codes, dequantized
        step, _ = step_of(network, node.name)
        wanted = codes(network, node.name, expected)
        wanted = dequantized(network, node.name, wanted)
        assert np.abs(found - wanted).max() < 1.01 * step, where
      else:
        scale = np.abs(expected).max()
        packed = node.op == "linear" and bits[f"{node.name}.weight"] < 32
        slack = 0.02 if packed else 1e-5  # that kernel rounds what it reads
        assert np.abs(found - expected).max() <= slack * scale, where


def test_the_runtime_computes_each_layer_in_its_kind(tmp_path):
  """It takes a float convolution between 8-bit tensors for an integer one."""
  net = dataclasses.replace(nets.resnet8(0.25, 16), fixes_adders=False)
  network = float_net(net)
  for i, bits in enumerate(assignments(net, 15, 1, (8, 32))):
    path = tmp_path / f"{i}.onnx"
    onnx_timing.session(
      onnx_mixed.build(network, bits), optimized_model_filepath=str(path)
    )
    graph = onnx.load(path).graph
    parts = onnx_timing.parts_of(graph, network.net)
    for node in graph.node:
      part = parts[node.name]
      if part.tensor or node.op_type in ("Relu", "Flatten"):
        continue
      kind = mixed_layers.is_integer(
        network.net, bits, network.net.node[part.layer]
      )
      computes = node.op_type.startswith(("QLinear", "MatMulNBits"))
      if node.op_type not in onnx_timing.MOVES:
        assert computes == kind, (node.name, node.op_type, bits)


def test_linear_layers_of_4_bits_are_multiplied_packed(tmp_path):
  net = dataclasses.replace(nets.mobilenet_v1(0.25, 32, 10), fixes_adders=False)
  network = float_net(net)
  float_ = precision.uniform(net, 32)
  path = tmp_path / "optimized.onnx"
  onnx_timing.session(
    onnx_mixed.build(network, float_ | {"classifier.weight": 4}),
    optimized_model_filepath=str(path),
  )
  assert "MatMulNBits" in {n.op_type for n in onnx.load(path).graph.node}


def test_conversions_are_told_by_tensor_and_layer():
  net = nets.Net(
    "chain",
    (4, 4, 2),
    (
      Node("a", "conv", (INPUT,), 2, activation="relu"),
      Node("b", "conv", ("a",), 2, activation="relu"),
      Node("pool", "avg_pool", ("b",), kernel=None),
      Node("fc", "linear", ("pool",), 2, bias=True, is_output=True),
    ),
    fixes_adders=False,
  )
  bits = precision.uniform(net, 8) | {"a.weight": 32, "fc.weight": 4}
  assert mixed_layers.conversions(net, bits) == [
    ("input", "a", False),
    ("a", "a", True),
    ("pool", "fc", False),
  ]
  assert mixed_layers.weight_bytes(net, bits) == 4 * 4 + 4 + 2
  assert not mixed_layers.conversions(net, precision.uniform(net, 8))


def test_layers_that_cannot_be_written_are_named():
  wrong = nets.build("convnext", resolution=32, classes=10)
  with pytest.raises(ValueError, match="cannot be measured"):
    mixed_layers.check_supported(wrong)
  black = dataclasses.replace(MIX, image_zero=(3, 4))
  with pytest.raises(ValueError, match="one number for all colours"):
    mixed_layers.check_supported(black)
