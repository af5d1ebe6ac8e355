"""Cycles of one layer: DMA and NE16's jobs of its tiles, double buffered.

  start + x(0) + W(0)
        + sum over tiles [tile + max(job, x(next) + W(next), y(previous))]
        + y(last)

as on PULP clusters (`hwsim.pulp.timeline`), with NE16 in the place of the
kernels: channels outermost, then rows, then columns. A job takes at least the
writing of its registers, which the job before hides. Jobs and DMA do not slow
each other down in L1. Weights that do not fit L2 come slice by slice behind the
slices before:

  W(0) + sum over slices max(run, W(next))
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from hwsim import pulp
from hwsim.ne16.kernels import Job, cycles, mode_of
from hwsim.ne16.target import Constants, Target
from hwsim.ne16.tiling import (
  Tile,
  channel_bytes,
  refuse_l1,
  refuse_l2,
  slice_l2,
  tile_l1,
)
from hwsim.pulp import LayerCycles
from hwsim.workload import Layer


def simulate(
  layer: Layer, in_bits: int, weight_bits: int, out_bits: int, target: Target
) -> LayerCycles:
  """Cycles of one layer on a target at the given precision.

  What NE16 cannot run (`hwsim.ne16.kernels.mode_of`) runs on the cores with
  8-bit weights, whatever `weight_bits`.

  Args:
    layer: the layer.
    in_bits: 8.
    weight_bits: 2 to 8; those of a layer without weights do not matter.
    out_bits: 8, or 32 for outputs that stay accumulators.
    target: GAP9 or the like.

  Raises:
    ValueError: other bits, an operator that neither NE16 nor the cores have, or
      a layer that fits no tiling.
  """
  ladder = target.ladder
  for what, bits, allowed in (
    ("input", in_bits, ladder.activations),
    ("weight", weight_bits, ladder.weights),
    ("output", out_bits, (*ladder.activations, 32)),
  ):
    if bits not in allowed:
      raise ValueError(
        f"layer {layer.name!r}: {what} bits are {bits!r}, expected one of "
        f"{allowed}"
      )
  if mode_of(layer) is None:
    return pulp.simulate(layer, in_bits, 8, out_bits, target.cores)
  out_bytes = out_bits // 8
  found = layer_cycles(layer, weight_bits, out_bytes, target.constants)
  if not found.fits_l2[0]:
    refuse_l2(layer, out_bytes, target)
  if not found.fits_l1[0]:
    refuse_l1(layer, weight_bits, target)
  return LayerCycles(*(int(part[0]) for part in found.cycles))


class Timed(NamedTuple):
  """A layer on `H` targets.

  Attributes:
    cycles: int64[H] each; 0 where a layer does not fit.
    fits_l2, fits_l1: bool[H], whether there are slices, and tiles.
  """

  cycles: LayerCycles
  fits_l2: np.ndarray
  fits_l1: np.ndarray


def layer_cycles(
  layer: Layer, weight_bits: int, out_bytes: int, target: Constants
) -> Timed:
  """Cycles of a layer that NE16 runs, on `H` targets."""
  # L2 decides first: weights that do not fit run in slices that do
  channels = slice_l2(layer, weight_bits, out_bytes, target)
  total = _nothing(len(channels))
  fits_l1 = np.zeros(len(channels), bool)
  for n in np.unique(channels[channels > 0]).tolist():
    rows = np.flatnonzero(channels == n)
    some = target.take(rows)
    if n == layer.out_channels:
      found, fits = l2_cycles(layer, weight_bits, out_bytes, some)
    else:
      found, fits = l3_cycles(layer, weight_bits, out_bytes, n, some)
    fits_l1[rows] = fits
    for part, values in zip(total, found, strict=True):
      part[rows] = np.where(fits, values, 0)
  return Timed(total, channels > 0, fits_l1)


def l3_cycles(
  layer: Layer,
  weight_bits: int,
  out_bytes: int,
  channels: int,
  target: Constants,
) -> tuple[LayerCycles, np.ndarray]:
  """Cycles [H] of a layer whose weights come from L3, `channels` at a time,
  and where its tiles fit L1."""
  whole, last = divmod(layer.out_channels, channels)
  slices = [channels] * whole + [last] * bool(last)
  runs, arriving = {}, {}
  fits = np.ones(len(target.norm_bits), bool)
  for n in set(slices):
    inputs = n if layer.op == "depthwise" else layer.in_channels
    part = dataclasses.replace(layer, in_channels=inputs, out_channels=n)
    runs[n], each_fits = l2_cycles(part, weight_bits, out_bytes, target)
    fits = fits & each_fits
    size = channel_bytes(layer, weight_bits, n, out_bytes, target)
    transfer = np.ceil(size / target.l3_bytes_per_cycle).astype(np.int64)
    arriving[n] = target.l3_setup_cycles + transfer

  # While a slice runs the next one comes
  total = arriving[slices[0]]
  for n, after in zip(slices, (*slices[1:], None), strict=True):
    total = total + np.maximum(runs[n].total, arriving.get(after, 0))
  compute = sum(runs[n].compute for n in slices)
  dma = sum(runs[n].dma for n in slices)
  overhead = sum(runs[n].overhead for n in slices)
  l3 = total - compute - dma - overhead
  return LayerCycles(total, compute, dma, overhead, l3, 0 * total), fits


def l2_cycles(
  layer: Layer, weight_bits: int, out_bytes: int, target: Constants
) -> tuple[LayerCycles, np.ndarray]:
  """Cycles [H] of a layer of NE16 whose tensors lie in L2, and where its tiles
  fit L1; others mean nothing."""
  tiles, fits = tile_l1(layer, weight_bits, out_bytes, target)
  total = _nothing(len(fits))
  distinct, of_target = np.unique(
    np.stack(tiles, axis=1), axis=0, return_inverse=True
  )
  for i, sizes in enumerate(distinct):
    rows = np.flatnonzero(of_target.ravel() == i)
    tile, some = Tile(*sizes.tolist()), target.take(rows).against()
    found = _as_cut(layer, tile, weight_bits, out_bytes, some)
    for part, values in zip(total, found, strict=True):
      part[rows] = values
  return total, fits


def _nothing(count) -> LayerCycles:
  return LayerCycles(*(np.zeros(count, np.int64) for _ in range(6)))


def _as_cut(layer, tile, weight_bits, out_bytes, target) -> LayerCycles:
  """Cycles [H] of a layer that is cut alike on all targets [H, 1]."""
  tiles = _tiles(layer, tile)
  mode = mode_of(layer)
  assert mode is not None  # `simulate` gives others to the cores
  job = Job(
    mode,
    *(tiles.rows, tiles.columns, tiles.in_channels, tiles.channels),
    weight_bits,
    layer.stride,
    *(tiles.cut_bottom, tiles.cut_right, out_bytes),
  )
  compute = np.maximum(cycles(job, target), target.job_setup_cycles)
  x, w, y = _copies(layer, tiles, weight_bits, out_bytes, target)
  if tile.buffers == 1:  # what lies in L1 already needs no transfer
    x, y = (
      np.rint(part * (1 - target.kept_share)).astype(np.int64)
      for part in (x, y)
    )

  # The first loads and the last store stand alone; a tile of its own has
  # nothing to hide behind.
  none = np.zeros_like(x[:, :1])
  after = np.append((x + w)[:, 1:], none, axis=1)
  before = np.append(none, y[:, :-1], axis=1)
  slots = np.maximum(compute, np.maximum(after, before)).sum(axis=1)
  busy = compute.sum(axis=1)
  overhead = target.layer_start_cycles + compute.shape[1] * target.tile_cycles
  overhead = overhead[:, 0]
  dma = x[:, 0] + w[:, 0] + slots - busy + y[:, -1]
  return LayerCycles(
    overhead + busy + dma, busy, dma, overhead, 0 * busy, 0 * busy
  )


class _Tiles(NamedTuple):
  """Sizes of all `T` tiles: channels outermost, then rows, then columns; [T].

  Attributes:
    channels, rows, columns: those of the output.
    in_channels, in_rows, in_columns: those of the input that are read.
    cut_bottom, cut_right: rows and columns of padding that a tile reads there.
    loads_weights: whether its channels are others than those of the one before.
  """

  channels: np.ndarray
  rows: np.ndarray
  columns: np.ndarray
  in_channels: np.ndarray
  in_rows: np.ndarray
  in_columns: np.ndarray
  cut_bottom: np.ndarray
  cut_right: np.ndarray
  loads_weights: np.ndarray


def _tiles(layer, tile) -> _Tiles:
  _, channels = _cuts(layer.out_channels, tile.channels, (-1, 1, 1))
  top, rows = _cuts(layer.out_height, tile.rows, (1, -1, 1))
  left, columns = _cuts(layer.out_width, tile.columns, (1, 1, -1))
  in_rows, cut_bottom = _inputs(layer, top, rows, "height")
  in_columns, cut_right = _inputs(layer, left, columns, "width")
  depthwise = layer.op == "depthwise"
  in_channels = channels if depthwise else np.array(layer.in_channels)
  sizes = channels, rows, columns, in_channels, in_rows, in_columns
  sizes = *sizes, cut_bottom, cut_right, (top == 0) & (left == 0)
  return _Tiles(*(size.ravel() for size in np.broadcast_arrays(*sizes)))


def _copies(layer, tiles, weight_bits, out_bytes, target):
  """Cycles [H, T] to load input and weights and to store output."""
  x = _transfer(
    (tiles.in_rows, layer.in_height),
    (tiles.in_columns, layer.in_width),
    (tiles.in_channels, layer.in_channels),
    1,
    target,
  )
  y = _transfer(
    (tiles.rows, layer.out_height),
    (tiles.columns, layer.out_width),
    (tiles.channels, layer.out_channels),
    out_bytes,
    target,
  )

  # Weights change with the channels alone
  w = channel_bytes(layer, weight_bits, tiles.channels, out_bytes, target)
  w = target.dma_command_cycles + -(-w // target.dma_bytes_per_cycle)
  return x, w * tiles.loads_weights, y


def _cuts(size, step, axes):
  """Starts and sizes of the pieces of an axis, shaped to broadcast."""
  starts = np.arange(0, size, step)
  return starts.reshape(axes), np.minimum(step, size - starts).reshape(axes)


def _inputs(layer, start, count, axis):
  """Rows that outputs read, and rows of padding below them, by tile."""
  kernel = getattr(layer, f"kernel_{axis}")
  size = getattr(layer, f"in_{axis}")
  before = layer.padding[0 if axis == "height" else 2]
  first = start * layer.stride - before
  end = first + (count - 1) * layer.stride + kernel
  inside = np.minimum(end, size) - np.maximum(first, 0)
  return inside, np.maximum(end - size, 0)


def _transfer(rows, columns, channels, element_bytes, target):
  """Cycles to move a part of a tensor, each axis given as (part, whole).

  A tile of all columns and channels lies in one piece, one of all channels in
  one line a row, any other in one line a pixel.
  """
  (h, _), (w, all_w), (c, all_c) = rows, columns, channels
  every_channel, every_column = c == all_c, w == all_w
  lines = np.where(every_channel, np.where(every_column, 1, h), h * w)
  line_bytes = h * w * c * element_bytes // lines
  line = np.maximum(
    -(-line_bytes // target.dma_bytes_per_cycle), target.dma_line_cycles
  )
  return target.dma_command_cycles + lines * line
