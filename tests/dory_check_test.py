"""Files that DORY would misread: what the check finds."""

import dataclasses
import json

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install fbq[deploy]")

from dory_cases import written  # noqa: E402

from fbq.deploy import dory, dory_check, lowering  # noqa: E402
from hwsim.pulp import XPULP_V2  # noqa: E402


def edit(path, change):
  model = onnx.load(path / "network.onnx")
  change(model.graph)
  onnx.save(model, path / "network.onnx")


def first(graph, op, last=False):
  return [n for n in graph.node if n.op_type == op][-1 if last else 0]


def drop(node, name):
  kept = [a for a in node.attribute if a.name != name]
  del node.attribute[:]
  node.attribute.extend(kept)


def put(node, name, value):
  drop(node, name)
  node.attribute.append(onnx.helper.make_attribute(name, value))


def constant(graph, name, change):
  for tensor in graph.initializer:
    if tensor.name == name:
      value = change(onnx.numpy_helper.to_array(tensor))
      tensor.CopyFrom(onnx.numpy_helper.from_array(value, name))


def rename(graph, old, new):
  for node in graph.node:
    for names in (node.input, node.output):
      for i, name in enumerate(names):
        if name == old:
          names[i] = new


def bounds_as_inputs(graph):
  clip = first(graph, "Clip")
  drop(clip, "min")
  clip.input.append("low")


def swap(graph):
  node = first(graph, "Add", last=False)
  node = next(
    n for n in graph.node if "in1_mul" in [a.name for a in n.attribute]
  )
  node.input[0], node.input[1] = node.input[1], node.input[0]


def bias_and_requant(graph):
  conv = first(graph, "Conv")
  conv.input.append("a.bias")
  zeros = np.zeros(4, np.float32)
  graph.initializer.append(onnx.numpy_helper.from_array(zeros, "a.bias"))


DEFECTS = {
  "an operator of floats": (
    lambda g: g.node.append(onnx.helper.make_node("Relu", ["1"], ["99"])),
    "does not accept Relu",
  ),
  "names that are no numbers": (
    lambda g: rename(g, "1", "conv"),
    "output 'conv' is not a number",
  ),
  "bounds of a clip as inputs": (bounds_as_inputs, "Clip needs attributes"),
  "no out_bits": (
    lambda g: drop(first(g, "Clip"), "out_bits"),
    "Clip needs attributes",
  ),
  "a clip that kernels do not do": (
    lambda g: put(first(g, "Clip"), "max", 200.0),
    "kernels clip to",
  ),
  "a nameless global pool": (
    lambda g: setattr(first(g, "GlobalAveragePool"), "name", "pool"),
    "must contain 'Global'",
  ),
  "no weight_bits": (
    lambda g: drop(first(g, "Conv"), "weight_bits"),
    "has no weight_bits",
  ),
  "weights beyond their bits": (
    lambda g: put(first(g, "Conv"), "weight_bits", 2),
    "do not fit 2 bits",
  ),
  "weights with fractions": (
    lambda g: constant(g, "a.weight", lambda x: x + 0.5),
    "are not integers",
  ),
  "depthwise weights of 2 bits": (
    lambda g: [put(n, "weight_bits", 2) for n in g.node if n.op_type == "Conv"],
    "depthwise weights of 2 bits: packed by 2, read by 4",
  ),
  "groups": (lambda g: put(first(g, "Conv"), "group", 2), "2 groups"),
  "multipliers without pixels": (
    lambda g: constant(g, "a.mul", lambda x: x.reshape(-1)),
    "tensor '2' of node 'Mul_2' has no inferred shape",
  ),
  "a scalar multiplier after a convolution": (
    lambda g: constant(g, "a.mul", lambda x: x[0, 0, 0]),
    "Mul has shape (), expected (4, 1, 1)",
  ),
  "a divisor that is no power of two": (
    lambda g: constant(g, "a.div", lambda x: x * 3),
    "expected a power of two",
  ),
  "an adder without constants": (
    lambda g: [drop(n, "in2_mul") for n in g.node if len(n.attribute) > 10],
    "an addition needs attributes ['in2_mul']",
  ),
  "an adder's inputs swapped": (swap, "list that one first"),
  "a bias and a requantization": (bias_and_requant, "fold the bias into Add"),
  "a chain out of order": (
    lambda g: setattr(first(g, "Div"), "op_type", "Mul"),
    "expected Mul, Add, Div, Clip",
  ),
  "square weights not transposed": (
    lambda g: constant(g, "f.weight", lambda x: x.T.copy()),
    "out_layer9.txt is not what DORY makes of",
  ),
  "a mean's multiplier not divisible": (
    lambda g: constant(g, "pool.mul", lambda x: x + 1),
    "is no multiple of",
  ),
  "a scalar whose text is rounded": (
    lambda g: constant(g, "pool.mul", lambda x: np.float32(2**32)),
    "which is not 4294967296; make it a float64",
  ),
  "a multiplier that overflows": (
    lambda g: constant(g, "a.mul", lambda x: x * 2**14),
    "overflows 32 bits",
  ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_file_that_dory_would_misread_is_rejected(tmp_path, defect):
  change, message = DEFECTS[defect]
  written(tmp_path)
  edit(tmp_path, change)
  found = dory_check.problems(tmp_path)
  assert any(message in problem for problem in found), found


def test_golden_tensors_and_configuration_are_held_against_the_network(
  tmp_path,
):
  written(tmp_path)
  path = tmp_path / "out_layer3.txt"
  text = path.read_text()
  lines = text.split("\n")
  value = int(lines[5].rstrip(","))
  for damaged, message in (
    ("\n".join([*lines[:5], f"{value + 1},", *lines[6:]]), "1 of 48 integers"),
    ("\n".join(lines[:9]) + "\n", "has 8 integers, expected 48"),
    (text.replace(",", ""), "does not end in a comma"),
  ):
    path.write_text(damaged)
    (problem,) = dory_check.problems(tmp_path)
    assert problem.startswith("out_layer3.txt") and message in problem
  path.unlink()
  assert "out_layer3.txt" in dory_check.problems(tmp_path)[0]
  path.write_text(text)
  config = tmp_path / "config.json"
  given = json.loads(config.read_text())
  for changed_, message in (
    ({"BNRelu_bits": 16}, "BNRelu_bits is 16"),
    ({"onnx_file": "other.onnx"}, "other.onnx cannot be read"),
  ):
    config.write_text(json.dumps(given | changed_))
    assert message in dory_check.problems(tmp_path)[0]
  del given["code reserved space"]
  config.write_text(json.dumps(given))
  assert "lacks ['code reserved space']" in dory_check.problems(tmp_path)[0]


def test_sums_beyond_the_32_bits_that_a_kernel_clips_are_refused(tmp_path):
  network, _ = written(tmp_path, width=64)
  shifted = network.layers["a"] | {"shift": np.int32(0)}
  layers = {**network.layers, "a": shifted}
  with pytest.raises(lowering.UnsupportedError, match="raise the range of a"):
    dory.build(dataclasses.replace(network, layers=layers), XPULP_V2)

  edit(tmp_path, lambda g: constant(g, "a.div", lambda x: np.array(1.0)))
  (problem,) = dory_check.problems(tmp_path)
  assert problem.endswith("node 'Conv_1' overflows 32 bits")
