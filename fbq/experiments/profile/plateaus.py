"""Over which sizes of L2 a network's change of cycles is the same.

Cycles jump with the cut that DORY chooses for a layer: a change against 8 bits
is told with the sizes over which it holds.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

_HALF_POINT = 0.005


class Plateau(NamedTuple):
  """Sizes of L2 over which no change against 8/8 moves by half a point.

  Attributes:
    first, last: bytes of L2 left to tensors.
    eight: least and most cycles at 8/8; none where a layer does not fit.
    changes: by network, the mean.
  """

  first: int
  last: int
  eight: tuple[int, ...]
  changes: dict[str, float]

  def has(self, size: int) -> bool:
    """Whether a size lies on it."""
    return self.first <= size <= self.last


def plateaus(budgets: Mapping[int, Mapping[str, int]]) -> list[Plateau]:
  """All sizes that were tried, ascending; neighbours alike are one.

  Args:
    budgets: bytes of L2 -> cycles of every network by name; none where a layer
      does not fit.
  """
  runs: list[list[tuple[int, Mapping[str, int]]]] = []
  for size, cycles in sorted(budgets.items()):
    run = runs[-1] if runs else []
    if run and _alike([*(c for _, c in run), cycles]):
      run.append((size, cycles))
    else:
      runs.append([(size, cycles)])
  return [
    Plateau(
      run[0][0],
      run[-1][0],
      (min(c["8/8"] for _, c in run), max(c["8/8"] for _, c in run))
      if run[0][1]
      else (),
      {
        name: sum(_changes(c)[name] for _, c in run) / len(run)
        for name in run[0][1]
      },
    )
    for run in runs
  ]


def _changes(cycles: Mapping[str, int]) -> dict[str, float]:
  return {name: n / cycles["8/8"] - 1 for name, n in cycles.items()}


def _alike(run: Sequence[Mapping[str, int]]) -> bool:
  if not all(run):
    return not any(run)
  changes = [_changes(cycles) for cycles in run]
  return all(
    max(c[name] for c in changes) - min(c[name] for c in changes) <= _HALF_POINT
    for name in changes[0]
  )
