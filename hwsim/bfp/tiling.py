"""The least data movement of a layer over all tiles and loop orders, exactly.

What a tiling moves and holds are six numbers, elements of input, weights and
output; bits per element multiply them. So one walk over the candidates finds
those few that can be best anywhere in a box of prices at a memory size.
Everything is compared as integers: prices come in units of 1 / denominator
bits.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import jax
import numpy as np

from hwsim.bfp.candidates import Candidates, candidates
from hwsim.bfp.formats import common_denominator, scaled
from hwsim.bfp.movement import ORDERS, Nest
from hwsim.bfp.nondominated import nondominated
from hwsim.bfp.walk import NEVER, in_room, walk

OUT_MOVES = 2
"""Times an output moves when it moves: it is read and written (eq. 5)."""

_OPTIMAL = 1 << 10  # tilings that are best at the same prices, at first

_walk = jax.jit(walk, static_argnames="room")


class Tilings(NamedTuple):
  """`R` tilings of a layer.

  Attributes:
    moved: int64[R, 3], elements of input, weights and output that move; an
      output counts as often as it moves.
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


def cheapest(
  nest: Nest,
  these: Candidates,
  prices: Sequence[Fraction | int | float],
  memory_bits: int,
  out_moves: int = OUT_MOVES,
) -> tuple[Fraction, Tilings]:
  """The fewest bits that move through a memory, and all tilings that do so.

  Args:
    nest: the layer.
    these: its tiles that are looked at.
    prices: bits per element of input, weights and output.
    memory_bits: capacity for one tile of each tensor (eq. 7).
    out_moves: times a moved output counts.

  Raises:
    ValueError: not even tiles of one element fit.
    OverflowError: a sum could pass 2^63.
  """
  check_memory(prices, memory_bits)
  unit = common_denominator(prices)
  price = scaled(prices, unit)
  check_units(nest, price, out_moves)
  capacity = np.int64(min(memory_bits * unit, NEVER))
  columns, count = in_room(
    _OPTIMAL, _walk, these, price, price, capacity, np.int64(out_moves)
  )
  columns = columns[:, :count].T
  moved, held, tiles, orders = np.split(columns, (3, 6, 14), 1)
  return (
    Fraction(int(moved[0] @ price), unit),
    Tilings(moved, held, tiles, orders[:, 0]),
  )


def smallest(found: Tilings) -> Tilings:
  """Tilings of which no other moves and holds at most as much: some first."""
  kept = nondominated(np.concatenate((found.moved, found.held), 1))
  return Tilings(*(column[kept] for column in found))


def best_tiling(
  nest: Nest,
  prices: Sequence[Fraction | int | float],
  memory_bits: int,
  out_moves: int = OUT_MOVES,
) -> Tiling:
  """The tiling of a layer that moves the fewest bits through a memory.

  Of equals the first of which no other holds less. It takes 1 to 40 ms.

  Args:
    nest: the layer.
    prices: bits per element of input, weights and output.
    memory_bits: capacity for one tile of each tensor (eq. 7).
    out_moves: times a moved output counts.

  Raises:
    ValueError: not even tiles of one element fit.
    OverflowError: a sum could pass 2^63.
  """
  bits, found = cheapest(nest, candidates(nest), prices, memory_bits, out_moves)
  moved, held, tiles, orders = (column[0] for column in smallest(found))
  inputs, weights, outputs = moved.tolist()
  held_bits = sum(
    Fraction(price) * int(count)
    for price, count in zip(prices, held, strict=True)
  )
  return Tiling(
    bits,
    (inputs, weights, outputs // out_moves),
    Fraction(held_bits),
    tuple(tiles.tolist()),
    ORDERS[orders],
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


def check_units(nest: Nest, prices: np.ndarray, out_moves: int) -> None:
  """Raises OverflowError if what a tiling moves could pass 2^63 units.

  At the worst every multiplication fetches its three operands.

  Args:
    nest: the layer.
    prices: int64[3], the largest of input, weights and output, in units.
    out_moves: times a moved output counts.
  """
  inputs, weights, outputs = map(int, prices)
  bound = math.prod(nest.sizes) * (inputs + weights + out_moves * outputs)
  if bound >= 2**63:
    raise OverflowError(
      f"data movement can reach {bound} units, which 64 bits do not hold: "
      "give fewer images at a time"
    )
