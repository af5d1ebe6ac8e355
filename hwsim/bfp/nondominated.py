"""Rows of a table that no other row beats in every column, fast."""

import numpy as np

_BLOCK = 2048  # rows whose bit sets stay in cache together


def nondominated(rows: np.ndarray) -> np.ndarray:
  """Indices, ascending, of distinct rows with no row below them: int64[M].

  A row is dropped if another is at most as large in all columns and differs;
  of equal rows the first stays. Sorted by their sum of ranks, only earlier rows
  can dominate: so what is left of the first block is final, and everything
  that it dominates is dropped before the next block is looked at.

  Args:
    rows: int64[N, D], D at least 1.
  """
  _, index = np.unique(rows, axis=0, return_index=True)
  ranks = np.stack(
    [np.unique(column, return_inverse=True)[1] for column in rows[index].T], 1
  ).astype(np.int32)
  by_sum = np.argsort(ranks.sum(1), kind="stable")
  index, ranks = index[by_sum], ranks[by_sum]
  kept = []
  while len(index):
    block = ranks[:_BLOCK]
    best = ~_dominated(block, block)
    kept.append(index[:_BLOCK][best])
    index, ranks = index[_BLOCK:], ranks[_BLOCK:]
    left = ~_dominated(ranks, block[best])
    index, ranks = index[left], ranks[left]
  return np.sort(np.concatenate(kept))


def _dominated(rows, others):
  """Whether one of `others`, but for the row itself, is below: bool[N].

  One bit per other row: those that are at most x in one column are a bit set,
  found once per distinct x, and the rows that are at most as large as a row are
  the intersection over its columns. 64 pairs are compared at once.

  Args:
    rows: int32[N, D].
    others: int32[M, D], distinct; may be the rows themselves.
  """
  common = np.full((len(rows), -(-len(others) // 64)), ~np.uint64(0))
  for row, other in zip(rows.T, others.T, strict=True):
    order = np.argsort(other, kind="stable")
    common &= _prefixes(order)[np.searchsorted(other[order], row, "right")]
  if rows is others:
    own = np.arange(len(rows))
    bit = np.uint64(1) << (own & 63).astype(np.uint64)
    common[own, own >> 6] &= ~bit
  return common.any(1)


def _prefixes(order):
  """Bit sets of the first 0, 1, ... M entries of `order`: uint64[M + 1, W]."""
  sets = np.zeros((len(order) + 1, -(-len(order) // 64)), np.uint64)
  bit = np.uint64(1) << (order & 63).astype(np.uint64)
  sets[np.arange(1, len(order) + 1), order >> 6] = bit
  return np.bitwise_or.accumulate(sets, axis=0)
