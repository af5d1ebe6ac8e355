"""L2 -> L1 tiling: the choice DORY's solver makes, ties included.

DORY (dory/Hardware_targets/PULP/Common/Tiler/) gives a constraint solver the
tile sizes as variables, L1 as the budget and an objective that rewards shapes
its kernels like. Here the channels and rows of a tile are enumerated, and the
best number of columns follows in closed form: the objective grows with them but
for its reward of even columns, which exceeds all else. Among equals the solver
keeps the lexicographically smallest (channels, rows, columns).

Channels are padded to bytes, and tiles of them are multiples of a byte's
channels.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwsim.pulp.geometry import (
  ADD,
  DEPTHWISE,
  Bits,
  Geometry,
  Number,
  rest,
)
from hwsim.pulp.l1_bytes import byte_channels, fits_whole, is_matrix, tile_bytes
from hwsim.pulp.search import first_best
from hwsim.pulp.target import Constants


class Tile(NamedTuple):
  """Sizes of the largest tile of a layer, in elements."""

  in_channels: Number
  out_channels: Number
  in_height: Number
  in_width: Number
  out_height: Number
  out_width: Number


class _Axis(NamedTuple):
  """Sizes that a tile may have along rows or columns, ascending.

  Number j < `parts` is `kernel + j stride` inputs and j + 1 outputs; the one
  after, if it `has_whole`, is the whole input with its padding.
  """

  parts: Number
  has_whole: Number
  kernel: Number
  stride: Number
  in_size: Number
  whole_out: Number

  def sizes(self, number):
    """Inputs and outputs of a candidate."""
    is_part = number < self.parts
    return (
      jnp.where(is_part, self.kernel + number * self.stride, self.in_size),
      jnp.where(is_part, number + 1, self.whole_out),
    )


def tile_l1(
  layer: Geometry, bits: Bits, target: Constants
) -> tuple[Tile, Number]:
  """The tile DORY moves between L2 and L1, and whether there is one.

  Args:
    layer: layer with channels padded to whole bytes, or an inner slice of it.
    bits: its precision.
    target: constants, of which L1 and its buffers count.
  """
  h, w = _axes(layer)
  sizes = tile_bytes(layer, bits, target)
  budget = target.l1_budget_bytes
  step = jnp.minimum(byte_channels(layer, bits), layer.out_channels)
  first, stride = _channels(layer, step)

  # Only channels that fit beside the fewest rows and columns are looked at
  least_h, least_w = h.sizes(jnp.zeros_like(budget)), _least_columns(w)
  x_hw = least_h[0] * least_w[0]
  per_n = sizes.x_n * x_hw + sizes.y * least_h[1] * least_w[1] + sizes.channel
  most_n = jnp.floor((budget - sizes.fixed - sizes.x * x_hw) / per_n)
  most_n = jnp.minimum(most_n, layer.out_channels)
  count_n = jnp.maximum(jnp.floor((most_n - first) / stride) + 1, 0)
  count_h = h.parts + h.has_whole
  has_columns = w.parts + w.has_whole > 0

  def decode(number):
    n_index = jnp.floor(number / count_h)
    h_in, h_out = h.sizes(number - n_index * count_h)
    n = first + n_index * stride
    return n, h_in, h_out, *_columns(layer, w, sizes, budget, n, h_in, h_out)

  def score(number):
    n, h_in, h_out, w_in, w_out = decode(number)
    size = sizes.of(n, h_in, h_out, w_in, w_out)
    value = _objective(layer, size, n, h_in, h_out, w_in, w_out)
    return jnp.where(size <= budget, value, -1)

  count = jnp.where(has_columns, count_n * count_h, 0)
  best, found = first_best(count, score)
  tile = _whole_outputs(layer, *decode(best))
  whole = fits_whole(layer, bits, target)
  everything = Tile(
    layer.in_channels,
    layer.out_channels,
    layer.in_height,
    layer.in_width,
    layer.out_height,
    layer.out_width,
  )
  chosen = jax.tree.map(lambda a, b: jnp.where(whole, a, b), everything, tile)
  return chosen, whole | found


def _channels(layer, step):
  """First tile size along channels, and the step to the next."""
  first = jnp.where(layer.op == ADD, layer.out_channels, step)
  return first, jnp.maximum(first, 1)


def _axes(layer) -> tuple[_Axis, _Axis]:
  """Sizes a tile may have along rows and columns.

  A tile of a convolution or a pool holds a whole number of strides. Padding
  counts only for a tile as large as the input, which must then come out even as
  well. An input smaller than the kernel is one tile (DORY has no solution for
  it). Depthwise layers have whole rows, and maps of at most 32 x 32 are whole.
  """
  is_pool = layer.op > ADD
  small = (layer.in_height <= 32) & (layer.in_width <= 32)
  is_depthwise = layer.op == DEPTHWISE

  def axis(size, out_size, kernel, padding, only_whole):
    padding = jnp.where(is_pool, 0, padding)
    strides = size - kernel + layer.stride
    is_even = (rest(strides, layer.stride) == 0) & (
      rest(strides + padding, layer.stride) == 0
    )
    whole_out = jnp.floor((strides + padding) / layer.stride)
    parts = jnp.ceil(jnp.maximum(size - kernel, 0) / layer.stride)
    single = only_whole | (kernel > size)
    return _Axis(
      jnp.where(single, 0, parts),
      jnp.where(single, True, is_even & (whole_out <= out_size)),
      kernel,
      layer.stride,
      size,
      jnp.where(single, out_size, whole_out),
    )

  return (
    axis(
      layer.in_height,
      layer.out_height,
      layer.kernel_height,
      layer.top + layer.bottom,
      is_depthwise & small,
    ),
    axis(
      layer.in_width,
      layer.out_width,
      layer.kernel_width,
      layer.left + layer.right,
      is_depthwise,
    ),
  )


def _least_columns(w):
  """Inputs and outputs of the narrowest tile."""
  return w.sizes(jnp.zeros_like(w.in_size))


def _columns(layer, w, sizes, budget, n, h_in, h_out):
  """Inputs and outputs of the best width for channels and rows, as arrays.

  The objective grows with the width, but convolutions like it even: more than
  anything that depends on the width, below `target.MOST_L1_BYTES`.
  """
  # The widest part of the input that fits
  x = (sizes.x + sizes.x_n * n) * h_in
  y = sizes.y * n * h_out
  left = budget - sizes.fixed - sizes.channel * n - x * (w.kernel - w.stride)
  most = jnp.clip(jnp.floor(left / (x * w.stride + y)), 0, w.parts)
  even = jnp.where(most > 1, 2 * jnp.floor(most / 2), most)
  part = jnp.where(is_matrix(layer), even, most)
  part_in = w.kernel + (part - 1) * w.stride

  # The whole input, if it fits: odd ones only where no part is even
  size = sizes.of(n, h_in, h_out, w.in_size, w.whole_out)
  is_even = rest(w.whole_out, 2) == 0
  likes = ~is_matrix(layer) | is_even | (part < 2)
  whole = w.has_whole & (size <= budget) & likes
  whole |= w.parts == 0
  none = (part == 0) & ~whole
  w_in = jnp.where(whole, w.in_size, part_in)
  w_out = jnp.where(whole, w.whole_out, part)

  # A width that does not fit stands for none
  least_in, least_out = _least_columns(w)
  return jnp.where(none, least_in, w_in), jnp.where(none, least_out, w_out)


def _objective(layer, size, n, h_in, h_out, w_in, w_out):
  """DORY's objective: the size of a tile, and rewards for its shape."""
  left_n = rest(layer.out_channels - 1, n)
  left_h = rest(layer.out_height - 1, h_out)
  left_w = rest(layer.out_width - 1, w_out)

  # What convolutions split well: channels in fours, rows in eights (one a
  # core), columns in pairs. The last tile counts a hundredth of that.
  conv = (
    size
    + 1_000_000 * rest(n - 1, 4)
    + 100_000 * n
    + 10_000 * left_n
    + 10_000 * rest(left_n, 4)
    + 2_000_000 * rest(h_out - 1, 8)
    + 20_000 * rest(left_h, 8)
    + 3_000_000 * rest(w_out - 1, 2)
    + 30_000 * rest(left_w, 2)
    + 1_000_000 * (h_out * w_out >= 16)
  )
  # Depthwise: channels in sixteens, rows in fours
  depthwise = (
    size
    + 10_000 * (n > 7)
    + 20_000 * rest(n - 1, 16)
    + 100 * (left_n > 7)
    + 10_000 * (rest(h_out, 4) == 0)
    + 1_000 * h_out
    + 100 * left_h
    + 100 * rest(left_h, 4)
  )
  # tiler_add.py and tiler_pool2d.py
  add = 1_000_000 * size + 10 * w_in + h_in
  pool = 10_000 * size + 100 * w_in + h_in + 1_000_000 * n
  return jnp.select(
    [is_matrix(layer), layer.op == DEPTHWISE, layer.op == ADD],
    [conv, depthwise, add],
    pool,
  )


def _whole_outputs(layer, n, h_in, h_out, w_in, w_out) -> Tile:
  """A tile as large as the input makes the whole output, padding included."""
  h_out = jnp.where(h_in >= layer.in_height, layer.out_height, h_out)
  w_out = jnp.where(w_in >= layer.in_width, layer.out_width, w_out)
  keeps_inputs = is_matrix(layer) | (layer.op == ADD)
  return Tile(
    jnp.where(keeps_inputs, layer.in_channels, n), n, h_in, w_in, h_out, w_out
  )
