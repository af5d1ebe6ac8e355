"""Rows of a table that no other row beats in every column, fast."""

import numpy as np

_BLOCK = 2048  # rows whose bit sets stay in cache together


def nondominated(rows: np.ndarray) -> np.ndarray:
  """Indices, ascending, of distinct rows with no row below them: int64[M].

  A row is dropped if another is at most as large in all columns and differs;
  of equal rows the first stays. Rows are sorted by their sum of ranks, so that
  only earlier rows can dominate, and split in halves; a half is held against
  the other with one bit per row: the rows that are at most x in one column are
  a bit set, found once per distinct x, and the rows that dominate a row are
  the intersection over its columns. Measured on the 6-D tables of ResNet-18:
  about 64 comparisons per machine word (`benchmarks/movement.py`).

  Args:
    rows: int64[N, D].
  """
  _, index = np.unique(rows, axis=0, return_index=True)
  ranks = np.stack(
    [np.unique(column, return_inverse=True)[1] for column in rows[index].T], 1
  ).astype(np.int32)
  by_sum = np.argsort(ranks.sum(1), kind="stable")
  return np.sort(index[by_sum[_front(ranks[by_sum])]])


def _front(ranks):
  """Positions of the non-dominated among distinct rows, sorted by sum."""
  if len(ranks) <= _BLOCK:
    below = _dominated(ranks, ranks, strictly=True)
    return np.flatnonzero(~below)
  half = len(ranks) // 2
  first = _front(ranks[:half])
  second = half + _front(ranks[half:])
  below = _dominated(ranks[second], ranks[first])
  return np.concatenate((first, second[~below]))


def _dominated(rows, others, strictly=False):
  """Whether one of `others` is at most each row in every column: bool[N].

  Args:
    rows: int32[N, D].
    others: int32[M, D], distinct rows.
    strictly: `rows` are the others: a row does not dominate itself.
  """
  found = np.zeros(len(rows), bool)
  for start in range(0, len(others), _BLOCK):
    left = np.flatnonzero(~found)
    block = others[start : start + _BLOCK]
    common = None
    for j in range(rows.shape[1]):
      order = np.argsort(block[:, j], kind="stable")
      sets = _prefixes(order)
      place = np.searchsorted(block[order, j], rows[left, j], side="right")
      common = sets[place] if common is None else common & sets[place]
    if common is None:
      raise ValueError("rows have no columns")
    if strictly:
      own = start + np.arange(len(left))
      word, bit = own >> 6, (own & 63).astype(np.uint64)
      common[np.arange(len(left)), word] &= ~(np.uint64(1) << bit)
    found[left] = common.any(1)
  return found


def _prefixes(order):
  """Bit sets of the first 0, 1, ... M entries of `order`: uint64[M + 1, W]."""
  sets = np.zeros((len(order) + 1, -(-len(order) // 64)), np.uint64)
  bit = np.uint64(1) << (order & 63).astype(np.uint64)
  sets[np.arange(1, len(order) + 1), order >> 6] = bit
  return np.bitwise_or.accumulate(sets, axis=0)
