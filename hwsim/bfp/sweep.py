"""The least data movement of a layer at every combination of formats.

Where prices are close together, nearly all tilings are either too large for
the memory at the lowest prices, or cost more at the lowest than another does at
the highest. So the grid of prices is halved again and again, and each part
keeps only the tilings that can be best in it: no value is skipped, and none
approximated. Measured on ResNet-18 (`benchmarks/movement.py`): 69,312
combinations of a layer at one memory size in 2.5 to 13 ms of CPU time.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from hwsim.bfp.formats import common_denominator, scaled
from hwsim.bfp.movement import Nest
from hwsim.bfp.tiling import OUT_MOVES, check_memory, exact_dtype, tiling_table

_LEAF = 1 << 15  # products of tilings and prices formed at once; in L2 cache


def least_movement(
  nest: Nest,
  in_prices: Sequence[Fraction],
  weight_prices: Sequence[Fraction],
  out_prices: Sequence[Fraction],
  memory_bits: int,
  out_moves: int = OUT_MOVES,
) -> tuple[np.ndarray, int]:
  """Least data movement at every combination of prices, exactly.

  Args:
    nest: the layer.
    in_prices, weight_prices, out_prices: bits per element, `A`, `W` and `O`
      prices in any order; equal ones are searched once.
    memory_bits: capacity for one tile of each tensor (eq. 7).
    out_moves: times a moved output counts.

  Returns:
    int64[A, W, O] in units of 1 / denominator bits, and the denominator.

  Raises:
    ValueError: not even tiles of one element fit at the largest prices.
  """
  # The table of tilings takes up to 0.9 s: what cannot work is refused before.
  prices = (in_prices, weight_prices, out_prices)
  for name, given in zip(("input", "weight", "output"), prices, strict=True):
    if not given:
      raise ValueError(f"no {name} prices were given, expected at least one")
  check_memory([max(given) for given in prices], memory_bits)

  # In a common unit all prices are integers and every sum is exact.
  unit = common_denominator([p for given in prices for p in set(given)])
  axes, places = zip(
    *(np.unique(scaled(p, unit), return_inverse=True) for p in prices),
    strict=True,
  )

  # Products of float64 go through BLAS; `exact_dtype` allows them only where no
  # sum reaches 2^53.
  table = tiling_table(nest)
  factors = np.array((1, 1, out_moves))
  dtype = exact_dtype(
    table.moved * factors, table.held, [axis.max() for axis in axes]
  )
  least = np.empty([len(axis) for axis in axes], np.int64)
  _fill(
    least,
    (table.moved * factors).astype(dtype),
    table.held.astype(dtype),
    [axis.astype(dtype) for axis in axes],
    memory_bits * unit,
  )
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
