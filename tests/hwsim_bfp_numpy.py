"""The search for the least data movement in numpy, which `hwsim.bfp` replaced.

It goes another way to the same numbers: orders are walked letter by letter, one
table of all tilings that no other beats serves every price and memory size, and
the grid of prices is halved until few tilings are left. 4 s for ResNet-18.
"""

import functools

import numpy as np

from hwsim.bfp.candidates import candidates
from hwsim.bfp.formats import common_denominator, scaled
from hwsim.bfp.movement import LOOPS, ORDERS, TENSORS
from hwsim.bfp.nondominated import nondominated

_WINDOW = "hwrs"  # loops that index rows and columns of the input
_LEAF = 1 << 15  # products of tilings and prices formed at once


def touched(outputs, taps, stride):
  """Rows of input that `outputs` rows and `taps` kernel rows read, exactly."""
  return np.where(taps >= stride, stride * (outputs - 1) + taps, outputs * taps)


def footprints(nest, tiles):
  """Elements of a tile of input, weights, output: int64[..., 3]."""
  g, n, k, c, h, w, r, s = np.moveaxis(tiles, -1, 0)
  rows = touched(h, r, nest.stride)
  columns = touched(w, s, nest.stride)
  return np.stack(
    (g * n * c * rows * columns, g * k * c * r * s, g * n * k * h * w), -1
  )


def compulsory(nest):
  """Elements of input, weights and output, int64[3]: each moves once."""
  return footprints(nest, np.array(nest.sizes))


def volumes(nest, tiles, order):
  """Elements of input, weights and output that are moved: int64[..., 3]."""
  count = -(-np.array(nest.sizes) // tiles)
  size = dict(zip(LOOPS, nest.sizes, strict=True))
  count_of = {d: count[..., i] for i, d in enumerate(LOOPS)}
  tile_of = {d: tiles[..., i] for i, d in enumerate(LOOPS)}
  moved = []
  for tensor in TENSORS:
    volume = np.ones(count.shape[:-1], np.int64)
    first = np.ones(count.shape[:-1], bool)  # no loop over the tensor yet
    slides = dict.fromkeys(_WINDOW, first & False)
    for d in order:
      loops = count_of[d] > 1
      if d not in tensor:
        volume = volume * np.where(first, 1, count_of[d])
      else:
        if d in slides:
          slides[d] = first & loops
        first = first & ~loops
    for d in tensor:
      if tensor is not TENSORS[0] or d not in _WINDOW:
        volume = volume * size[d]
    if tensor is TENSORS[0]:
      for out, tap in ("hr", "ws"):
        volume = volume * _extent(
          (size[out], tile_of[out], slides[out]),
          (size[tap], tile_of[tap], slides[tap]),
          nest.stride,
        )
    moved.append(volume)
  return np.stack(moved, -1)


def _extent(out, tap, stride):
  """Rows of input moved by the loops over output and kernel rows."""
  (rows, row_tile, rows_slide), (taps, tap_tile, taps_slide) = out, tap
  row_tile = np.where(rows_slide, rows, row_tile)
  tap_tile = np.where(taps_slide & (tap_tile >= stride), taps, tap_tile)
  row_full, row_rest = _pieces(rows, row_tile)
  tap_full, tap_rest = _pieces(taps, tap_tile)
  return row_full * (
    tap_full * touched(row_tile, tap_tile, stride)
    + touched(row_tile, tap_rest, stride)
  ) + (
    tap_full * touched(row_rest, tap_tile, stride)
    + touched(row_rest, tap_rest, stride)
  )


def _pieces(size, tile):
  full = -(-size // tile) - 1
  return full, size - full * tile


def tiles_of(nest, index):
  """The candidates of `ORDERS[index]`: int64[P, 8]."""
  these = candidates(nest)
  grid = np.meshgrid(
    *(
      tiles[:count]
      for tiles, count in zip(
        these.tiles[index], these.counts[index], strict=True
      )
    ),
    indexing="ij",
  )
  return np.stack([axis.ravel() for axis in grid], 1)


@functools.lru_cache(maxsize=64)
def tiling_table(nest):
  """Tilings that no other beats: moved and held int64[R, 3], tiles, orders."""
  parts = []
  for index, order in enumerate(ORDERS):
    tiles = tiles_of(nest, index)
    if len(tiles):
      keys = np.concatenate(
        (volumes(nest, tiles, order), footprints(nest, tiles)), 1
      )
      kept = nondominated(keys)
      parts.append((keys[kept], tiles[kept], np.full(len(kept), index)))
  keys, tiles, orders = (
    np.concatenate(part) for part in zip(*parts, strict=True)
  )
  kept = nondominated(keys)
  return keys[kept, :3], keys[kept, 3:], tiles[kept], orders[kept]


def least_movement(nest, in_prices, weight_prices, out_prices, memory_bits):
  """Least units at every combination of prices, int64[A, W, O], and units."""
  prices = (in_prices, weight_prices, out_prices)
  unit = common_denominator([p for given in prices for p in set(given)])
  axes, places = zip(
    *(np.unique(scaled(p, unit), return_inverse=True) for p in prices),
    strict=True,
  )
  moved, held, _, _ = tiling_table(nest)
  least = np.empty([len(axis) for axis in axes], np.int64)
  _fill(least, moved * (1, 1, 2), held, axes, memory_bits * unit)
  return least[np.ix_(*places)], unit


def _fill(least, moved, held, axes, capacity):
  """Writes the least movement at all prices on `axes` into `least`."""
  low = np.array([axis[0] for axis in axes])
  high = np.array([axis[-1] for axis in axes])
  fits = held @ low <= capacity
  moved, held = moved[fits], held[fits]
  always = held @ high <= capacity
  most = (moved[always] @ high).min()
  useful = moved @ low <= most
  moved, held = moved[useful], held[useful]
  if least.size * len(moved) <= _LEAF or least.size == 1:
    grid = np.stack(
      [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]
    )
    cost = np.where(held @ grid <= capacity, moved @ grid, most)
    least[...] = cost.min(0).reshape(least.shape)
    return
  spread = [moved[:, t].max() * (high[t] - low[t]) for t in range(3)]
  t = int(np.argmax(spread))
  middle = len(axes[t]) // 2
  for part in (slice(middle), slice(middle, None)):
    where = tuple(part if u == t else slice(None) for u in range(3))
    halves = [axes[u][where[u]] for u in range(3)]
    _fill(least[where], moved, held, halves, capacity)
