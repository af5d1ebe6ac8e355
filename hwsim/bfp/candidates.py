"""Tiles of a layer of which one is the best at any prices and memory size."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hwsim.bfp.movement import LOOPS, ORDERS, Nest

_FREE = ("wn", "hn", "cs", "cr", "k", "k", "k", "k")
"""Per order, loops whose trip count changes no volume: their tiles stay small.

The innermost loops reuse the tensors that they do not index, and those that
they do move once. Kernel loops may slide only in tiles of at least the stride.
"""

_SIZES = 128  # room for the sizes of a loop: up to 4,225 steps


class Candidates(NamedTuple):
  """Tiles of a layer: of every order all combinations of a few sizes a loop.

  Attributes:
    sizes: int64[8], trips of the loops over single elements.
    stride: int64[].
    tiles: int64[8, 8, T], sizes by order and loop.
    counts: int64[8, 8], sizes that are meant; none of a loop: no tile of the
      order.
  """

  sizes: np.ndarray
  stride: np.ndarray
  tiles: np.ndarray
  counts: np.ndarray


def critical_sizes(size: int) -> np.ndarray:
  """The smallest tile size for every number of trips: int64[about 2 sqrt]."""
  return np.unique(-(-size // np.arange(1, size + 1)))


def candidates(nest: Nest) -> Candidates:
  """Tiles of which one is best for each of `ORDERS`.

  Volumes depend on trip counts only, and tiles grow with their size, except
  that kernel tiles below the stride read fewer rows: with a stride all their
  sizes are kept. A square layer needs the orders with rows first only.
  """
  square = (nest.h, nest.r) == (nest.w, nest.s)
  sizes = {
    index: [_sizes(nest, index, loop) for loop in LOOPS]
    for index in range(0, len(ORDERS), 2 if square else 1)
  }
  return combinations(nest, sizes)


def _sizes(nest, order, loop):
  size = getattr(nest, loop)
  taps = loop in "rs"
  if loop in _FREE[order]:
    return {1, nest.stride} if taps and nest.stride <= size else {1}
  if loop == "g":
    return {1}
  if taps and nest.stride > 1:
    return range(1, size + 1)
  return critical_sizes(size)


def combinations(
  nest: Nest, sizes: Mapping[int, Sequence[Collection[int]]]
) -> Candidates:
  """All tiles of some sizes.

  Args:
    nest: the layer.
    sizes: by index into `ORDERS`, the sizes of each of the eight loops.
  """
  lengths = [[len(few) for few in loops] for loops in sizes.values()]
  most = max(map(max, lengths))
  if max(map(math.prod, lengths)) >= 2**31:
    raise ValueError(f"{nest} has more than 2^31 tiles, too many to try")
  room = max(_SIZES, 1 << (most - 1).bit_length())
  tiles = np.ones((len(ORDERS), len(LOOPS), room), np.int64)
  counts = np.zeros((len(ORDERS), len(LOOPS)), np.int64)
  for order, loops in sizes.items():
    for i, few in enumerate(loops):
      tiles[order, i, : len(few)] = sorted(few)
      counts[order, i] = len(few)
  return Candidates(np.array(nest.sizes), np.array(nest.stride), tiles, counts)
