"""What a block format is priced at is what its packed tensors take, exactly.

Of a packed tensor 16 bits are the bias of its exponents, and up to 7 fill its
last byte: once for a tensor, like a layer's bias, and moved with no tile.
"""

import math
from fractions import Fraction

import dense_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq import block_formats, nets
from fbq.deploy.block_artifact import BlockNet
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.nets.node import layer_of
from fbq.quantizers import (
  bfp,
  bfp_codes,
  blocks,
  microscaling,
  microscaling_codes,
)
from fbq.schemes import published_formats
from fbq.schemes.block_float import BlockFloat, weight_axes, window_axes
from hwsim.bfp import Memories, block_format, movement_table, network_traffic

BIAS_BITS = 16
FORMATS = st.builds(
  block_format,
  st.integers(2, 25),
  st.integers(1, 8),
  st.integers(0, 50),
  st.booleans(),
  st.integers(0, 4),
)


def packed(shape, tile, form):
  return bfp_codes.storage_bits(
    shape, tile, form.element_bits, form.exponent_bits
  )


@settings(max_examples=200, deadline=None)
@given(
  FORMATS, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 99))
)
def test_an_activation_of_any_shape_is_priced_as_it_is_packed(form, shape):
  tile = blocks.tile_of(4, -1, window_axes(form.window, 4), form.block_size)
  price = math.prod(shape) * form.activation_bits(shape)
  assert price + BIAS_BITS == packed((1, *shape), tile, form)


@settings(max_examples=200, deadline=None)
@given(
  FORMATS,
  st.sampled_from(("conv", "depthwise", "linear")),
  st.integers(1, 60),
  st.integers(1, 9),
  st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_a_kernel_of_any_layer_is_priced_as_it_is_packed(
  form, op, channels, features, kernel
):
  node = Node("a", op, ("input",), features, kernel)
  shape = {
    "conv": (*kernel, channels, features),
    "depthwise": (*kernel, 1, channels),
    "linear": (5 * 5 * channels, features),
  }[op]
  layer = layer_of("n", node, [(5, 5, channels)])
  axis, over = weight_axes(node, len(shape), form.spans_kernel)
  tile = blocks.tile_of(len(shape), axis, over, form.block_size)
  price = math.prod(shape) * form.weight_bits(layer)
  assert price + BIAS_BITS == packed(shape, tile, form)


@settings(max_examples=100, deadline=None)
@given(
  st.sampled_from(tuple(microscaling.FORMATS)),
  st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 99)),
)
def test_microscaling_formats_are_priced_as_they_are_packed(name, shape):
  """Nothing comes on top but the one float32 of a tensor in NVFP4."""
  preset = microscaling.FORMATS[name]
  form, size = published_formats.priced(preset), preset.block_size
  head = 32 if name == "NVFP4" else 0
  stored = microscaling_codes.storage_bits((1, *shape), (1, 1, 1, size), preset)
  assert math.prod(shape) * form.activation_bits(shape) + head == stored

  height, width, channels = shape
  node = Node("a", "conv", ("input",), 5, (height, width))
  layer = layer_of("n", node, [(9, 9, channels)])
  kernel = (height, width, channels, 5)
  stored = microscaling_codes.storage_bits(kernel, (1, 1, size, 1), preset)
  assert math.prod(kernel) * form.weight_bits(layer) + head == stored


def test_packed_bytes_are_the_price_the_bias_and_the_last_byte():
  """The bytes themselves, where blocks are cut short and where they are not."""
  for shape, size in (((3, 2, 20), 16), ((3, 2, 20), 5), ((2, 2, 3), 48)):
    form = block_format(5, 3, size)
    x = jnp.ones((1, *shape))
    data = bfp_codes.pack(bfp_codes.encode(x, bfp.Format(*form[:3]), top=0))
    price = math.prod(shape) * form.activation_bits(shape)
    assert 0 <= 8 * len(data) - price - BIAS_BITS < 8


def flattened():
  """An image that a linear layer takes for channels."""
  nodes = (
    Node("a", "linear", ("input",), 20, activation="relu"),
    Node("fc", "linear", ("a",), 3, is_output=True),
  )
  return Net("flattened", (6, 6, 2), nodes)


def branches():
  """Parts of 10 and 17 channels that are concatenated in place."""
  nodes = (
    Node("a", "conv", ("input",), 10, (3, 3), activation="relu"),
    Node("b", "conv", ("input",), 17, (3, 3), activation="relu"),
    Node("both", "concat", ("a", "b")),
    Node("down", "max_pool", ("both",), kernel=(2, 2), stride=2),
    Node("fc", "linear", ("down",), 3, is_output=True),
  )
  return Net("branches", (6, 6, 2), nodes)


NETS = {
  "branches": branches,
  "flattened": flattened,
  "attention": lambda: nets.build(
    "mobilenet_v2", width=0.25, resolution=32, attention="adaptive"
  ),
  "tokens": dense_cases.attention,
  "pyramid": dense_cases.pyramid,
  "vgg": lambda: nets.build("vgg9", width=0.125, resolution=32),
}


@pytest.mark.parametrize("name", NETS)
def test_every_tensor_of_a_network_is_priced_as_its_file_has_it(name):
  """Concatenations, attention along channels and flattened tensors too."""
  net = NETS[name]()
  form = block_format(4, 5, 24)
  rows = block_formats.to_array(net, block_formats.uniform(net, form))
  tops = np.zeros(len(rows), np.int32)
  file = BlockNet(net, BlockFloat((24,)), rows, tops, {}, {})
  work = net.workload
  x = jnp.zeros((1, *net.input_shape))
  params = jax.eval_shape(
    lambda: Model(net).init(jax.random.key(0), x, train=False)
  )["params"]
  for i, (node, layer) in enumerate(zip(net.nodes, work.layers, strict=True)):
    shapes = zip(node.inputs, work.input_shapes(i), strict=True)
    if not node.is_output:
      shapes = [*shapes, (node.name, work.output_shape(i))]
    for tensor, shape in shapes:
      price = math.prod(shape) * form.activation_bits(shape)
      bytes_ = file.activation_bytes(tensor)
      assert bytes_ == math.ceil((price + BIAS_BITS) / 8), tensor
    if layer.has_weights:
      shape = params[f"{node.name}_kernel"].shape
      axis, over = weight_axes(node, len(shape))
      tile = blocks.tile_of(len(shape), axis, over, 24)
      price = math.prod(shape) * form.weight_bits(layer)
      assert price + BIAS_BITS == packed(shape, tile, form), node.name


def test_what_moves_once_costs_what_is_stored():
  """Through a memory that holds all; outputs are read and written."""
  net = Net(
    "small",
    (6, 6, 5),
    (
      Node("a", "conv", ("input",), 7, (3, 3), activation="relu"),
      Node("b", "depthwise", ("a",), 0, (2, 2), 2, activation="relu"),
      Node("fc", "linear", ("b",), 3, is_output=True),
    ),
  )
  form = block_format(3, 5, 4)
  cut = lambda channels: -(-channels // 4) * 5
  image, a, b = (n * (3 * c + cut(c)) for n, c in ((36, 5), (16, 7), (4, 7)))
  kernels = (
    7 * (9 * 5 * 3 + cut(5)),  # 9 x 5 weights and two blocks for each output
    4 * 7 * 3 + cut(7),
    3 * (28 * 3 + cut(28)),
  )
  stored = (
    image + kernels[0] + 2 * a,
    a + kernels[1] + 2 * b,
    b + kernels[2] + 2 * 3 * 32,
  )
  formats = block_formats.uniform(net, form)
  memories = Memories(10**9)
  for bits, row in zip(
    stored, network_traffic(net.workload, formats, memories), strict=True
  ):
    assert row.dram_bits == bits
  table = movement_table(net.workload, [form], 10**9)
  moved = [table.bits(units[0, 0, 0]) for units in table.units]
  assert moved == list(map(Fraction, stored))
