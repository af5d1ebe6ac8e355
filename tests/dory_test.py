"""Files for DORY: the contract, and everything that it would misread."""

import dataclasses
import json

import numpy as np
import pytest
from deploy_cases import (
  CONV,
  ZOO,
  assignments,
  images,
  integers,
  variables,
)

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install fbq[deploy]")

from fbq import nets, precision  # noqa: E402
from fbq.deploy import (  # noqa: E402
  dory,
  dory_check,
  dory_limits,
  integer,
  lowering,
)
from fbq.nets import Node  # noqa: E402
from fbq.nets.graph import INPUT, Net  # noqa: E402
from hwsim.pulp import XPULP_V2, XPULPNN_V1  # noqa: E402
from hwsim.workload import Layer  # noqa: E402

# The image feeds 8-bit weights; a square linear layer; both kinds of adders.
NET = Net(
  "dory",
  (6, 6, 2),
  (
    Node("a", "conv", (INPUT,), 4, (3, 3), 1, (1, 1, 0, 1), **CONV),
    Node("half", "max_pool", ("a",), kernel=(2, 2), stride=2, padding=1),
    Node("b", "depthwise", ("half",), 0, (3, 3), 1, 1, **CONV),
    Node("c", "conv", ("b",), 4, (1, 1), norm=True),
    Node("sum", "add", ("c", "half"), activation="relu"),
    Node("d", "conv", ("sum",), 4, (1, 1), norm=True),
    Node("more", "add", ("d", "sum")),
    Node("e", "conv", ("more",), 16, (2, 2), **CONV),
    Node("pool", "avg_pool", ("e",), kernel=None),
    Node("f", "linear", ("pool",), 16, **CONV),
    Node("fc", "linear", ("f",), 3, bias=True, is_output=True),
  ),
)


def written(tmp_path, net=NET, bits=None, width=32, target=XPULP_V2):
  bits = bits or precision.uniform(net, 8) | {"e.weight": 2, "e.out": 4}
  network = lowering.lower(net, variables(net), bits, width)
  image = np.asarray(integer.quantize_images(images(net)))[2]
  dory.write(network, target, tmp_path, image)
  return network, image


@pytest.mark.parametrize("width", [32, 64])
def test_what_is_written_is_what_dory_reads(tmp_path, width):
  for i, bits in enumerate([precision.uniform(NET, 8), *assignments(NET, 3)]):
    bits = dict(bits) | {"a.weight": 8, "b.weight": max(4, bits["b.weight"])}
    network, image = written(tmp_path / str(i), NET, bits, width)
    assert dory_check.problems(tmp_path / str(i)) == []
    expected, _ = integers(network, image[None])
    for j, node in enumerate(NET.nodes):
      text = (tmp_path / str(i) / f"out_layer{j}.txt").read_text().split("\n")
      assert text[0].startswith("#") and text[-1] == ""
      found = [int(line.rstrip(",")) for line in text[1:-1]]
      assert found == expected[node.name].ravel().tolist()
    config = json.loads((tmp_path / str(i) / "config.json").read_text())
    assert config["BNRelu_bits"] == width and not config["input_signed"]
    assert config["code reserved space"] == XPULP_V2.code_reserved_bytes


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet8", "vgg9"])
def test_networks_pass_the_check(tmp_path, name):
  net = (
    ZOO[name]
    if name != "mobilenet_v2"
    else nets.mobilenet_v2(0.1, 48, 10, 2, stem_stride=1)
  )
  bits = precision.uniform(net, 4)
  bits |= {f"{net.nodes[0].name}.weight": 8}
  written(tmp_path, net, bits)
  assert dory_check.problems(tmp_path) == []


# ---- refusals ----------------------------------------------------------------


def refused(net, bits, target=XPULP_V2):
  network = lowering.lower(net, variables(net), bits)
  with pytest.raises(lowering.UnsupportedError) as error:
    dory.build(network, target)
  return str(error.value)


def changed(name, **fields):
  nodes = [
    dataclasses.replace(node, **fields) if node.name == name else node
    for node in NET.nodes
  ]
  return Net("changed", NET.input_shape, tuple(nodes))


def test_channels_that_do_not_fill_bytes_are_refused():
  bits = precision.uniform(NET, 8)
  assert (
    "'a' (conv) packs 4 channels of 2 bits into a byte and has 2; set "
    in (refused(NET, bits | {"a.weight": 2}))
  )
  odd = changed("e", features=7)
  message = refused(odd, precision.uniform(odd, 8) | {"e.out": 4})
  assert "'e' (conv) packs 2 channels of 4 bits" in message
  assert "set e.out to 8 bits" in message
  tail = Node("fc", "linear", ("b",), 3, bias=True, is_output=True)
  nodes = (dataclasses.replace(NET.nodes[0], features=3), *NET.nodes[1:3], tail)
  odd = Net("odd", NET.input_shape, nodes)
  message = refused(odd, precision.uniform(odd, 8) | {"b.weight": 4})
  assert "'b' (depthwise) packs 2 channels of 4 bits" in message


def test_layers_that_dory_or_a_kernel_misreads_are_refused():
  bits = precision.uniform(NET, 8)
  pool = Node("pool", "avg_pool", ("e",), kernel=(3, 3), padding=1)
  nodes = tuple(pool if n.name == "pool" else n for n in NET.nodes[:9])
  tail = Node("fc", "linear", ("pool",), 3, bias=True, is_output=True)
  net = Net("padded", NET.input_shape, (*nodes, tail))
  assert "'pool' (avg_pool) is padded" in refused(
    net, precision.uniform(net, 8)
  )
  twice = changed("more", inputs=("sum", "sum"))
  assert "'more' (add) must add the outputs of two" in refused(
    twice, precision.uniform(twice, 8)
  )
  thin = Net(
    "thin",
    (4, 4, 1),
    (
      Node("a", "conv", (INPUT,), 4, (1, 1), **CONV),
      Node("fc", "linear", ("a",), 3, bias=True, is_output=True),
    ),
  )
  message = refused(thin, precision.uniform(thin, 8))
  assert "'a' (conv) has no more weights than output channels" in message
  assert bits  # NET itself is taken
  dory.build(lowering.lower(NET, variables(NET), bits), XPULP_V2)


def depthwise_as_on_pulp(x, weight, stride, left, right):
  """[H, out]: what pulp-nn-mixed makes of rows of pixels, in flat memory.

  A row at a time, kernels of one row; what lies beyond a row is the next.
  """
  height, width = x.shape
  (size,) = weight.shape
  memory = np.concatenate([np.zeros(left), x.ravel(), np.full(16, 7)])
  out_width = (width + left + right - size) // stride + 1
  out = np.zeros(height * out_width + 2)

  def put(column, zeros_before, zeros_after):
    for row in range(height):
      start = left + row * width + column * stride - left + zeros_before
      window = [0] * zeros_before + [*memory[start : start + size]]
      window = window[:size][: size - zeros_after] + [0] * zeros_after
      out[row * out_width + column] = np.dot(window, weight)

  column = 0
  while column * stride < left:
    put(column, left - column * stride, 0)
    column += 1
  put(column, 0, 0)
  column += 1
  while column * stride < out_width * stride - right:
    put(column, 0, 0)
    column += 1
  while column < out_width:
    put(column, 0, 1 + (column - out_width) * stride + right)
    column += 1
  return out[:-2].reshape(height, out_width), out[-2:]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
  "size, left, right", [(3, 1, 1), (3, 0, 1), (3, 1, 0), (5, 2, 2), (4, 1, 2)]
)
def test_a_depthwise_layer_is_refused_exactly_where_its_kernel_is_wrong(
  size, left, right, stride
):
  random = np.random.default_rng(0)
  for width in range(max(1, size - left - right), 11):
    x, weight = random.integers(1, 9, (3, width)), random.integers(1, 9, size)
    padded = np.pad(x, ((0, 0), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, 1)
    found, spilt = depthwise_as_on_pulp(x, weight, stride, left, right)
    is_right = np.array_equal(found, windows[:, ::stride] @ weight)
    layer = Layer(
      *("dw", "depthwise", 4, 4, 3, width, 1, size, stride),
      (0, 0, left, right),
    )
    problems = list(dory_limits.right_border(layer))
    assert (not problems) == (is_right and not spilt.any()), width


def narrow(channels=4, **fields):
  """A depthwise layer and logits, on maps of as many pixels as are asked."""
  size = fields.pop("size", 4)
  dw = dict(kernel=(3, 3), padding=1) | CONV | fields
  return Net(
    "narrow",
    (size, size, channels),
    (
      Node("dw", "depthwise", (INPUT,), 0, **dw),
      Node("fc", "linear", ("dw",), 3, bias=True, is_output=True),
    ),
  )


def test_a_depthwise_layer_on_maps_of_two_pixels_is_refused():
  net = narrow(size=2)
  message = refused(net, precision.uniform(net, 8))
  assert "'dw' (depthwise) is padded at the right and 2 pixels wide" in message


def test_a_kernel_larger_than_its_map_is_refused_where_l1_is_too_small():
  """Weights of 64 times 2,304 bytes do not fit the 35,000 of L1."""
  conv = Node("conv", "conv", (INPUT,), 64, (3, 3), 1, 1, **CONV)
  fc = Node("fc", "linear", ("conv",), 3, bias=True, is_output=True)
  for size, channels in ((2, 8), (3, 256)):
    net = Net("map", (size, size, channels), (conv, fc))
    bits = precision.uniform(net, 8)
    dory.build(lowering.lower(net, variables(net), bits), XPULP_V2)
  net = Net("map", (2, 2, 256), (conv, fc))
  message = refused(net, precision.uniform(net, 8))
  assert "'conv' (conv) has a 3x3 kernel on a map of 2x2" in message


def test_sums_beyond_the_32_bits_that_a_kernel_clips_are_refused(tmp_path):
  network, _ = written(tmp_path, width=64)
  shifted = network.layers["a"] | {"shift": np.int32(0)}
  layers = {**network.layers, "a": shifted}
  with pytest.raises(lowering.UnsupportedError, match="raise the range of a"):
    dory.build(dataclasses.replace(network, layers=layers), XPULP_V2)

  edit(tmp_path, lambda g: constant(g, "a.div", lambda x: np.array(1.0)))
  (problem,) = dory_check.problems(tmp_path)
  assert problem.endswith("node 'Conv_1' overflows 32 bits")


def test_linear_layers_that_a_kernel_gets_wrong_are_refused_for_its_target():
  def problem(inputs, outputs, bits, target):
    layer = Layer("fc", "linear", inputs, outputs)
    return "".join(dory_limits.linear_sizes(layer, bits, target))

  # XpulpNN: eight right outputs, rows of whole registers, of logits too
  for inputs, outputs, bits in (
    (8, 8, (8, 8, 8)),
    (16, 8, (8, 4, 8)),
    (8, 100, (8, 8, 32)),
  ):
    assert problem(inputs, outputs, bits, XPULPNN_V1) == ""
  message = problem(8, 16, (8, 8, 4), XPULPNN_V1)
  assert message.startswith("has 16 quantized outputs")
  for inputs, bits, lanes in ((6, (8, 8, 32), 4), (12, (8, 4, 8), 8)):
    message = problem(inputs, 8, bits, XPULPNN_V1)
    assert f"has {inputs} inputs, which XpulpNN's kernel reads by {lanes};" in (
      message
    )

  # XpulpV2: whole registers below 8 bits, two outputs at a time on every core
  assert "reads by 16" in problem(8, 16, (8, 2, 8), XPULP_V2)
  for outputs in (16, 12, 10, 26, 32):
    assert problem(6, outputs, (8, 8, 8), XPULP_V2) == ""
  for outputs in (8, 2, 9, 15, 24, 25):
    message = problem(6, outputs, (8, 8, 8), XPULP_V2)
    assert "an odd number for a core" in message
    assert problem(6, outputs, (8, 8, 32), XPULP_V2) == ""


def test_a_linear_layer_is_refused_by_its_name():
  sizes = changed("f", features=8)
  message = refused(sizes, precision.uniform(sizes, 8))
  assert "layer 'f' (linear) has 8 quantized outputs, an odd number" in message


def test_a_depthwise_layer_of_less_than_four_weights_is_refused():
  net = narrow(kernel=(1, 3), padding=(0, 0, 1, 1))
  message = refused(net, precision.uniform(net, 8))
  assert "'dw' (depthwise) has 3 weights for a channel" in message


def test_an_adder_comes_right_after_what_it_adds():
  nodes = (
    Node("a", "conv", (INPUT,), 4, norm=True),
    Node("b", "conv", ("a",), 4, norm=True),
    Node("c", "conv", ("b",), 4, norm=True),
    Node("sum", "add", ("a", "b")),
    Node("more", "add", ("c", "sum")),
    Node("pool", "avg_pool", ("more",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  )
  net = Net("late", (3, 3, 4), nodes)
  network = lowering.lower(net, variables(net), precision.uniform(net, 8))
  ((name, why),) = dory_limits.problems(network, XPULP_V2)
  assert name == "sum" and "comes after 'c', which it does not add" in why


def test_depthwise_weights_that_dory_packs_otherwise_are_refused():
  net = narrow()
  bits = precision.uniform(net, 8) | {"dw.weight": 2}
  assert "set dw.weight to 4 or 8 bits" in refused(net, bits)

  # What else is wrong is told at once
  net = narrow(size=2)
  network = lowering.lower(net, variables(net), bits)
  problems = dory_limits.problems(network, XPULP_V2)
  assert [name for name, _ in problems] == ["dw", "dw"]


# ---- what the validator finds ------------------------------------------------


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
