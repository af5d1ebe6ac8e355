"""The data movement that BitQ's released code computes, for comparison.

It is not the model of `movement`: trip counts are real numbers, an input tile
has (x + w) (y + h) elements whatever the stride, and four levels of a desktop
CPU are costed: registers, L1, L2, and L3 shared by eight threads. Its solver
minimises the largest of the four costs; the order in which levels bind is
therefore part of its answer, and only the first of them is the same however
the solver ends. One bit-width serves all tensors of a layer there; here each
has its own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

RELEASED_LOOPS = "bfxycwh"
"""Batch, output channels, output columns x and rows y, input channels, kernel
columns w and rows h."""

_TENSORS = (
  ("bcxwyh", {"x": "w", "w": "x", "y": "h", "h": "y"}),
  ("fcwh", {}),
  ("bfxy", {}),
)  # loops of input, weights and output; which loops share a window
_COEFFICIENTS = (1, 1, 2)  # outputs are read and written
_MICRO_KERNEL: dict[str, float] = dict(b=1, f=16, x=1, y=6, c=1, w=1, h=1)
_L1_BITS = 8 * 32 * 1024
_L3_BITS = 8 * 16 * 1024**2


class Level(NamedTuple):
  """One memory boundary of the released model.

  Attributes:
    name: which memories it lies between.
    tile: number of the tile that moves, in the released code.
    within: number of the tile it is part of; None for the whole layer.
    threads: that share the traffic.
    bandwidth: the constant that its cost is divided by.
  """

  name: str
  tile: int
  within: int | None
  threads: int
  bandwidth: int


LEVELS = (
  Level("L1 to registers", 0, 1, 8, 65),
  Level("L2 to L1", 1, 2, 8, 57),
  Level("L3 to L2", 2, 3, 8, 28),
  Level("DRAM to L3", 4, None, 1, 16),
)


def released_costs(
  layer: Sequence[int],
  bits: Sequence[float],
  tiles: Sequence[Mapping[str, float]],
  orders: Sequence[str],
) -> tuple[float, ...]:
  """Bandwidth-scaled bits at each of `LEVELS`, as the released solver has them.

  Args:
    layer: sizes in the order of `RELEASED_LOOPS`; x and y are output sizes.
    bits: per element of input, weights and output.
    tiles: five mappings from loop to tile size, real numbers: levels 0 to 4.
    orders: four loop orders, innermost loop first, one per level.
  """
  if len(tiles) != 5 or len(orders) != len(LEVELS):
    raise ValueError(
      f"got {len(tiles)} levels of tiles and {len(orders)} orders, expected 5 "
      f"and {len(LEVELS)}"
    )
  whole: dict[str, float] = dict(zip(RELEASED_LOOPS, layer, strict=True))
  costs = []
  for level, order in zip(LEVELS, orders, strict=True):
    outer = whole if level.within is None else tiles[level.within]
    moved = level_movement(outer, tiles[level.tile], order, bits)
    for d in RELEASED_LOOPS:
      moved *= whole[d] / outer[d]
    costs.append(moved / level.threads / level.bandwidth)
  return tuple(costs)


def released_bottleneck(
  layer: Sequence[int], bits: Sequence[float]
) -> tuple[float, str]:
  """The largest of the four costs after the released search, and its level.

  Closed form, no search: order and tile of the registers are fixed in the
  released code, so their traffic is least with as many input channels in L1 as
  fit beside the smallest tile; that of DRAM is least if everything moves once.
  The larger of the two is a bound of what the solver can reach, and what it did
  reach in all 50 recorded runs (L1 and L2 then have room to stay below).

  Raises:
    ValueError: the layer is smaller than the fixed micro-kernel, which the
      released code cannot tile, or has tensors larger than L3.
  """
  whole: dict[str, float] = dict(zip(RELEASED_LOOPS, layer, strict=True))
  if whole["f"] < _MICRO_KERNEL["f"] or whole["y"] < _MICRO_KERNEL["y"]:
    raise ValueError(
      f"{whole['f']:g} output channels and {whole['y']:g} output rows: the "
      "released code tiles layers of at least 16 and 6"
    )
  need = tile_bits(whole, bits)
  if need > _L3_BITS:
    raise ValueError(
      f"the tensors of the layer have {need:.0f} bits, and L3 {_L3_BITS}: the "
      "closed form holds only where everything fits"
    )
  l1 = _MICRO_KERNEL | {"w": whole["w"], "h": whole["h"], "c": 0}
  outputs = tile_bits(l1, bits)
  per_channel = tile_bits(l1 | {"c": 1}, bits) - outputs
  l1["c"] = min(whole["c"], (_L1_BITS - outputs) / per_channel)
  tiles = [_MICRO_KERNEL, l1, whole, whole, whole]
  costs = released_costs(layer, bits, tiles, ["hcwbfxy"] * len(LEVELS))
  worst = 0 if costs[0] > costs[3] else 3
  return costs[worst], LEVELS[worst].name


def tile_bits(tile: Mapping[str, float], bits: Sequence[float]) -> float:
  """Bits of a tile of each tensor, with the released code's windows."""
  return sum(
    price * _elements({d: tile[d] for d in loops}, windows)
    for (loops, windows), price in zip(_TENSORS, bits, strict=True)
  )


def level_movement(
  outer: Mapping[str, float],
  tile: Mapping[str, float],
  order: str,
  bits: Sequence[float],
) -> float:
  """Bits that tiles of one outer tile move, by MOpt's rules.

  Going outward, loops before a tensor's first one reuse it. The first one
  moves the tensor in slices: an input's window slides, so that only its halo
  repeats. Every later loop moves everything again.
  """
  total = 0.0
  tensors = zip(_TENSORS, bits, _COEFFICIENTS, strict=True)
  for (loops, windows), price, coefficient in tensors:
    size = {d: tile[d] for d in loops}
    repeats = 1.0
    fresh = True
    for d in order:
      if fresh and d in windows:
        size[d] = outer[d]
      elif not fresh or d in loops:
        repeats *= outer[d] / tile[d]
      fresh = fresh and d not in loops
    total += price * coefficient * repeats * _elements(size, windows)
  return total


def _elements(size, windows):
  """Product of the sizes; of x + w and y + h where they share a window."""
  count = 1.0
  for d, length in size.items():
    if d not in windows:
      count *= length
  for d in "xy" if windows else "":
    count *= size[d] + size[windows[d]]
  return count
