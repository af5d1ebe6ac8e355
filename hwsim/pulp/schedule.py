"""Cycles of the tiles of a layer that lies in L2, double buffered.

The schedule is the one DORY's layer template generates (PULP_gvsoc/Templates/
layer_templates/layer_L2_c_conv_template.c). Tiles run channels outermost, then
rows, then columns. The first input and weights are fetched before anything
runs. Then each iteration fetches the next input tile (again for every channel
tile) and, if the channels change, the next weights, while the cores compute and
the previous output is written:

  start + x(0) + W(0)
        + sum over tiles [tile + max(compute, x(next) + W(next), y(previous))]
        + y(last)

A depthwise input takes a command per byte of channels. The cores push them and
wait as long as there are more than the engine queues, before they compute.

Tiles of a layer come in at most 2 x 3 x 3 kinds (last channels or not; first,
middle, last rows and columns), and what an iteration takes depends on the kinds
of its tile and of the two beside it. So the sum is over 4 x 5 x 5 places and
how often each occurs, whatever the number of tiles.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwsim.pulp.geometry import Bits, Geometry, Number
from hwsim.pulp.kernels import Span, core_cycles
from hwsim.pulp.target import Constants
from hwsim.pulp.tiling import Tile
from hwsim.pulp.transfers import (
  bias_cycles,
  load_w_cycles,
  load_x_cycles,
  pushing_cycles,
  store_y_cycles,
)

_IS_FIRST = np.array([True, False, False])  # tiles along rows or columns
_IS_LAST = _IS_FIRST[::-1]
_GRID = 2.0**20  # far finer than the coefficients, which have two decimals


class Parts(NamedTuple):
  """Where the cycles of a layer go while its tensors lie in L2.

  Attributes:
    compute: kernels and their closing barriers.
    dma: transfers between L2 and L1 that no kernel hides.
    overhead: software: one start per layer, one iteration per tile.
    waiting: part of `compute` that the average core waits for the slowest.
  """

  compute: Number
  dma: Number
  overhead: Number
  waiting: Number


class _Tiles(NamedTuple):
  """Cycles by kind of tile, [18] in the order channels, rows, columns."""

  compute: Number
  waiting: Number
  load_x: Number
  load_w: Number
  store_y: Number
  pushing: Number  # part of `load_x` that cores wait for to push commands

  def of(self, kinds) -> "_Tiles":
    """Those of tiles of these kinds."""
    return _Tiles(*jnp.stack(self)[:, kinds])


class _Place(NamedTuple):
  """Positions of tiles along channels, rows and columns."""

  n: Number
  h: Number
  w: Number


def l2_cycles(
  layer: Geometry, tile: Tile, bits: Bits, target: Constants, rounded: bool
) -> Parts:
  """Cycles of a layer whose tensors lie in L2; channels already padded.

  Args:
    layer: the layer, or a slice of it.
    tile: its L1 tile, no larger than the layer.
    bits: its precision.
    target: constants of the cluster.
    rounded: whether kernels and transfers take whole cycles, as they do; else
      there are derivatives with respect to the constants.
  """
  counts = _Place(
    jnp.ceil(layer.out_channels / tile.out_channels),
    jnp.ceil(layer.out_height / tile.out_height),
    jnp.ceil(layer.out_width / tile.out_width),
  )
  cycles = _tiles(layer, tile, counts, bits, target, rounded)

  # What each place of the loop does, and how many tiles are there
  here, many = _places(counts)
  behind, ahead = _behind(here, counts), _ahead(here, counts)
  is_first = (here.n == 0) & (here.h == 0) & (here.w == 0)
  is_last = ahead.n == counts.n
  now, next_ = cycles.of(_kind(here, counts)), cycles.of(_kind(ahead, counts))
  weights = jnp.where(ahead.n > here.n, next_.load_w, 0)
  load = jnp.where(is_last, 0, next_.load_x + weights)
  leaving = jnp.where(is_first, 0, cycles.store_y[_kind(behind, counts)])
  pushing = jnp.where(is_last, 0, next_.pushing)

  # With one buffer nothing overlaps; with two the last output is left over
  overlaps = target.double_buffering != 1
  slots = jnp.where(
    overlaps,
    pushing + jnp.maximum(now.compute, jnp.maximum(load - pushing, leaving)),
    now.compute + load + now.store_y,
  )
  start = _kind(_Place(0.0, 0.0, 0.0), counts)
  ends = cycles.load_x[start] + cycles.load_w[start]
  ends += bias_cycles(layer, bits, target, rounded)
  ends += jnp.where(overlaps, cycles.store_y[-1], 0)
  busy = jnp.sum(many * now.compute)
  return Parts(
    busy,
    ends + jnp.sum(many * slots) - busy,
    target.layer_start_cycles
    + counts.n * target.channel_tile_cycles
    + counts.n * counts.h * counts.w * target.tile_cycles,
    jnp.sum(many * now.waiting),
  )


# ---- Places in the loop


def _places(counts) -> tuple[_Place, Number]:
  """Places [100] that stand for all, and how many tiles are like each.

  Along rows and columns the two outermost on either side and one between them,
  whose neighbours are all alike; along channels only the last one differs.
  """

  def axis(count, positions, least, middle):
    """Positions, those below 0 from the end, and how many tiles each is."""
    at = np.array(positions, np.float64)
    between = jnp.maximum(count - (len(at) - 1), 0)
    is_middle = np.arange(len(at)) == middle
    many = jnp.where(is_middle, between, count >= np.array(least))
    return at + (at < 0) * count, many

  n, many_n = axis(counts.n, (0, 1, -2, -1), (1, 0, 3, 2), 1)
  both = (0, 1, 2, -2, -1), (1, 3, 0, 4, 2), 2
  h, many_h = axis(counts.h, *both)
  w, many_w = axis(counts.w, *both)
  shape = len(n), len(h), len(w)
  place = _Place(
    *(
      jnp.broadcast_to(axis, shape).ravel()
      for axis in (n[:, None, None], h[:, None], w)
    )
  )
  return place, (many_n[:, None, None] * many_h[:, None] * many_w).ravel()


def _ahead(at: _Place, counts: _Place) -> _Place:
  """The tiles after these; n is the count of channel tiles after the last."""
  turns_w = at.w == counts.w - 1
  turns_h = turns_w & (at.h == counts.h - 1)
  return _Place(
    at.n + turns_h,
    jnp.where(turns_h, 0, at.h + turns_w),
    jnp.where(turns_w, 0, at.w + 1),
  )


def _behind(at: _Place, counts: _Place) -> _Place:
  """The tiles before these."""
  turns_w = at.w == 0
  turns_h = turns_w & (at.h == 0)
  return _Place(
    at.n - turns_h,
    jnp.where(turns_h, counts.h - 1, at.h - turns_w),
    jnp.where(turns_w, counts.w - 1, at.w - 1),
  )


def _kind(at: _Place, counts: _Place):
  """Number of the kind of a tile, 0 to 17: channels, rows, columns."""

  def along(position, count):
    middle = jnp.where(position == 0, 0, 1)
    return jnp.where(position == count - 1, 2, middle)

  last_n = jnp.where(at.n == counts.n - 1, 1, 0)
  return 9 * last_n + 3 * along(at.h, counts.h) + along(at.w, counts.w)


# ---- Cycles of each kind of tile


def _tiles(layer, tile, counts, bits, target, rounded) -> _Tiles:
  last_n = layer.out_channels - (counts.n - 1) * tile.out_channels
  n = jnp.where(_IS_LAST[1:], last_n, tile.out_channels)
  rows = _spans(
    layer.in_height,
    layer.out_height,
    tile.in_height,
    tile.out_height,
    counts.h,
    layer.kernel_height,
    layer.stride,
    layer.top,
    layer.bottom,
  )
  columns = _spans(
    layer.in_width,
    layer.out_width,
    tile.in_width,
    tile.out_width,
    counts.w,
    layer.kernel_width,
    layer.stride,
    layer.left,
    layer.right,
  )

  # What does not depend on the channels is worked out nine times only, as no
  # map over channels touches it
  def kernel(n, rows, columns):
    return core_cycles(layer, n, rows, columns, bits, target.kernels)

  over_columns = jax.vmap(kernel, in_axes=(None, None, 0))
  over_rows = jax.vmap(over_columns, in_axes=(None, 0, None))
  cores = jax.vmap(over_rows, in_axes=(0, None, None))(n, rows, columns)
  cores = cores.reshape(18, -1)

  if rounded:
    slowest = jnp.max(cores, axis=1)
  else:
    # Picked, as the derivative of `max` compares values that compiled code may
    # have rounded differently, and is no number where none is equal
    slowest = cores[jnp.arange(18), jnp.argmax(cores, axis=1)]

  # Rounded per tile, so that the parts of a layer's cycles add up exactly
  waiting = slowest - cores.mean(axis=1)
  if rounded:
    slowest, waiting = _nearest(slowest), _nearest(waiting)

  # Channels, rows and columns broadcast against each other
  n = n[:, None, None]
  rows = jax.tree.map(lambda sizes: sizes[:, None], rows)
  rates = target, rounded
  transfers = (
    load_x_cycles(layer, n, rows, columns, bits, *rates),
    load_w_cycles(layer, n, bits, *rates),
    store_y_cycles(layer, n, rows, columns, bits, *rates),
    pushing_cycles(layer, n, rows, columns, bits, *rates),
  )
  transfers = tuple(
    jnp.broadcast_to(cycles, (2, 3, 3)).ravel() for cycles in transfers
  )
  if rounded:  # a command may take half a cycle
    transfers = tuple(jnp.ceil(cycles) for cycles in transfers)
  return _Tiles(slowest + target.barrier_cycles, waiting, *transfers)


def _spans(
  size, out_size, tile_in, tile_out, count, kernel, stride, before, after
) -> Span:
  """First, middle and last tiles along rows or columns, [3].

  A first tile loads as much as a middle one although padding covers part of it;
  a last one loads what its outputs need (DORY's 2D_template_writer).
  """
  last_out = out_size - (count - 1) * tile_out
  beyond = size + before + after - (out_size * stride + kernel - stride)
  last_in = last_out * stride + kernel - stride - (after - beyond)
  last_in = jnp.where(count > 1, jnp.minimum(last_in, tile_in), tile_in)
  alone = _IS_LAST & (count == 1)
  return Span(
    jnp.where(_IS_LAST, last_in, tile_in),
    jnp.where(_IS_LAST, last_out, tile_out),
    jnp.where(_IS_FIRST | alone, before, 0),
    jnp.where(_IS_LAST, after, 0),
  )


def _nearest(cycles):
  """The nearest whole number, ties to even, of a sum of whole hundredths.

  Sums of floats depend on their order in the last digits; on the grid they do
  not, and no sum that is not a tie comes near one.
  """
  return jnp.rint(jnp.rint(cycles * _GRID) / _GRID)
