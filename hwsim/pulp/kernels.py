"""Cycles of the PULP-NN kernels on one tile: closed forms, eight cores.

Every kernel is written for one tile and returns the cycles of each core,
float64[8], without the closing barrier. The coefficients are arrays indexed by
bits, so that layer, tile, bits and library may all be traced. Their values and
provenance: `kernels.json`; formulas: the comments here, the work split of
pulp-nn-mixed's convolution template.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from hwsim.pulp.coefficients import (
  CONV_COLUMNS,
  DEPTHWISE_COLUMNS,
  LINEAR_COLUMNS,
  POOL_COLUMNS,
  Kernels,
)
from hwsim.pulp.geometry import (
  ADD,
  AVG_POOL,
  CONV,
  DEPTHWISE,
  LINEAR,
  Bits,
  Geometry,
  Number,
  channel_step,
  rest,
)

CORES = 8


class Span(NamedTuple):
  """A tile along rows or columns.

  `before` and `after` are the zeros that the kernel adds. A first tile holds
  rows its padding replaces, and a last one may be told of padding that its
  stride never reaches: DORY passes both.
  """

  in_size: Number
  out_size: Number
  before: Number
  after: Number


def core_cycles(
  layer: Geometry,
  channels: Number,
  rows: Span,
  columns: Span,
  bits: Bits,
  kernels: Kernels,
) -> Number:
  """Cycles of each core in one kernel call on a tile, float64[8].

  A core without work counts as one that calls the kernel and returns. With
  32-bit outputs a convolution is costed as one with 8-bit outputs (not
  measured).

  Args:
    layer: layer whose operator, input channels, kernel and stride count.
    channels: output channels of the tile.
    rows, columns: the tile's rows and columns.
    bits: precision of the layer.
    kernels: coefficients of the libraries.
  """
  a, w, o = (_position(width) for width in bits)
  conv = _named(CONV_COLUMNS, kernels.conv[a, w, o])
  lanes = kernels.zero_lanes[a, w]
  depthwise = _named(DEPTHWISE_COLUMNS, kernels.depthwise[a, w, o])
  linear = _named(LINEAR_COLUMNS, kernels.linear[a, w])
  requant = jnp.where(bits.output == 32, 0.0, kernels.requant)
  element, call = kernels.add[jnp.where(a < 2, 2, 0), o]
  pool = _named(POOL_COLUMNS, kernels.pool)
  pool["max_compare_word"] = kernels.max_compare_word[a]

  # All are worked out; the operator, which may be traced, picks one.
  return jnp.select(
    [layer.op == op for op in (CONV, DEPTHWISE, LINEAR, ADD, AVG_POOL)],
    [
      _conv(layer, channels, rows, columns, conv, bits.input, lanes),
      _depthwise(channels, rows, columns, depthwise),
      linear["base"]
      + _shares(channels)
      * (
        linear["neuron"] + linear["per16ci"] * layer.in_channels / 16 + requant
      ),
      call + _shares(rows.out_size) * (element * columns.out_size * channels),
      _avg_pool(layer, channels, rows, columns, pool, bits.input),
    ],
    _max_pool(layer, channels, rows, columns, pool, bits.input),
  )


def _position(bits):
  """Place of a width in the coefficients; 32 bits cost what 8 cost."""
  return jnp.where(bits < 4, 0, jnp.where(bits < 8, 1, 2))


def _named(columns, row):
  return dict(zip(columns, jnp.unstack(row), strict=True))


def _conv(layer, n, rows, columns, costs, in_bits, lanes) -> Number:
  """im2col of two pixels, then blocks of 4 channels x 2 pixels.

  Per core, with K = channels x kernel area values per patch:
    base + patches + pairs (pair + n//4 block + n%4 single)
         + odd (odd_pixel + n odd_channel)
  An odd last pixel of a core's row runs a scalar loop over all n channels. Only
  pulp-nn's pointwise kernels read their input without patches.
  """
  # Each core copies the patches of its own outputs. Taps on padding are not
  # copied but set to zero.
  row_span, column_span = _split(rows.out_size, columns.out_size)
  height = row_span[1] - row_span[0]
  width = column_span[1] - column_span[0]
  taps_h = _taps(row_span, rows, layer.kernel_height, layer.stride)
  taps_w = _taps(column_span, columns, layer.kernel_width, layer.stride)
  inner_h = _inner(row_span, rows)
  inner_w = _inner(column_span, columns)

  # im2col. Patches inside of the tile are copied a kernel row at a time; at the
  # borders every tap is copied or zeroed alone.
  patch = layer.in_channels * layer.area
  inner = inner_h * inner_w
  copied = taps_h * taps_w - inner * layer.area
  zeros = height * width * layer.area - taps_h * taps_w
  words = (inner * patch + copied * layer.in_channels) * in_bits / 32
  zero_words = zeros * layer.in_channels * lanes / 32
  patches = (
    costs["px_int"] * inner
    + costs["seg_int"] * layer.kernel_height * inner
    + costs["seg_border_copy"] * copied
    + costs["seg_border_zero"] * zeros
    + costs["copy_word"] * words
    + costs["zero_word"] * zero_words
  )
  patches *= jnp.where(layer.area == 1, costs["pointwise_patches"], 1)

  # The inner loop takes `k_per_iter` values a trip; the values left over take a
  # slower loop, with coefficients of its own.
  trips = jnp.floor(patch / costs["k_per_iter"])
  left = patch - trips * costs["k_per_iter"]
  block = (
    costs["block4x2"]
    + costs["inner_iter"] * trips
    + jnp.where(left > 0, costs["leftK_block_flag"], 0)
    + costs["leftK_elem_block"] * left
  )
  odd_channel = (
    costs["odd_ch"]
    + costs["odd_ch_iter"] * trips
    + costs["odd_ch_leftK"] * left
  )
  single = (
    costs["chleft"]
    + costs["chleft_iter"] * trips
    + costs["chleft_leftK"] * left
  )
  # Where it was not measured: see leftover_channels in the JSON.
  single = jnp.where(costs["chleft"] == 0, 2 * odd_channel, single)

  # Blocks of 4 channels first, then single channels, for every two pixels.
  blocks = jnp.floor(n / 4)
  pair = costs["pair"] + blocks * block + (n - 4 * blocks) * single
  pairs = jnp.floor(width / 2)
  return (
    costs["base"]
    + patches
    + height * pairs * pair
    + height * (width - 2 * pairs) * (costs["odd"] + n * odd_channel)
  )


def _shares(count) -> Number:
  """How many of `count` things in equal chunks each core has, [8]."""
  chunk = jnp.ceil(count / CORES)
  return jnp.clip(count - chunk * jnp.arange(CORES), 0, chunk)


def _split(height, width):
  """First and end output row, and column, of each core: two pairs of [8].

  Eight chunks of rows; if the rows are no multiple of eight, four chunks of
  rows times two halves of the columns (pulp_nn_conv_x_y_z.t:84-121).
  """
  core = np.arange(CORES)
  halves = (rest(height, CORES) != 0) & (width > 1)
  chunk = jnp.ceil(height / jnp.where(halves, CORES // 2, CORES))
  row_start = jnp.minimum(jnp.where(halves, core // 2, core) * chunk, height)
  row_end = jnp.minimum(row_start + chunk, height)
  middle = jnp.floor(width / 2)
  column_start = jnp.where(halves & (core % 2 == 1), middle, 0)
  column_end = jnp.where(halves & (core % 2 == 0), middle, width)
  return (row_start, row_end), (column_start, column_end)


def _taps(span, tile, kernel, stride):
  """Kernel taps of all positions of a span that lie inside of the tile, [8].

  Position r reads inputs r stride - before to that + kernel - 1. Of its
  `kernel` taps, min(kernel, relu(before - r stride)) are in front of the tile
  and as many behind it, so that the sum over r is that of four ramps.
  """
  start, end = span
  behind = tile.in_size + tile.before - kernel
  kernels = kernel * np.array([[0.0], [1.0]])

  def falling(top):  # sum of relu(top - r stride)
    stop = jnp.clip(jnp.ceil(top / stride), start, end)
    count = stop - start
    return count * (top - stride * (start + stop - 1) / 2)

  def rising(foot):  # sum of relu(r stride - foot)
    first = jnp.clip(jnp.floor(foot / stride) + 1, start, end)
    count = end - first
    return count * (stride * (first + end - 1) / 2 - foot)

  in_front, all_behind = (
    falling(tile.before - kernels),
    rising(behind + kernels),
  )
  outside = in_front[0] - in_front[1] + all_behind[0] - all_behind[1]
  return kernel * (end - start) - outside


def _inner(span, tile):
  """Positions of a span on the fast path, [8].

  The kernel takes it where `before` <= r < out_size - `after`, whether or not
  the rest touches padding.
  """
  start, end = span
  low = jnp.maximum(start, tile.before)
  return jnp.maximum(jnp.minimum(end, tile.out_size - tile.after) - low, 0)


def _depthwise(n, rows, columns, costs) -> Number:
  """Channels in groups of a byte over cores; one im2col column at a time."""
  groups = jnp.ceil(n / costs["channels_per_group"])
  column = (
    costs["col"]
    + costs["row"] * rows.in_size
    + costs["padrow"] * (rows.before + rows.after)
    + costs["out"] * rows.out_size
  )
  group = costs["group"] + columns.out_size * column
  return costs["base"] + _shares(groups) * group


def _avg_pool(layer, n, rows, columns, costs, in_bits) -> Number:
  """Sums byte by byte. Not measured."""
  lanes = channel_step(in_bits)  # channels of one byte
  per_byte = (
    costs["avg_byte"]
    + costs["avg_row"] * layer.kernel_height
    + layer.area * (costs["avg_tap_byte"] + lanes * costs["avg_tap_channel"])
    + lanes * costs["avg_channel"]
  )
  pixels = _shares(rows.out_size) * columns.out_size
  n_bytes = jnp.ceil(n / lanes)
  return costs["base"] + pixels * (costs["pixel"] + n_bytes * per_byte)


def _max_pool(layer, n, rows, columns, costs, in_bits) -> Number:
  """Maxima of rows, and then of columns. Not measured."""
  pixels = _shares(rows.out_size) * columns.out_size
  in_pixels = _shares(rows.in_size) * columns.out_size
  compare = costs["max_compare_word"] / 4
  along_x = costs["max_copy_byte"] + compare * (layer.kernel_width - 1)
  along_y = costs["max_copy_byte"] + compare * (layer.kernel_height - 1)
  n_bytes = jnp.ceil(n / channel_step(in_bits))
  return (
    costs["base"]
    + costs["pixel"] * (in_pixels + pixels)
    + n_bytes * (in_pixels * along_x + pixels * along_y)
  )
