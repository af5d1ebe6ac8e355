"""Cycles of one layer on a target: its L3 slices, each with its tiles.

`layer_cycles` is written for one layer at one precision on one target, all of
them traced, and mapped over any of the three; `table.py` calls it for tables.
It works in float64, which is exact for whole numbers below 2^53, so it needs
`jax.enable_x64`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from hwsim.pulp.geometry import (
  DEPTHWISE,
  LINEAR,
  Bits,
  Geometry,
  Number,
  pad_channels,
)
from hwsim.pulp.schedule import Parts, l2_cycles
from hwsim.pulp.target import Constants
from hwsim.pulp.tiling import Tile, tile_l1
from hwsim.pulp.tiling_l3 import L2Tile, inner_slice, tile_l2

_ROW_KINDS = 8  # most kinds of row slices of a layer with derivatives


class LayerCycles(NamedTuple):
  """Where the cycles of a layer go.

  `compute`, `dma`, `overhead` and `l3` add up to `total`.
  """

  total: Number
  compute: Number  # kernels and their closing barriers
  dma: Number  # L2 <-> L1 transfers that no kernel hides
  overhead: Number  # software: one start per layer, one iteration per tile
  l3: Number = 0  # L3 <-> L2 transfers that no execution hides
  waiting: Number = 0  # part of compute: the average core waits for the slowest


class Tiling(NamedTuple):
  """How a layer is cut.

  Attributes:
    in_l2: the part of the layer that L2 holds.
    in_l1: the one L1 tile of all of its slices.
    fits_l2, fits_l1: whether there is such a part, and such a tile.
  """

  in_l2: L2Tile
  in_l1: Tile
  fits_l2: Number
  fits_l1: Number


def tiling(
  layer: Geometry, bits: Bits, target: Constants, input_in_l3: Number
) -> Tiling:
  """The tiles DORY chooses for a layer; memories alone decide."""
  layer = pad_channels(layer, bits)
  part, fits_l2 = tile_l2(layer, bits, target, input_in_l3)
  inner = inner_slice(layer, part)
  seen = jax.tree.map(
    lambda whole, cut: jnp.where(part.is_whole(layer), whole, cut),
    layer,
    inner,
  )
  tile, fits_l1 = tile_l1(pad_channels(seen, bits), bits, target)
  return Tiling(part, tile, fits_l2, fits_l1)


def layer_cycles(
  layer: Geometry,
  bits: Bits,
  target: Constants,
  input_in_l3: Number = False,
  rounded: bool = True,
) -> tuple[LayerCycles, Tiling]:
  """Cycles of a layer, float64, and how it is cut.

  Where the tiling does not fit, the cycles mean nothing.

  Args:
    layer: sizes of the layer, as `geometry.of_layer` has them.
    bits: 2, 4 or 8; of outputs also 32, accumulators. Those of weights that a
      layer does not have should be 8.
    target: constants of the cluster.
    input_in_l3: whether the layer before left its output in L3. A layer timed
      alone finds its input in L2 if anything fits beside it.
    rounded: whole cycles. Without, transfers and kernels take the fractions
      that their constants say, so that there are derivatives with respect to
      them; tiles are chosen alike, and count as constant.

  Raises:
    ValueError: float64 is not enabled.
  """
  if not jax.config.read("jax_enable_x64"):
    raise ValueError(
      "layer_cycles counts in float64, which this code has turned off; call it "
      "inside of `with jax.enable_x64(True):`"
    )
  numbers = (layer, bits, target)
  layer, bits, target = jax.tree.map(
    lambda value: jnp.asarray(value, jnp.float64), numbers
  )
  tiles = jax.lax.stop_gradient(
    tiling(layer, bits, jax.lax.stop_gradient(target), jnp.asarray(input_in_l3))
  )
  return cycles_as_cut(layer, bits, tiles, target, rounded), tiles


def cycles_as_cut(
  layer: Geometry,
  bits: Bits,
  tiles: Tiling,
  target: Constants,
  rounded: bool = True,
) -> LayerCycles:
  """Cycles of a layer that is cut in a way known before; see `layer_cycles`."""
  return _slices(pad_channels(layer, bits), bits, tiles, target, rounded)


# ---- L3: slices of rows, and in each of them slices of channels


class _RowSlice(NamedTuple):
  in_height: Number
  out_height: Number
  top: Number
  bottom: Number


def _slices(layer, bits, tiles, target, rounded) -> LayerCycles:
  """Cycles of a layer that may be cut in L3 (layer_L3_c_template.c).

  Row slices run in order; inside each, slices of output channels. While a slice
  runs, the next weights come from L3; while a row slice runs, the next input
  rows come and the previous output rows go:

    W(0) + x(0) + sum over rows max(sum over channels max(run, W(next)),
                                    x(next) + y(previous)) + y(last)

  Every slice runs with the one L2 -> L1 tile of the layer. Only what is cut
  pays L3 traffic: DORY fetches the weights of other layers ahead, outside the
  time it reports (network.c.t:232-284).
  """
  # All slices of channels but the last are as wide as the part in L2
  part = tiles.in_l2
  rows = _Rows(layer, part)
  count_n = jnp.ceil(layer.out_channels / part.out_channels)
  last_n = layer.out_channels - (count_n - 1) * part.out_channels
  kinds_n = jnp.minimum(count_n, 2)
  x, y, w = _l3_transfers(layer, bits, part, count_n, target, rounded)
  first_w = w(jnp.where(count_n > 1, part.out_channels, last_n))

  def step(i, state):
    """Adds the slices of one kind; the last of its channels ends a row."""
    total, sums, others = state
    is_there = i < rows.kinds * kinds_n
    i = jnp.minimum(i, rows.kinds * kinds_n - 1)
    index = jnp.floor(i / kinds_n)
    is_end = i - index * kinds_n == kinds_n - 1
    place, many = rows.kind(index)
    is_last = place == rows.count - 1
    n = jnp.where(is_end, last_n, part.out_channels)
    piece = _slice(layer, rows.slice(place), n, bits)
    tile = _within(tiles.in_l1, piece)
    parts = l2_cycles(piece, tile, bits, target, rounded)

    # Channels: the weights of the next slice come meanwhile
    run = parts.compute + parts.dma + parts.overhead
    before_end = jnp.maximum(run, w(part.out_channels)) * (count_n - 2)
    before_end += jnp.maximum(run, w(last_n))
    at_end = jnp.maximum(run, jnp.where(is_last, 0, first_w))

    # Rows: input and output go on behind all of them
    moved = jnp.where(is_last, 0, x(rows.slice(place + 1).in_height))
    moved += jnp.where(place == 0, 0, y(rows.slice(place - 1).out_height))
    row = many * jnp.maximum(others + at_end, moved)
    total += jnp.where(is_there & is_end, row, 0)
    times = jnp.where(is_there, many * jnp.where(is_end, 1, count_n - 1), 0)
    sums = jax.tree.map(lambda total, each: total + times * each, sums, parts)
    return total, sums, jnp.where(is_end, 0, before_end)

  # Derivatives need a number of steps that is known when it is compiled
  last = rows.slice(rows.count - 1)
  start = first_w + x(rows.slice(0.0).in_height) + y(last.out_height)
  zero = 0 * start  # mapped where the start is; see `search.first_best`
  state = start, Parts(zero, zero, zero, zero), zero
  if rounded:
    steps = rows.kinds * kinds_n
    _, (total, parts, _) = jax.lax.while_loop(
      lambda at: at[0] < steps,
      lambda at: (at[0] + 1, step(*at)),
      (zero, state),
    )
  else:
    steps = 2 * _ROW_KINDS
    total, parts, _ = jax.lax.fori_loop(0, steps, step, state)
  l3 = total - parts.compute - parts.dma - parts.overhead
  return LayerCycles(
    total, parts.compute, parts.dma, parts.overhead, l3, parts.waiting
  )


class _Rows:
  """Slices of the rows of a layer, and their kinds.

  The first ones have padding above, the last ones below; those between are
  alike. The one before the last ones is told apart, since what comes after it
  is not like what comes after the others.

  Attributes:
    count: how many slices there are.
    kinds: how many kinds of them.
  """

  def __init__(self, layer: Geometry, part: L2Tile):
    stride, kernel = layer.stride, layer.kernel_height
    step = part.out_height
    made = jnp.floor((part.in_height - kernel + stride) / stride)
    self.step = jnp.where(part.input_in_l3, jnp.minimum(step, made), step)
    self.layer = layer
    self._is_whole = part.is_whole(layer)
    self.count = jnp.ceil(layer.out_height / self.step)
    rest = layer.out_height - (self.count - 1) * self.step
    reach = (layer.out_height - 1) * stride - layer.top + kernel
    below = (reach - layer.in_height - rest * stride) / (self.step * stride)
    self._first = jnp.maximum(1, jnp.ceil(layer.top / (self.step * stride)))
    self._last = 2 + jnp.maximum(0, jnp.ceil(below))
    self.kinds = jnp.minimum(self.count, self._first + 1 + self._last)

  def kind(self, index):
    """Place of a slice of a kind, and how many there are."""
    between = self.count - self._first - self._last
    all_differ = between <= 1
    after = index + jnp.maximum(between - 1, 0)
    place = jnp.where(index <= self._first, index, after)
    place = jnp.where(all_differ, index, place)
    alike = ~all_differ & (index == self._first)
    return place, jnp.where(alike, between, 1)

  def slice(self, place) -> _RowSlice:
    """Rows that a slice reads and makes, and its padding.

    A layer that is not cut has all rows and the padding that DORY passes, both
    of which its stride may not reach.
    """
    layer, start = self.layer, place * self.step
    out_height = jnp.minimum(self.step, layer.out_height - start)
    first = start * layer.stride - layer.top
    end = first + (out_height - 1) * layer.stride + layer.kernel_height
    whole = self._is_whole
    in_height = jnp.minimum(end, layer.in_height) - jnp.maximum(first, 0)
    return _RowSlice(
      jnp.where(whole, layer.in_height, in_height),
      out_height,
      jnp.where(whole, layer.top, jnp.maximum(0, -first)),
      jnp.where(whole, layer.bottom, jnp.maximum(0, end - layer.in_height)),
    )


def _slice(layer, rows, channels, bits) -> Geometry:
  is_depthwise = layer.op == DEPTHWISE
  part = layer._replace(
    in_channels=jnp.where(is_depthwise, channels, layer.in_channels),
    out_channels=channels,
    in_height=rows.in_height,
    out_height=rows.out_height,
    top=rows.top,
    bottom=rows.bottom,
  )
  return pad_channels(part, bits)


def _within(tile: Tile, part: Geometry) -> Tile:
  """The tile in a slice that may be smaller than the one it was chosen for."""
  return Tile(
    jnp.minimum(tile.in_channels, part.in_channels),
    jnp.minimum(tile.out_channels, part.out_channels),
    jnp.minimum(tile.in_height, part.in_height),
    tile.in_width,
    jnp.minimum(tile.out_height, part.out_height),
    tile.out_width,
  )


def _l3_transfers(layer, bits, part, count_n, target, rounded):
  """Cycles of L3 transfers: of input rows, output rows, weights of channels.

  They are 0 for tensors that are not cut, which are in L2 before the layer
  starts.
  """
  x_row = layer.in_channels * layer.in_width * bits.input
  y_row = layer.out_channels * layer.out_width * bits.output
  constants = jnp.where(
    bits.output != 32,
    2 * target.constant_bits,
    jnp.where(layer.op == LINEAR, target.bias_bits, 0),
  )
  channel = layer.weights_per_channel * bits.weight + constants

  def transfer(is_cut, line):
    def cycles(count):
      moved = count * line / 8 / target.l3_bytes_per_cycle
      moved = jnp.ceil(moved) if rounded else moved
      return jnp.where(is_cut, target.l3_setup_cycles + moved, 0)

    return cycles

  return (
    transfer(part.input_in_l3, x_row),
    transfer(part.out_height < layer.out_height, y_row),
    transfer(count_n > 1, channel),
  )
