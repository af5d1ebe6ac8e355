"""The least data movement of a layer over all tiles and loop orders, exactly.

What a tiling moves and holds are six numbers, elements of input, weights and
output; bits per element multiply them. So one table of six columns, without
the rows that another row beats, answers every combination of formats at every
memory size. Everything is compared as integers: prices come in units of
1 / denominator bits.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hwsim.bfp.formats import common_denominator, scaled
from hwsim.bfp.movement import (
  LOOPS,
  ORDERS,
  Nest,
  footprints,
  volumes,
)
from hwsim.bfp.nondominated import nondominated

OUT_MOVES = 2
"""Times an output moves when it moves: it is read and written (eq. 5)."""

_FREE = ("wn", "hn", "cs", "cr", "k", "k", "k", "k")
"""Per order, loops whose trip count changes no volume: their tiles stay small.

The innermost loops reuse the tensors that they do not index, and those that
they do move once. Kernel loops may slide only in tiles of at least the stride.
"""

_NEVER = np.iinfo(np.int64).max


class TilingTable(NamedTuple):
  """The `R` tilings of a layer that are best for some prices and memory.

  Attributes:
    moved: int64[R, 3], elements of input, weights and output that move; an
      output counts once here, though it is read and written.
    held: int64[R, 3], elements of one tile.
    tiles: int64[R, 8], in the order of `LOOPS`.
    orders: int64[R], index into `ORDERS`.
  """

  moved: np.ndarray
  held: np.ndarray
  tiles: np.ndarray
  orders: np.ndarray


class Tiling(NamedTuple):
  """One tiling, and what it moves.

  Attributes:
    bits: bits that move in total, exactly.
    moved: elements of input, weights and output that move, an output counted
      once.
    held_bits: bits of one tile of each tensor.
    tile: sizes of the tile, in the order of `LOOPS`.
    order: order of the loops, innermost first.
  """

  bits: Fraction
  moved: tuple[int, int, int]
  held_bits: Fraction
  tile: tuple[int, ...]
  order: str


def critical_sizes(size: int) -> np.ndarray:
  """The smallest tile size for every number of trips: int64[about 2 sqrt]."""
  return np.unique(-(-size // np.arange(1, size + 1)))


def candidates(nest: Nest, order: int) -> np.ndarray:
  """Tiles int64[P, 8] of which one is best for `ORDERS[order]`.

  Volumes depend on trip counts only, and tiles grow with their size, except
  that kernel tiles below the stride read fewer rows: with a stride all their
  sizes are kept.
  """
  sizes = []
  for loop, size in zip(LOOPS, nest.sizes, strict=True):
    if loop in _FREE[order]:
      taps = loop in "rs" and nest.stride <= size
      choice = {1, nest.stride} if taps else {1}
    elif loop == "g":
      choice = {1}
    elif loop in "rs" and nest.stride > 1:
      choice = range(1, size + 1)
    else:
      choice = critical_sizes(size)
    sizes.append(np.array(sorted(choice), np.int64))
  grid = np.meshgrid(*sizes, indexing="ij")
  return np.stack([axis.ravel() for axis in grid], 1)


def _orders(nest):
  """Positions in `ORDERS`: of a square layer, the orders with rows first."""
  square = (nest.h, nest.r) == (nest.w, nest.s)
  return range(0, len(ORDERS), 2 if square else 1)


@functools.lru_cache(maxsize=512)
def tiling_table(nest: Nest) -> TilingTable:
  """Every tiling of a layer that can be best for some prices and memory.

  Cached by shape, read-only.
  """
  parts = []
  for index in _orders(nest):
    tiles = candidates(nest, index)
    moved = volumes(nest, tiles, ORDERS[index])
    keys = np.concatenate((moved, footprints(nest, tiles)), 1)
    kept = nondominated(keys)
    parts.append((keys[kept], tiles[kept], np.full(len(kept), index)))
  keys, tiles, orders = (
    np.concatenate(part) for part in zip(*parts, strict=True)
  )
  kept = nondominated(keys)
  keys, tiles, orders = keys[kept], tiles[kept], orders[kept]
  for array in (keys, tiles, orders):
    array.setflags(write=False)
  return TilingTable(keys[:, :3], keys[:, 3:], tiles, orders)


def best_tiling(
  nest: Nest,
  prices: Sequence[Fraction | int | float],
  memory_bits: int,
  out_moves: int = OUT_MOVES,
) -> Tiling:
  """The tiling of a layer that moves the fewest bits through a memory.

  Of equals the first in the table. The table takes 0.02 to 0.9 s at the first
  question about a shape, `search_tiling` less; later ones take 0.4 ms.

  Args:
    nest: the layer.
    prices: bits per element of input, weights and output.
    memory_bits: capacity for one tile of each tensor (eq. 7).
    out_moves: times a moved output counts.

  Raises:
    ValueError: not even tiles of one element fit.
  """
  check_memory(prices, memory_bits)
  return _cheapest(tiling_table(nest), prices, memory_bits, out_moves)


def search_tiling(
  nest: Nest,
  prices: Sequence[Fraction | int | float],
  memory_bits: int,
  out_moves: int = OUT_MOVES,
) -> Tiling:
  """As `best_tiling`, for a single question: tries all tilings that fit."""
  check_memory(prices, memory_bits)
  unit = common_denominator(prices)
  price = scaled(prices, unit)
  found = []
  for index in _orders(nest):
    tiles = candidates(nest, index)
    held = footprints(nest, tiles)
    fits = held @ price <= memory_bits * unit
    tiles, held = tiles[fits], held[fits]
    moved = volumes(nest, tiles, ORDERS[index])
    fitting = TilingTable(moved, held, tiles, np.full(len(tiles), index))
    found.append(_cheapest(fitting, prices, memory_bits, out_moves))
  return min(found, key=lambda tiling: tiling.bits)


def _cheapest(table, prices, memory_bits, out_moves) -> Tiling:
  unit = common_denominator(prices)
  price = scaled(prices, unit)
  moved = table.moved * (1, 1, out_moves)
  exact_dtype(moved, table.held, price)
  cost, held = moved @ price, table.held @ price
  row = int(np.argmin(np.where(held <= memory_bits * unit, cost, _NEVER)))
  inputs, weights, outputs = table.moved[row].tolist()
  return Tiling(
    Fraction(int(cost[row]), unit),
    (inputs, weights, outputs),
    Fraction(int(held[row]), unit),
    tuple(table.tiles[row].tolist()),
    ORDERS[table.orders[row]],
  )


def check_memory(
  prices: Sequence[Fraction | int | float], memory_bits: int
) -> None:
  """Raises ValueError if one element of each tensor does not fit."""
  need = sum(Fraction(price) for price in prices)
  if need > memory_bits:
    raise ValueError(
      f"a memory of {memory_bits} bits holds no tile: one element of input, "
      f"weights and output at {', '.join(f'{float(p):g}' for p in prices)} "
      f"bits needs {math.ceil(need)} bits"
    )


def exact_dtype(moved: np.ndarray, held: np.ndarray, prices) -> type:
  """float64, which numpy multiplies with BLAS, if no sum reaches 2^53; int64.

  Args:
    moved, held: int64[R, 3], elements.
    prices: the largest of each tensor, in units.

  Raises:
    OverflowError: a sum could pass 2^63.
  """
  bound = max(
    sum(int(n) * int(p) for n, p in zip(rows.max(0), prices, strict=True))
    for rows in (moved, held)
  )
  if bound >= 2**63:
    raise OverflowError(
      f"data movement can reach {bound} units, which 64 bits do not hold: "
      "give fewer images at a time"
    )
  return np.float64 if bound < 2**53 else np.int64
