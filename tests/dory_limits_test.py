"""Layers that DORY or its kernels would get wrong: refused, and no others."""

import dataclasses

import numpy as np
import pytest
from deploy_cases import CONV, variables

pytest.importorskip("onnx", reason="needs onnx: pip install fbq[deploy]")

from dory_cases import NET, changed, refused  # noqa: E402

from configs import digits_free_bits  # noqa: E402
from fbq import nets, precision  # noqa: E402
from fbq.deploy import dory, dory_limits, lowering  # noqa: E402
from fbq.nets import Node  # noqa: E402
from fbq.nets.graph import INPUT, Net  # noqa: E402
from hwsim.pulp import XPULP_V2, XPULPNN_V1  # noqa: E402
from hwsim.workload import Layer  # noqa: E402


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


@pytest.mark.parametrize("name", digits_free_bits.NETS)
def test_the_networks_of_the_demo_have_maps_that_kernels_pad_right(name):
  net = nets.build(name, **digits_free_bits.NETS[name])
  for layer in net.workload.layers:
    if layer.op == "depthwise":
      assert not list(dory_limits.right_border(layer)), layer.name


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
