"""Cycles of one layer: DMA and kernels of its tiles, double buffered.

The schedule is the one DORY's layer template generates (PULP_gvsoc/Templates/
layer_templates/layer_L2_c_conv_template.c). Tiles run channels outermost, then
rows, then columns. The first input and weights are fetched before anything
runs. Then each iteration fetches the next input tile (again for every channel
tile) and, if the channels change, the next weights, while the cores compute and
the previous output is written:

  start + x(0) + W(0)
        + sum over tiles [tile + max(compute, x(next) + W(next), y(previous))]
        + y(last)

A layer that does not fit L2 runs in slices, each with such a timeline, while
L3 transfers go on behind them.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from hwsim.pulp.target import Target
from hwsim.workload import Layer
from pulp_referee.kernels import OPS
from pulp_referee.schedule import bias_cycles, loads, schedule
from pulp_referee.tiling import Tile, tile_l1
from pulp_referee.tiling_l3 import L2Tile, tile_l2
from pulp_referee.tiling_search import pad_channels


class LayerCycles(NamedTuple):
  """Where the cycles of a layer go.

  `compute`, `dma`, `overhead` and `l3` add up to `total`.
  """

  total: int
  compute: int  # kernels and their closing barriers
  dma: int  # L2 <-> L1 transfers that no kernel hides
  overhead: int  # software: one start per layer, one iteration per tile
  l3: int = 0  # L3 <-> L2 transfers that no execution hides
  waiting: int = 0  # part of compute: the average core waits for the slowest


def simulate(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
  input_in_l3: bool = False,
) -> LayerCycles:
  """Cycles of one layer on a target at the given precision.

  Args:
    in_bits, weight_bits: 2, 4 or 8; weight bits of a layer without weights do
      not matter.
    out_bits: 2, 4 or 8, or 32 for outputs that stay accumulators.

  Raises:
    ValueError: other bits, an operator without a kernel, or a layer that fits
      no tiling.
  """
  check_op(layer, target)
  for what, bits, allowed in (
    ("input", in_bits, (2, 4, 8)),
    ("weight", weight_bits, (2, 4, 8)),
    ("output", out_bits, (2, 4, 8, 32)),
  ):
    if bits not in allowed:
      raise ValueError(
        f"layer {layer.name!r}: {what} bits are {bits!r}, "
        f"expected one of {allowed}"
      )

  # L2 decides first: what does not fit runs in slices that do.
  bits = in_bits, weight_bits, out_bits
  layer = pad_channels(layer, *bits)
  part = tile_l2(layer, *bits, target, input_in_l3)
  if part.is_whole(layer):
    return l2_cycles(layer, *bits, tile_l1(layer, *bits, target), target)
  return l3_cycles(layer, *bits, part, target)


def check_op(layer: Layer, target: Target) -> None:
  """Raises ValueError if the target has no kernel for a layer."""
  if layer.op not in OPS:
    raise ValueError(
      f"layer {layer.name!r}: the kernels of {target.name!r} have no "
      f"{layer.op}, only {', '.join(OPS)}; take a network without it, or load "
      "a table that was measured on a board (hwsim.latency_io.load)"
    )


def l2_cycles(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  tile: Tile,
  target: Target,
) -> LayerCycles:
  """Cycles of a layer whose tensors lie in L2; channels already padded."""
  bits = in_bits, weight_bits, out_bits
  plan = schedule(layer, tile, bits, target)
  compute = plan.compute.ravel()
  load, store = loads(plan), plan.store_y.ravel()
  first = int(plan.load_x.flat[0] + plan.load_w[0])
  first += bias_cycles(layer, out_bits, target)
  if target.double_buffering == 1:  # nothing overlaps
    slots = compute + load + store
    last = 0
  else:
    before = np.concatenate(([0], store[:-1]))
    pushing = np.append(plan.pushing.ravel()[1:], 0)
    slots = pushing + np.maximum(compute, np.maximum(load - pushing, before))
    last = int(store[-1])
  busy = int(compute.sum())
  overhead = target.layer_start_cycles + compute.size * target.tile_cycles
  overhead += plan.compute.shape[0] * target.channel_tile_cycles
  dma = first + int(slots.sum()) - busy + last
  total, waiting = overhead + busy + dma, int(plan.waiting.sum())
  return LayerCycles(total, busy, dma, overhead, waiting=waiting)


def l3_cycles(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  part: L2Tile,
  target: Target,
) -> LayerCycles:
  """Cycles of a layer that is cut between L3 and L2 (layer_L3_c_template.c).

  Row slices run in order; inside each, slices of output channels. While a slice
  runs, the next weights come from L3; while a row slice runs, the next input
  rows come and the previous output rows go:

    W(0) + x(0) + sum over rows max(sum over channels max(run, W(next)),
                                    x(next) + y(previous)) + y(last)

  Every slice runs with the one L2 -> L1 tile of the layer. Only what is cut
  pays L3 traffic: DORY fetches the weights of other layers ahead, outside the
  time it reports (network.c.t:232-284).
  """
  # L3 transfers of every slice; 0 for tensors that are not cut, which are in L2
  # before the layer starts.
  bits = in_bits, weight_bits, out_bits
  rows, channels = _row_slices(layer, part), _channel_slices(layer, part)
  tile = tile_l1(layer, *bits, target, part)
  x, y, w = (np.zeros(len(part), np.int64) for part in (rows, rows, channels))
  if part.input_in_l3:
    line = layer.in_channels * layer.in_width * in_bits
    x[:] = [_l3_transfer(row.in_height * line, target) for row in rows]
  if part.out_height < layer.out_height:
    line = layer.out_channels * layer.out_width * out_bits
    y[:] = [_l3_transfer(row.out_height * line, target) for row in rows]
  if len(channels) > 1:
    line = _channel_bits(layer, bits, target)
    w[:] = [_l3_transfer(n * line, target) for n in channels]

  # The formula above, slice by slice. `parts` keeps what the slices themselves
  # took: L3 is charged only with what no slice hides.
  total = int(w[0] + x[0] + y[-1])
  parts = np.zeros(4, np.int64)
  for j, row in enumerate(rows):
    last = j + 1 == len(rows)
    busy = 0
    for n, next_w in zip(channels, (*w[1:], 0 if last else w[0]), strict=True):
      slice_ = _slice(layer, row, n, bits)
      run = l2_cycles(slice_, *bits, _within(tile, slice_), target)
      parts += run.compute, run.dma, run.overhead, run.waiting
      busy += max(run.total, int(next_w))
    arriving, leaving = 0 if last else x[j + 1], y[j - 1] if j else 0
    total += max(busy, int(arriving + leaving))
  compute, dma, overhead, waiting = (int(part) for part in parts)
  l3 = total - compute - dma - overhead
  return LayerCycles(total, compute, dma, overhead, l3, waiting)


class _RowSlice(NamedTuple):
  in_height: int
  out_height: int
  top: int
  bottom: int


def _row_slices(layer, tile) -> list[_RowSlice]:
  kernel, stride = layer.kernel_height, layer.stride
  step = tile.out_height
  if tile.input_in_l3:
    step = min(step, (tile.in_height - kernel + stride) // stride)
  slices = []
  for start in range(0, layer.out_height, step):
    out_height = min(step, layer.out_height - start)
    first = start * stride - layer.padding[0]
    end = first + (out_height - 1) * stride + kernel
    slices.append(
      _RowSlice(
        min(end, layer.in_height) - max(first, 0),
        out_height,
        max(0, -first),
        max(0, end - layer.in_height),
      )
    )
  return slices


def _channel_slices(layer, tile) -> list[int]:
  starts = range(0, layer.out_channels, tile.out_channels)
  return [min(tile.out_channels, layer.out_channels - n) for n in starts]


def _slice(layer, rows, channels, bits):
  inputs = channels if layer.op == "depthwise" else layer.in_channels
  part = dataclasses.replace(
    layer,
    in_channels=inputs,
    out_channels=channels,
    in_height=rows.in_height,
    padding=(rows.top, rows.bottom, *layer.padding[2:]),
  )
  return pad_channels(part, *bits)


def _within(tile: Tile, part: Layer) -> Tile:
  """The tile in a slice that may be smaller than the one it was chosen for."""
  return Tile(
    min(tile.in_channels, part.in_channels),
    min(tile.out_channels, part.out_channels),
    min(tile.in_height, part.in_height),
    tile.in_width,
    min(tile.out_height, part.out_height),
    tile.out_width,
  )


def _channel_bits(layer, bits, target):
  """Weights, k and lambda or bias of one output channel, in bits."""
  weights = layer.weight_count // layer.out_channels * bits[1]
  if bits[2] != 32:
    return weights + 2 * target.constant_bits
  return weights + (target.bias_bits if layer.op == "linear" else 0)


def _l3_transfer(bits, target):
  return target.l3_setup_cycles + math.ceil(
    bits / 8 / target.l3_bytes_per_cycle
  )
