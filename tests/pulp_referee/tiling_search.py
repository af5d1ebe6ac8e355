"""The tile spaces of the operators, and the best tile of each.

DORY (dory/Hardware_targets/PULP/Common/Tiler/) gives a constraint solver the
tile sizes as variables, L1 as the budget and an objective that rewards shapes
its kernels like. The spaces are small (at most about a million points), so here
they are enumerated on a grid and the objective is maximised by argmax. Among
equals the solver keeps the lexicographically smallest (channels, rows,
columns), which is the first maximum of a row-major grid.

Sizes in bytes are floors of exact integers, as in the solver.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from hwsim.workload import Layer


class Tile(NamedTuple):
  """Sizes of the largest tile of a layer, in elements."""

  in_channels: int
  out_channels: int
  in_height: int
  in_width: int
  out_height: int
  out_width: int


@dataclasses.dataclass(frozen=True)
class Part(Layer):
  """What L2 holds at once of a layer that is cut in L3, as DORY tiles it.

  DORY chooses one tile for the whole layer and uses it in every slice
  (HW_node.py:71-100). It takes the rows of an inner slice with the padding of
  the whole layer, so that with padding no tile may hold all rows of a slice.

  Attributes:
    rows: output rows of a slice.
    l2_height: input rows that L2 holds, of all slices if the input is not cut.
  """

  rows: int = 0
  l2_height: int = 0

  @property
  def out_height(self) -> int:
    return self.rows


class Memory(NamedTuple):
  """What the tiling depends on besides the layer."""

  budget: int
  buffers: int
  cores: int
  constant_bits: int
  bias_bits: int


def pad_channels(
  layer: Layer, in_bits: int, weight_bits: int, out_bits: int
) -> Layer:
  """The layer with channels that fill whole bytes, as it is deployed.

  Rule of the published benchmark (quantlib generate_bench_spec.py:36-40): input
  channels to whole bytes at both input and weight precision, output channels at
  output precision. Operators with one channel count take the narrowest.
  """

  into, out = (in_bits, weight_bits), (out_bits,)
  if layer.op == "depthwise":
    into = out = (in_bits, weight_bits, out_bits)
  elif not layer.has_weights:
    into = out = (in_bits, out_bits)

  def whole(channels, bits):
    step = max(1, 8 // min(bits))
    return -(-channels // step) * step

  return dataclasses.replace(
    layer,
    in_channels=whole(layer.in_channels, into),
    out_channels=whole(layer.out_channels, out),
  )


def im2col_bytes(layer: Layer, cores: int) -> int:
  """Bytes of a convolution's patch buffers: two 8-bit patches per core.

  DORY reserves them for 1x1 kernels and for sub-byte inputs as well.
  """
  if layer.op != "conv":
    return 0
  patch = layer.kernel_height * layer.kernel_width * layer.in_channels
  return 2 * cores * patch


def _channel_step(bits) -> int:
  """Channels that fill one byte at the narrowest precision."""
  return max(1, 8 // min(bits))


def _channel_tiles(channels, step):
  """Tile sizes along channels. DORY has none below one step; we take all."""
  return np.arange(min(step, channels), channels + 1, step)


def _constants_bytes(layer, bits, memory) -> int:
  """k and lambda of one output channel, where outputs are requantized."""
  if not layer.has_weights or bits[2] == 32:
    return 0
  return 2 * memory.constant_bits // 8


def bias_bytes(layer, out_bits, bias_bits) -> int:
  """Bytes of the bias of logits; what is requantized has its bias in lambda."""
  has_bias = layer.op == "linear" and out_bits == 32
  return layer.out_channels * bias_bits // 8 if has_bias else 0


def fits_whole(layer, bits, memory) -> bool:
  """Whether the layer fits L1 without any double buffering."""
  in_bits, weight_bits, out_bits = bits
  area = layer.kernel_height * layer.kernel_width
  extra = 0
  if layer.op == "conv":
    extra = 2 * memory.cores * area * layer.in_channels * in_bits // 8
  elif layer.op == "depthwise":
    held = layer.l2_height if isinstance(layer, Part) else layer.in_height
    extra = _column_bytes(layer, held, bits, memory)
    if weight_bits < 8:  # one unpacked filter
      extra += 8 * area * _channel_step(bits)
  inputs = 2 if layer.op == "add" else 1
  packed_bits = (
    inputs * layer.in_count * in_bits
    + layer.weight_count * weight_bits
    + layer.out_count * out_bits
  )
  constants = layer.out_channels * _constants_bytes(layer, bits, memory)
  packed = math.ceil(packed_bits / 8)
  packed += bias_bytes(layer, out_bits, memory.bias_bits)
  return packed + constants + extra <= memory.budget


def _column_bytes(layer, rows, bits, memory):
  """im2col of a depthwise kernel: one column of the input per core."""
  padded = rows + layer.padding[0] + layer.padding[1]
  return memory.cores * layer.kernel_height * (padded + 1) * _channel_step(bits)


def _axis(size, out_size, kernel, stride, padding) -> tuple:
  """(input, output) sizes a conv tile may have along one axis, ascending.

  The tile must hold a whole number of strides. Padding counts only for a tile
  as large as the input, which must then come out even as well. An input smaller
  than the kernel is one tile (DORY has no solution for it).
  """
  if kernel > size:
    return np.array([size]), np.array([out_size])
  inputs = np.arange(kernel, size + 1, stride)
  strides = inputs - kernel + stride + padding * (inputs == size)
  outputs = strides // stride
  keep = (strides % stride == 0) & (outputs <= out_size)
  return inputs[keep], outputs[keep]


def tile_conv(layer, bits, memory) -> Tile | None:
  """Standard and pointwise convolution, linear (tiler_conv2d.py, g = 1)."""
  # Every size that the input and output of a tile may have, by axis.
  in_bits, weight_bits, out_bits = bits
  top, bottom, left, right = layer.padding
  h_in, h_out = _axis(
    layer.in_height,
    layer.out_height,
    layer.kernel_height,
    layer.stride,
    top + bottom,
  )
  w_in, w_out = _axis(
    layer.in_width,
    layer.out_width,
    layer.kernel_width,
    layer.stride,
    left + right,
  )
  step = _channel_step(bits)
  n = _channel_tiles(layer.out_channels, step)
  area = layer.kernel_height * layer.kernel_width
  buffers, channels = memory.buffers, layer.in_channels

  # Bytes without the output's, which need the whole grid.
  per_n = (
    buffers * channels * n * area * weight_bits // 8
    + buffers * n * _constants_bytes(layer, bits, memory)
  )
  fixed = im2col_bytes(layer, memory.cores) + 40
  fixed += bias_bytes(layer, out_bits, memory.bias_bits)
  x = buffers * channels * h_in[:, None] * w_in * in_bits // 8
  if not x.size:
    return None

  # Only sizes that fit beside the smallest of the others are worth a grid.
  n = n[per_n + fixed + x[0, 0] <= memory.budget]
  if not n.size:
    return None
  rows = x[:, 0] + per_n[0] + fixed <= memory.budget
  columns = x[0] + per_n[0] + fixed <= memory.budget
  h_in, h_out = h_in[rows], h_out[rows]
  w_in, w_out = w_in[columns], w_out[columns]
  x, per_n = x[rows][:, columns], per_n[: n.size]

  # DORY's objective: the size, and rewards for what its kernels split well:
  # channels in fours, rows in eights (one a core), columns in pairs. What is
  # left to the last tile counts a hundredth of that.
  pixels = h_out[:, None] * w_out
  size = buffers * n[:, None, None] * pixels * out_bits // 8
  size += x + fixed + per_n[:, None, None]
  left_n = (layer.out_channels - 1) % n
  of_n = (
    1_000_000 * ((n - 1) % 4)
    + 100_000 * n
    + 10_000 * left_n
    + 10_000 * (left_n % 4)
  )
  of_h = 2_000_000 * ((h_out - 1) % 8) + 20_000 * (
    (layer.out_height - 1) % h_out % 8
  )
  of_w = 3_000_000 * ((w_out - 1) % 2) + 30_000 * (
    (layer.out_width - 1) % w_out % 2
  )
  of_hw = of_h[:, None] + of_w + 1_000_000 * (pixels >= 16)

  # The largest of all; a tile as large as the input makes the whole output.
  best = _first_best(size, of_n[:, None, None] + of_hw, memory.budget)
  if best is None:
    return None
  i, j, k = best
  height = _whole(h_in[j], h_out[j], layer.in_height, layer.out_height)
  width = _whole(w_in[k], w_out[k], layer.in_width, layer.out_width)
  return Tile(channels, int(n[i]), height[0], width[0], height[1], width[1])


def tile_depthwise(layer, bits, memory) -> Tile | None:
  """Depthwise convolution (tiler_conv2d.py, g > 1): whole rows, often maps."""
  # Channels and rows are tiled, columns never. Maps of at most 32 x 32 pixels
  # are not cut at all, by DORY's rule.
  in_bits, weight_bits, out_bits = bits
  top, bottom, _, _ = layer.padding
  step = _channel_step(bits)
  n = _channel_tiles(layer.out_channels, step)
  if layer.in_height <= 32 and layer.in_width <= 32:
    h_in, h_out = np.array([layer.in_height]), np.array([layer.out_height])
  else:
    h_in, h_out = _axis(
      layer.in_height,
      layer.out_height,
      layer.kernel_height,
      layer.stride,
      top + bottom,
    )
  if not h_in.size:
    return None

  # Bytes of what depends on the channels alone. DORY writes the tile's channels
  # where the rows of the column buffer belong; so do we.
  area = layer.kernel_height * layer.kernel_width
  buffers = memory.buffers
  per_n = (
    buffers * n * area * weight_bits // 8
    + buffers * n * _constants_bytes(layer, bits, memory)
    + _column_bytes(layer, n, bits, memory)
    + 40
  )
  if weight_bits < 8:
    per_n = per_n + buffers * 8 * 8 * area * step
  n_h = n[:, None]
  size = (
    buffers * n_h * h_in * layer.in_width * in_bits // 8
    + buffers * n_h * h_out * layer.out_width * out_bits // 8
    + per_n[:, None]
  )

  # DORY's objective besides the size: channels in sixteens, rows in fours.
  left_n, left_h = (layer.out_channels - 1) % n, (layer.out_height - 1) % h_out
  of_n = 10_000 * (n > 7) + 20_000 * ((n - 1) % 16) + 100 * (left_n > 7)
  of_h = (
    10_000 * (h_out % 4 == 0)
    + 1_000 * h_out
    + 100 * left_h
    + 100 * (left_h % 4)
  )
  best = _first_best(size, of_n[:, None] + of_h, memory.budget)
  if best is None:
    return None
  i, j = best
  height = _whole(h_in[j], h_out[j], layer.in_height, layer.out_height)
  return Tile(
    int(n[i]), int(n[i]), height[0], layer.in_width, height[1], layer.out_width
  )


def tile_add(layer, bits, memory) -> Tile | None:
  """Residual addition (tiler_add.py): all channels, rows and columns tiled."""
  in_bits, _, out_bits = bits
  h = np.arange(1, layer.in_height + 1)
  w = np.arange(1, layer.in_width + 1)
  elements = memory.buffers * layer.in_channels * h[:, None] * w
  size = 2 * ((elements * in_bits + 7) // 8) + (elements * out_bits + 7) // 8
  score = 999_999 * size + 10 * w + h[:, None]
  best = _first_best(size, score, memory.budget)
  if best is None:
    return None
  height, width = int(h[best[0]]), int(w[best[1]])
  return Tile(
    layer.in_channels, layer.out_channels, height, width, height, width
  )


def tile_pool(layer, bits, memory) -> Tile | None:
  """Average and maximum pool (tiler_pool2d.py)."""
  in_bits, _, out_bits = bits
  h_in, h_out = _axis(
    layer.in_height, layer.out_height, layer.kernel_height, layer.stride, 0
  )
  w_in, w_out = _axis(
    layer.in_width, layer.out_width, layer.kernel_width, layer.stride, 0
  )
  step = _channel_step((in_bits, out_bits))
  n = _channel_tiles(layer.out_channels, step)
  if not h_in.size or not w_in.size:
    return None
  grid = memory.buffers * n[:, None, None]
  size = (
    (grid * h_in[:, None] * w_in * in_bits + 7) // 8
    + (grid * h_out[:, None] * w_out * out_bits + 7) // 8
    + 20
  )
  score = (
    9_999 * size + 100 * w_in + h_in[:, None] + 1_000_000 * n[:, None, None]
  )
  best = _first_best(size, score, memory.budget)
  if best is None:
    return None
  i, j, k = best
  height = _whole(h_in[j], h_out[j], layer.in_height, layer.out_height)
  width = _whole(w_in[k], w_out[k], layer.in_width, layer.out_width)
  return Tile(int(n[i]), int(n[i]), height[0], width[0], height[1], width[1])


def _first_best(size, score, budget) -> tuple[int, ...] | None:
  """Index of the first maximum of score + size among sizes within budget."""
  value = np.where(size <= budget, score + size, -1)
  best = int(np.argmax(value))
  if value.flat[best] < 0:
    return None
  return tuple(int(i) for i in np.unravel_index(best, value.shape))


def _whole(tile_in, tile_out, size, out_size) -> tuple[int, int]:
  """A tile as large as the input makes the whole output, padding included."""
  if tile_in >= size:
    return size, out_size
  return int(tile_in), int(tile_out)
