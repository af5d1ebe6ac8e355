"""The least data movement of a layer at every combination of formats.

Where prices are close together, nearly all tilings are either too large for
the memory at the lowest prices, or move more at all prices than another that
fits at all. So the candidates are cut down to those that can be best anywhere,
of 910,057 of ResNet-18 to some 800, and these are priced at every combination:
no value is skipped, and none approximated. Measured on ResNet-18
(`benchmarks/movement.py`): 69,312 combinations of a layer at one memory size
in 8 to 130 ms of CPU time.
"""

from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hwsim.bfp.candidates import Candidates, candidates
from hwsim.bfp.formats import common_denominator, scaled
from hwsim.bfp.movement import Array, Nest
from hwsim.bfp.tiling import OUT_MOVES, check_memory, check_units
from hwsim.bfp.walk import KEPT, NEVER, at, in_room, walk

_SIDE = 16  # axes are padded to a multiple, so that few programs compile
_LEAF = 16  # tilings that are priced together


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
    OverflowError: a sum could pass 2^63.
  """
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
  check_units(nest, np.array([axis[-1] for axis in axes]), out_moves)

  # One program serves all layers whose axes are padded to the same length.
  side = -(-max(map(len, axes)) // _SIDE) * _SIDE
  padded = [np.pad(axis, (0, side - len(axis)), "edge") for axis in axes]
  least, _ = in_room(
    KEPT,
    _least,
    candidates(nest),
    np.stack(padded),
    np.int64(min(memory_bits * unit, NEVER)),
    np.int64(out_moves),
  )
  return least[np.ix_(*places)], unit


def least(
  these: Candidates,
  axes: Array,
  capacity: Array,
  out_moves: Array,
  room: int,
) -> tuple[jax.Array, jax.Array]:
  """Least units that move at every combination of prices, of one layer.

  `jax.vmap` maps it over layers, prices and memory sizes.

  Args:
    these: tiles of the layer.
    axes: int64[3, A], ascending prices of input, weights and output in units
      per element.
    capacity: int64[], units that the memory holds.
    out_moves: int64[], times a moved output counts.
    room: tilings that are kept.

  Returns:
    int64[A, A, A]; int32[], tilings that had to be kept: if more than `room`,
    the movements are worthless.
  """
  columns, count = walk(
    these, axes[:, 0], axes[:, -1], capacity, out_moves, room
  )
  grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"))[..., None]

  def step(j, best):
    few = lax.dynamic_slice_in_dim(columns, j * _LEAF, _LEAF, 1)
    meant = j * _LEAF + jnp.arange(_LEAF) < count
    fits = meant & (at(grid, few[3:6]) <= capacity)
    units = jnp.where(fits, at(grid, few[:3]), NEVER)
    return jnp.minimum(best, units.min(-1))

  start = jnp.full(grid.shape[1:-1], NEVER)
  return lax.fori_loop(0, -(-count // _LEAF), step, start), count


_least = jax.jit(least, static_argnames="room")
