"""Tiles of a layer in L1, and slices of its weights in L2.

As in DORY a layer that fits L1 is one tile; otherwise input, weights, scales
and output have two buffers each, and inputs' channels are never cut
(docs/facts/ne16.md 3). Which tile is taken is ours: of all that are made of
whole blocks of NE16, the one that is least after the slower of engine and DMA
and after what nothing hides. Where not even 32 output channels of weights fit,
16, 8 or 4 do. Tiles of GreenWaves' tools are not published.
"""

import itertools
from typing import NamedTuple

import numpy as np

from hwsim.ne16.kernels import Job, cycles, mode_of, weight_bytes
from hwsim.ne16.target import Target
from hwsim.workload import Layer


class Tile(NamedTuple):
  """Output rows, columns and channels of a tile.

  Attributes:
    rows, columns, channels: sizes; those at the edges may be smaller.
    buffers: of each tensor: 1 where the layer is one tile, else 2.
  """

  rows: int
  columns: int
  channels: int
  buffers: int


def tile_l1(
  layer: Layer, weight_bits: int, out_bytes: int, target: Target
) -> Tile:
  """The tile of a layer whose tensors lie in L2.

  Raises:
    ValueError: not even the smallest tile fits L1.
  """
  whole = Tile(layer.out_height, layer.out_width, layer.out_channels, 1)
  budget = target.l1_budget_bytes
  if sum(held(layer, whole, weight_bits, out_bytes, target)) <= budget:
    return whole
  best = None
  for tile in candidates(layer):
    if 2 * sum(held(layer, tile, weight_bits, out_bytes, target)) > budget:
      continue
    key = _estimate(layer, tile, weight_bits, out_bytes, target)
    if best is None or key < best[0]:
      best = key, tile
  if best is None:
    raise ValueError(
      f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
      f"{layer.out_channels} channels, {layer.in_height}x{layer.in_width}) "
      f"fits no tile at {weight_bits}-bit weights: even the smallest needs "
      f"more than half of the {budget} bytes of L1 that target "
      f"{target.name!r} has; use a larger l1_bytes"
    )
  return best[1]


def candidates(layer: Layer):
  """Tiles of whole blocks, or of the whole side, the largest first."""
  side = 2 if layer.stride == 2 else 3
  for rows, columns, count in itertools.product(
    _multiples(layer.out_height, side),
    _multiples(layer.out_width, side),
    _channels(layer),
  ):
    yield Tile(rows, columns, count, 2)


def _channels(layer):
  """Output channels of a tile: whole blocks of NE16, or parts of one."""
  block = 16 if layer.op == "depthwise" else 32
  parts = [part for part in (16, 8, 4) if part < block]
  size = layer.out_channels
  return [
    *_multiples(size, block),
    *(part for part in parts if part < size),
  ]


def _multiples(size, step):
  """The whole, and the smallest multiple for each number of tiles."""
  blocks = -(-size // step)
  counts = sorted({-(-blocks // n) for n in range(1, blocks + 1)})
  return [min(size, n * step) for n in reversed(counts)]


def held(
  layer: Layer, tile: Tile, weight_bits: int, out_bytes: int, target: Target
) -> tuple[int, int, int]:
  """Bytes of a tile of input, of weights with scales, and of output."""
  rows, columns = (
    min((n - 1) * layer.stride + kernel, size)
    for n, kernel, size in (
      (tile.rows, layer.kernel_height, layer.in_height),
      (tile.columns, layer.kernel_width, layer.in_width),
    )
  )
  inputs = tile.channels if layer.op == "depthwise" else layer.in_channels
  return (
    rows * columns * inputs,
    channel_bytes(layer, weight_bits, tile.channels, out_bytes, target),
    tile.rows * tile.columns * tile.channels * out_bytes,
  )


def channel_bytes(
  layer: Layer, weight_bits: int, channels, out_bytes: int, target: Target
):
  """Bytes of weights, multipliers and biases of some output channels."""
  scale = target.norm_bits if out_bytes == 1 else 0
  constants = channels * (scale + target.bias_bits) // 8
  return weight_bytes(layer, weight_bits, channels) + constants


def _estimate(layer, tile, weight_bits, out_bytes, target):
  """Cycles of a layer if all its tiles were whole, roughly."""
  count = np.prod(
    [
      -(-size // step)
      for size, step in zip(
        (layer.out_height, layer.out_width, layer.out_channels),
        tile[:3],
        strict=True,
      )
    ]
  )
  mode = mode_of(layer)
  assert mode is not None  # what the cores run has no tile here
  job = Job(
    mode,
    tile.rows,
    tile.columns,
    tile.channels if mode == "depthwise" else layer.in_channels,
    tile.channels,
    weight_bits,
    layer.stride,
    out_bytes=out_bytes,
  )
  run = max(int(cycles(job, target)), target.job_setup_cycles)
  x, w, y = (
    part / target.dma_bytes_per_cycle + target.dma_command_cycles
    for part in held(layer, tile, weight_bits, out_bytes, target)
  )
  return count * (target.tile_cycles + max(run, x + w, y)) + x + w + y


def slice_l2(
  layer: Layer, weight_bits: int, out_bytes: int, target: Target
) -> int:
  """Output channels of a layer whose weights lie in L2 at once.

  Input and output stay there whole; of weights that do not fit beside them two
  slices are, the next one on its way from L3.

  Raises:
    ValueError: input and output do not fit, or not two slices of 4 channels.
  """
  free = target.l2_budget_bytes - layer.in_count - layer.out_count * out_bytes
  size = layer.out_channels
  if channel_bytes(layer, weight_bits, size, out_bytes, target) <= free:
    return size
  for channels in _channels(layer):
    if (
      2 * channel_bytes(layer, weight_bits, channels, out_bytes, target) <= free
    ):
      return channels
  raise ValueError(
    f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
    f"{layer.out_channels} channels, {layer.in_height}x{layer.in_width}) does "
    f"not fit L2: {max(free, 0)} of {target.l2_budget_bytes} bytes of target "
    f"{target.name!r} are left for its weights; NE16's activations are not cut "
    "between L3 and L2; use a larger l2_bytes"
  )
