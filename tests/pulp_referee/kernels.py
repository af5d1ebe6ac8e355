"""Cycles of the PULP-NN kernels on one tile: closed forms, eight cores.

Every function is written over `T` tiles at once (the border classes of one
layer) and returns float64[T, 8]: the cycles of each core, without the closing
barrier. Coefficients and their provenance: `kernels.json`; formulas: the
comments here, the work split of pulp-nn-mixed's convolution template.
Bits select a row of coefficients, so they are scalars.
"""

import functools
import json
import pathlib
from typing import NamedTuple

import numpy as np

import hwsim.pulp
from hwsim.pulp.kernels import coefficients
from hwsim.pulp.target import Target
from hwsim.workload import Layer

OPS = ("conv", "depthwise", "linear", "add", "avg_pool", "max_pool")


class Tiles(NamedTuple):
  """Sizes of `T` tiles as a kernel receives them; each an int64[T].

  `top` to `right` are the rows or columns of zeros the kernel adds. A first
  tile holds rows its padding replaces, and a last one may be told of padding
  that its stride never reaches: DORY passes both.
  """

  out_channels: np.ndarray
  in_height: np.ndarray
  in_width: np.ndarray
  out_height: np.ndarray
  out_width: np.ndarray
  top: np.ndarray
  bottom: np.ndarray
  left: np.ndarray
  right: np.ndarray


def kernel_cycles(
  layer: Layer,
  tiles: Tiles,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
) -> np.ndarray:
  """Cycles of one kernel call per tile, float64[T]: of its slowest core."""
  return core_cycles(layer, tiles, in_bits, weight_bits, out_bits, target).max(
    axis=1
  )


def core_cycles(
  layer: Layer,
  tiles: Tiles,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
) -> np.ndarray:
  """Cycles of each core in one kernel call per tile, float64[T, 8].

  A core without work counts as one that calls the kernel and returns.

  Args:
    layer: layer whose operator, input channels, kernel and stride count.
    tiles: the `T` tiles.
    in_bits, weight_bits: 2, 4 or 8.
    out_bits: 2, 4, 8 or 32. A convolution with 32-bit outputs is costed as one
      with 8-bit outputs (not measured).
    target: target whose kernel libraries are called.
  """
  # No kernel with 32-bit outputs was measured.
  shown = 8 if out_bits == 32 else out_bits
  key = f"a{in_bits}w{weight_bits}"

  if layer.op == "conv":
    costs = coefficients(
      "conv", f"{target.conv_library}|{key}o{shown}", target.timing
    )

    # The patch buffer has bytes in XpulpV2, and values of the wider of the two
    # precisions in the others: that sets how many words of zeros are written.
    has_bytes = target.conv_library in ("XpulpV2", "pulp-nn")
    lanes = 8 if has_bytes else max(in_bits, weight_bits)
    return _conv(layer, tiles, costs, in_bits, lanes)

  if layer.op == "depthwise":
    costs = coefficients(
      "depthwise", f"{target.other_library}|{key}o{shown}", target.timing
    )
    return _depthwise(tiles, costs)

  if layer.op == "linear":
    costs = coefficients(
      "linear", f"{target.other_library}|{key}", target.timing
    )
    requant = 0 if out_bits == 32 else _tables()["linear"]["requant"]
    return _linear(layer, tiles, costs, requant)

  if layer.op == "add":
    return _add(tiles, below_8=2 * (in_bits < 8))
  return _pool(layer, tiles, in_bits)


def _conv(layer, tiles, costs, in_bits, lanes) -> np.ndarray:
  """im2col of two pixels, then blocks of 4 channels x 2 pixels.

  Per core, with K = channels x kernel area values per patch:
    base + patches + pairs (pair + n//4 block + n%4 single) + odd n odd_channel
  An odd last pixel of a core's row runs a scalar loop over all n channels.
  """
  # Each core copies the patches of its own outputs. Taps on padding are not
  # copied but set to zero.
  kernel, stride = layer.kernel_height, layer.stride
  rows, columns, row_span, column_span = _split(tiles)
  taps_h, inner_h = _taps(
    row_span,
    tiles.in_height,
    tiles.out_height,
    tiles.top,
    tiles.bottom,
    kernel,
    stride,
  )
  taps_w, inner_w = _taps(
    column_span,
    tiles.in_width,
    tiles.out_width,
    tiles.left,
    tiles.right,
    layer.kernel_width,
    stride,
  )

  # im2col. Patches inside of the tile are copied a kernel row at a time; at the
  # borders every tap is copied or zeroed alone.
  area = kernel * layer.kernel_width
  patch = layer.in_channels * area
  inner = inner_h * inner_w
  copied = taps_h * taps_w - inner * area
  zeros = rows * columns * area - taps_h * taps_w
  words = (inner * patch + copied * layer.in_channels) * in_bits / 32
  zero_words = zeros * layer.in_channels * lanes / 32
  patches = (
    costs["px_int"] * inner
    + costs["seg_int"] * kernel * inner
    + costs["seg_border_copy"] * copied
    + costs["seg_border_zero"] * zeros
    + costs["copy_word"] * words
    + costs["zero_word"] * zero_words
  )
  if area == 1:
    patches = patches * costs["pointwise_patches"]

  # The inner loop takes `k_per_iter` values a trip; the values left over take a
  # slower loop, with coefficients of its own.
  trips, left = divmod(patch, costs["k_per_iter"])
  block = (
    costs["block4x2"]
    + costs["inner_iter"] * trips
    + costs["leftK_block_flag"] * (left > 0)
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
  if costs["chleft"] == 0:  # not measured: see leftover_channels in the JSON
    single = 2 * odd_channel

  # Blocks of 4 channels first, then single channels, for every two pixels.
  n = tiles.out_channels[:, None]
  pair = costs["pair"] + n // 4 * block + n % 4 * single
  return (
    costs["base"]
    + patches
    + rows * (columns // 2) * pair
    + rows * (columns % 2) * (costs["odd"] + n * odd_channel)
  )


def _shares(count):
  """How many of `count` [T] things in equal chunks each core has: [T, 8]."""
  chunk = -(-count // 8)[:, None]
  return np.clip(count[:, None] - chunk * np.arange(8), 0, chunk)


def _split(tiles):
  """Output rows and columns of each core: two counts, two spans, [T, 8] each.

  Eight chunks of rows; if the rows are no multiple of eight, four chunks of
  rows times two halves of the columns (pulp_nn_conv_x_y_z.t:84-121).
  """
  core = np.arange(8)
  height, width = tiles.out_height[:, None], tiles.out_width[:, None]
  halves = (height % 8 != 0) & (width > 1)
  chunk = np.where(halves, -(-height // 4), -(-height // 8))
  index = np.where(halves, core // 2, core)
  row_start = np.minimum(index * chunk, height)
  row_stop = np.minimum(row_start + chunk, height)
  middle = width // 2
  column_start = np.where(halves & (core % 2 == 1), middle, 0)
  column_stop = np.where(halves & (core % 2 == 0), middle, width)
  return (
    row_stop - row_start,
    column_stop - column_start,
    (row_start, row_stop),
    (column_start, column_stop),
  )


def _taps(span, size, out_size, before, after, kernel, stride):
  """Kernel taps inside the tile, and positions on the fast path; [T, 8].

  `span` holds the first and the end output position of each core along one
  axis; position r reads inputs r stride - before to that + kernel - 1. The
  kernel takes the fast path where `before` <= r < out_size - `after`, whether
  or not the rest touches padding.
  """
  start, stop = span
  size, out_size = size[:, None], out_size[:, None]
  before, after = before[:, None], after[:, None]

  def count(low, high):  # positions r of the span with low <= r < high
    return np.maximum(np.minimum(stop, high) - np.maximum(start, low), 0)

  taps = 0
  for tap in range(kernel):
    first = -((tap - before) // stride)
    end = -((tap - before - size) // stride)
    taps = taps + count(first, end)
  return taps, count(before, out_size - after)


def _depthwise(tiles, costs) -> np.ndarray:
  """Channels in groups of a byte over cores; one im2col column at a time."""
  groups = -(-tiles.out_channels // int(costs["channels_per_group"]))
  column = (
    costs["col"]
    + costs["row"] * tiles.in_height
    + costs["padrow"] * (tiles.top + tiles.bottom)
    + costs["out"] * tiles.out_height
  )
  group = costs["group"] + tiles.out_width * column
  return costs["base"] + _shares(groups) * group[:, None]


def _linear(layer, tiles, costs, requant) -> np.ndarray:
  neuron = costs["neuron"] + costs["per16ci"] * layer.in_channels / 16 + requant
  return costs["base"] + _shares(tiles.out_channels) * neuron


def _add(tiles, below_8) -> np.ndarray:
  costs = _tables()["add"]
  row = costs["element"][below_8] * tiles.out_width * tiles.out_channels
  return costs["base"][below_8] + _shares(tiles.out_height) * row[:, None]


def _pool(layer, tiles, in_bits) -> np.ndarray:
  """Sums byte by byte, or maxima of rows and then of columns. Not measured."""
  costs = _tables()["pool"]
  lanes = 8 // in_bits  # channels of one byte
  pixels = _shares(tiles.out_height) * tiles.out_width[:, None]
  n_bytes = -(-tiles.out_channels // lanes)[:, None]
  kernel = layer.kernel_height
  taps = kernel * layer.kernel_width
  if layer.op == "avg_pool":
    per_byte = (
      costs["avg_byte"]
      + costs["avg_row"] * kernel
      + taps * (costs["avg_tap_byte"] + lanes * costs["avg_tap_channel"])
      + lanes * costs["avg_channel"]
    )
    return costs["base"] + pixels * (costs["pixel"] + n_bytes * per_byte)
  compare = costs["max_compare_word"][str(in_bits)] / 4
  in_pixels = _shares(tiles.in_height) * tiles.out_width[:, None]
  along_x = costs["max_copy_byte"] + compare * (layer.kernel_width - 1)
  along_y = costs["max_copy_byte"] + compare * (kernel - 1)
  return (
    costs["base"]
    + costs["pixel"] * (in_pixels + pixels)
    + n_bytes * (in_pixels * along_x + pixels * along_y)
  )


@functools.cache
def _tables() -> dict:
  path = pathlib.Path(hwsim.pulp.__file__).with_name("kernels.json")
  return json.loads(path.read_text(encoding="utf-8"))
