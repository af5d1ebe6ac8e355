"""L3 -> L2 tiling: how DORY cuts a layer that does not fit L2.

Up to four attempts, each cutting more of the layer: weights over output
channels, output over rows, both (tiler_conv2d.py:57-215). What is cut lies in
L3 and is double buffered in L2; an output cut over rows is left in L3. The
space is small, so it is enumerated as in `tiling_search.py`, with the solver's
tie rule.
"""

import functools
from typing import NamedTuple

import numpy as np

from hwsim.pulp.target import Target
from hwsim.workload import Layer
from pulp_referee.tiling_search import bias_bytes

# What DORY tries in turn: input in L3, weights cut over output channels, output
# cut over rows. It starts with an input in L3 only where the layer before left
# its output there.
_PLANS = (
  (False, True, False),
  (False, False, True),
  (False, True, True),
  (True, False, False),
  (True, False, True),
  (True, True, False),
  (True, True, True),
)


class L2Tile(NamedTuple):
  """How much of a layer is in L2 at once.

  Attributes:
    out_channels: output channels whose weights are in L2.
    in_height, out_height: rows of the input and of the output in L2.
    input_in_l3: whether the input is fetched from L3.
  """

  out_channels: int
  in_height: int
  out_height: int
  input_in_l3: bool

  def is_whole(self, layer: Layer) -> bool:
    """Whether L3 is not touched while the layer runs."""
    return not self.input_in_l3 and self[:3] == (
      layer.out_channels,
      layer.in_height,
      layer.out_height,
    )


class _Memory(NamedTuple):
  l1: int
  l2: int
  cores: int
  constant_bits: int
  bias_bits: int


class _Sizes(NamedTuple):
  """Bytes of the parts of a layer, per row and per output channel."""

  x_row_bits: int
  y_row_bits: int
  channel: int  # weights and bias
  constants: int  # k and lambda of a channel


def tile_l2(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
  input_in_l3: bool = False,
) -> L2Tile:
  """The part of a layer that DORY holds in L2; channels already padded.

  The input is in L2 if anything fits beside it, as where a layer is benchmarked
  alone; otherwise it comes from L3. After a layer whose output was left in L3
  (`input_in_l3`) it always does.

  Raises:
    ValueError: no tile fits the L2 budget. DORY has no L3 tiling of `add`.
  """
  # Only what the choice depends on: targets that differ in other constants
  # share the cache.
  memory = _Memory(
    target.l1_budget_bytes,
    target.l2_budget_bytes,
    target.cores,
    target.constant_bits,
    target.bias_bits,
  )
  bits = in_bits, weight_bits, out_bits
  tile = _tile(layer.geometry, bits, memory, input_in_l3)

  # DORY would stop here too. The error says how much L2 was left, as the share
  # of code is an assumption (`Target.code_reserved_bytes`).
  if tile is None:
    raise ValueError(
      f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
      f"{layer.out_channels} channels, {layer.in_height}x{layer.in_width}) "
      f"fits no L3 tiling at {in_bits}/{weight_bits}/{out_bits} "
      f"input/weight/output bits: target {target.name!r} leaves {memory.l2} "
      "bytes of L2 to tensors"
      + (" and DORY does not tile additions" if layer.op == "add" else "")
      + "; use a larger l2_bytes or a smaller code_reserved_bytes"
    )
  return tile


@functools.lru_cache(maxsize=100_000)
def _tile(layer, bits, memory, input_in_l3) -> L2Tile | None:
  sizes = _sizes(layer, bits, memory)
  inputs = 2 if layer.op == "add" else 1  # DORY's check forgets the second
  whole = (
    inputs * (layer.in_height * sizes.x_row_bits // 8)
    + layer.out_height * sizes.y_row_bits // 8
    + layer.out_channels * sizes.constants
    + layer.weight_count * bits[1] // 8
  )
  whole += bias_bytes(layer, bits[2], memory.bias_bits)
  if whole <= memory.l2 and not input_in_l3:
    return L2Tile(layer.out_channels, layer.in_height, layer.out_height, False)
  if layer.op == "add":
    return None
  for plan in _PLANS:
    if input_in_l3 and not plan[0]:
      continue
    tile = _best(layer, bits, memory, sizes, *plan)
    if tile is not None:
      return tile
  return None


def _sizes(layer, bits, memory) -> _Sizes:
  in_bits, weight_bits, out_bits = bits
  per_channel = layer.weight_count // layer.out_channels * weight_bits // 8
  per_channel += bias_bytes(layer, out_bits, memory.bias_bits) // (
    layer.out_channels
  )
  constants = 0
  if layer.has_weights and out_bits != 32:
    constants = 2 * memory.constant_bits // 8
  return _Sizes(
    layer.in_channels * layer.in_width * in_bits,
    layer.out_channels * layer.out_width * out_bits,
    per_channel,
    constants,
  )


def _best(layer, bits, memory, sizes, input_in_l3, cut_n, cut_h):
  """The tile of greatest objective among those of a plan, or None."""
  # DORY cuts pools over rows only.
  if layer.op in ("avg_pool", "max_pool") and cut_n:
    return None

  # Sizes that a plan may try: what it does not cut stays whole, and rows of the
  # input must divide those of the output.
  kernel, stride = layer.kernel_height, layer.stride
  n = np.arange(1 if cut_n else layer.out_channels, layer.out_channels + 1)
  h_out = np.arange(1 if cut_h else layer.out_height, layer.out_height + 1)
  h_in = np.array([layer.in_height])
  if input_in_l3:
    h_in = np.arange(kernel, layer.in_height + 1, stride)
    rows = (h_in - kernel + stride) // stride
    h_in = h_in[layer.out_height % rows == 0]
  if not h_in.size:
    return None

  # What is cut is double buffered.
  n, h_in = n[:, None, None], h_in[:, None]
  buffers_x, buffers_w, buffers_y = 1 + input_in_l3, 1 + cut_n, 1 + cut_h
  size = (
    buffers_x * h_in * sizes.x_row_bits // 8
    + buffers_y * h_out * sizes.y_row_bits // 8
    + buffers_w * n * (sizes.channel + sizes.constants)
  )

  # The objective of DORY is the size plus its preferences. Of equals the first
  # on the grid is taken, as by its solver.
  score = size + _preference(layer, bits, memory, sizes, n, h_in, h_out)
  fits = size <= memory.l2
  if input_in_l3 and cut_h:  # an input tile makes exactly an output tile
    fits = fits & (h_out * stride == h_in - kernel + stride)
  value = np.where(fits, score, -1)
  best = int(np.argmax(value))
  if value.flat[best] < 0:
    return None
  i, j, k = np.unravel_index(best, value.shape)
  return L2Tile(int(n[i, 0, 0]), int(h_in[j, 0]), int(h_out[k]), input_in_l3)


def _preference(layer, bits, memory, sizes, n, h_in, h_out):
  """Terms of DORY's objective besides the size of the tile."""
  if not layer.has_weights:
    return 200_000 * ((h_out - 1) % 8) + 200_000 * ((h_in - 1) % 4)
  height, channels = layer.out_height, layer.out_channels
  in_l1 = _l1_bytes(layer, bits, memory, sizes, n, h_in, h_out) < memory.l1
  return (
    100_000_000 * in_l1
    + 100_000 * ((h_out - 1) % 8)
    + 100_000 * (n % 4 == 0)
    + 1_000_000 * ((channels - n) % n == 0)
    + 1_000_000 * ((height - h_out) % h_out == 0)
    + 100_000 * (h_out == height)
    + 10_000 * (n == channels)
  )


def _l1_bytes(layer, bits, memory, sizes, n, h_in, h_out):
  """Bytes a tile would take in L1 without double buffering, as DORY counts."""
  in_bits, weight_bits, out_bits = bits
  area = layer.kernel_height * layer.kernel_width
  step = max(1, 8 // min(bits))
  if layer.op == "depthwise":
    padded = layer.in_channels + layer.padding[0] + layer.padding[1]
    extra = memory.cores * layer.kernel_height * (padded + 1) * step
    if weight_bits != 8:
      extra += 32 * 8 * 8 * area * step
    weights = layer.in_channels * area * weight_bits // 8
  else:
    extra = 2 * memory.cores * area * layer.in_channels
    weights = layer.in_channels * n * area * weight_bits // 8
  x = h_in * sizes.x_row_bits // 8
  y = n * h_out * layer.out_width * out_bits // 8
  return x + y + weights + n * sizes.constants + extra + 20
