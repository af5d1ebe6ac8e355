"""Tiles of a layer in L1, and slices of its weights in L2.

As in DORY a layer that fits L1 is one tile; otherwise input, weights, scales
and output have two buffers each, and inputs' channels are never cut
(docs/facts/ne16.md 3). Which tile is taken is ours: of all that are made of
whole blocks of NE16, the one that is least after the slower of engine and DMA
and after what nothing hides. Where not even 32 output channels of weights fit,
16, 8 or 4 do. Tiles of GreenWaves' tools are not published.
"""

import functools
import itertools
from typing import NamedTuple, NoReturn

import numpy as np

from hwsim.ne16.kernels import Job, cycles, mode_of, weight_bytes
from hwsim.ne16.target import Constants, Target
from hwsim.workload import Layer


class Tile(NamedTuple):
  """Output rows, columns and channels of tiles; each an array.

  Attributes:
    rows, columns, channels: sizes; those at the edges may be smaller.
    buffers: of each tensor: 1 where the layer is one tile, else 2.
  """

  rows: np.ndarray
  columns: np.ndarray
  channels: np.ndarray
  buffers: np.ndarray


def tile_l1(
  layer: Layer, weight_bits: int, out_bytes: int, target: Constants
) -> tuple[Tile, np.ndarray]:
  """The tiles [H] of a layer whose tensors lie in L2, and where there are any.

  Args:
    target: constants of `H` targets.
  """
  target = target.against()
  tiles = candidates(layer)
  sizes = held(layer, tiles, weight_bits, out_bytes, target)
  fits = tiles.buffers * sum(sizes) <= target.l1_budget_bytes

  # One tile if it fits; else the least of all, the first of equals
  takes = _estimate(layer, tiles, weight_bits, out_bytes, target)
  takes = np.where(fits, takes, np.inf)
  best = np.where(fits[:, 0], 0, np.argmin(takes, axis=1))
  return Tile(*(size[best] for size in tiles)), np.any(fits, axis=1)


@functools.lru_cache(maxsize=1_000)
def candidates(layer: Layer) -> Tile:
  """Tiles [T]: the layer as one; then whole blocks, or the whole side."""
  side = 2 if layer.stride == 2 else 3
  cut = itertools.product(
    _multiples(layer.out_height, side),
    _multiples(layer.out_width, side),
    _channels(layer),
    (2,),
  )
  whole = layer.out_height, layer.out_width, layer.out_channels, 1
  return Tile(*np.array([whole, *cut], np.int64).T)


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
  layer: Layer, tile: Tile, weight_bits: int, out_bytes: int, target: Constants
):
  """Bytes of a tile of input, of weights with scales, and of output."""
  rows, columns = (
    np.minimum((n - 1) * layer.stride + kernel, size)
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
  layer: Layer, weight_bits: int, channels, out_bytes: int, target: Constants
):
  """Bytes of weights, multipliers and biases of some output channels."""
  scale = target.norm_bits if out_bytes == 1 else 0
  constants = channels * (scale + target.bias_bits) // 8
  return weight_bytes(layer, weight_bits, channels) + constants


def _estimate(layer, tile, weight_bits, out_bytes, target):
  """Cycles of a layer if all its tiles were whole, roughly."""
  count = 1
  for size, step in zip(
    (layer.out_height, layer.out_width, layer.out_channels),
    tile[:3],
    strict=True,
  ):
    count = count * -(-size // step)
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
  run = np.maximum(cycles(job, target), target.job_setup_cycles)
  x, w, y = (
    part / target.dma_bytes_per_cycle + target.dma_command_cycles
    for part in held(layer, tile, weight_bits, out_bytes, target)
  )
  slot = target.tile_cycles + np.maximum(run, np.maximum(x + w, y))
  return count * slot + x + w + y


def slice_l2(
  layer: Layer, weight_bits: int, out_bytes: int, target: Constants
) -> np.ndarray:
  """Output channels [H] whose weights lie in L2 at once; 0 where none do.

  Input and output stay there whole; of weights that do not fit beside them two
  slices are, the next one on its way from L3.
  """
  target = target.against()
  channels = np.array([layer.out_channels, *_channels(layer)])
  slices = np.where(np.arange(len(channels)) == 0, 1, 2)
  needs = channel_bytes(layer, weight_bits, channels, out_bytes, target)
  fits = slices * needs <= free_bytes(layer, out_bytes, target)
  return np.where(fits.any(axis=1), channels[np.argmax(fits, axis=1)], 0)


def free_bytes(layer: Layer, out_bytes: int, target: Constants):
  """Bytes of L2 beside a layer's input and output."""
  both = layer.in_count + layer.out_count * out_bytes
  return target.l2_budget_bytes - both


def refuse_l1(layer: Layer, weight_bits: int, target: Target) -> NoReturn:
  """Raises ValueError: not even the smallest tile fits L1."""
  raise ValueError(
    f"{_said(layer)} fits no tile at {weight_bits}-bit weights: even the "
    f"smallest needs more than half of the {target.l1_budget_bytes} bytes of "
    f"L1 that target {target.name!r} has; use a larger l1_bytes"
  )


def refuse_l2(layer: Layer, out_bytes: int, target: Target) -> NoReturn:
  """Raises ValueError: not even two slices of 4 channels fit L2."""
  free = int(free_bytes(layer, out_bytes, target.constants)[0])
  raise ValueError(
    f"{_said(layer)} does not fit L2: {max(free, 0)} of "
    f"{target.l2_budget_bytes} bytes of target {target.name!r} are left for "
    "its weights; NE16's activations are not cut between L3 and L2; use a "
    "larger l2_bytes"
  )


def _said(layer):
  return (
    f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
    f"{layer.out_channels} channels, {layer.in_height}x{layer.in_width})"
  )
