"""All assignments that no other dominates, by elimination.

The messages of `fbq.search.elimination` become sets: for every choice of the
variables a message is over, the (costs, value) pairs that can be reached by the
variables behind it and that no other pair dominates. Sets of independent parts
are added point by point (Nemhauser and Ullmann, 1969). What remains at the end
is the exact front: only points that can be part of no optimum are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from fbq.search.elimination import Step
from fbq.search.terms import TermModel

MOST_POINTS = 1 << 19  # before dominated ones are left out
_PRUNE_ABOVE = 4096  # points of a sum to which more sets are added
THIN_ABOVE = 256  # points; smaller sets stay exact at any resolution
_BLOCK = 512
_TOO_MANY = (
  f"more than {MOST_POINTS} points in one set: a front needs a (larger) "
  "resolution"
)


class TooMany(Exception):
  """A set would have more than `MOST_POINTS` points."""


class Points(NamedTuple):
  """`N` partial assignments.

  Attributes:
    costs: int64 [C, N].
    value: float64 [N].
    option: uint8 [N], option of the step's variable.
    parts: int32 [M, N], which point of each of the `M` messages it is made of.
  """

  costs: np.ndarray
  value: np.ndarray
  option: np.ndarray
  parts: np.ndarray

  def take(self, which) -> "Points":
    """The points at some positions, or of a mask."""
    return Points(
      self.costs[:, which],
      self.value[which],
      self.option[which],
      self.parts[:, which],
    )


class Sets(NamedTuple):
  """The message of a step: points of one choice of its scope after another.

  Attributes:
    start: int64 [choices + 1], where the points of each choice begin.
    points: points of all choices.
  """

  start: np.ndarray
  points: Points


class Keep(Protocol):
  """Which points of a step's set to keep, given the choice of its scope."""

  def __call__(self, step: int, choice: int, points: Points) -> np.ndarray: ...


def nondominated(costs: np.ndarray, value: np.ndarray) -> np.ndarray:
  """Positions of the points none other dominates, by ascending first cost.

  Of equal points the first stays.

  Args:
    costs: [C, N], C >= 1.
    value: [N].
  """
  if len(costs) == 1:
    order = np.argsort(costs[0], kind="stable")
    cost, worth = costs[0][order], value[order]
    best = np.maximum.accumulate(worth)
    keep = np.ones(len(order), bool)
    keep[1:] = worth[1:] > best[:-1]
    order, cost = order[keep], cost[keep]
    last = np.ones(len(order), bool)  # of those that cost the same
    last[:-1] = cost[1:] > cost[:-1]
    return order[last]
  order = np.lexsort((-value, *costs[::-1]))
  # A point can only be dominated by one that comes before it.
  rows = np.concatenate([costs[1:], -value[None]])[:, order]
  kept = np.empty(0, np.int64)
  for start in range(0, len(order), _BLOCK):
    block = np.arange(start, min(start + _BLOCK, len(order)))
    block = block[~_covered(rows[:, block], rows[:, kept])]
    inside = _covers(rows[:, block], rows[:, block])
    block = block[~np.triu(inside, 1).any(0)]
    kept = np.concatenate([kept, block])
  return order[kept]


def _covers(left, right):
  """bool [N, M]: left point n is no worse than right point m in any row."""
  result = left[0][:, None] <= right[0]
  for a, b in zip(left[1:], right[1:], strict=True):
    result &= a[:, None] <= b
  return result


def _covered(points, by):
  result = np.zeros(points.shape[1], bool)
  for start in range(0, by.shape[1], _BLOCK):
    result |= _covers(by[:, start : start + _BLOCK], points).any(0)
  return result


class Thin:
  """A `Keep` of what is not dominated, thinned where there is much of it.

  Errors in the cost of the parts of a point add up. Each step may use the share
  of the steps behind it that these have not used.
  """

  def __init__(self, steps, resolution):
    self._resolution = resolution
    self._steps = steps
    self._spent = [0] * len(steps)
    self._behind = [1] * len(steps)
    for i, step in enumerate(steps):
      self._behind[i] += sum(self._behind[j] for j, _ in step.messages)

  @property
  def error(self) -> int:
    return self._spent[-1]

  def __call__(self, step, choice, points):
    kept = nondominated(points.costs, points.value)
    if not self._resolution:
      return kept
    before = sum(self._spent[j] for j, _ in self._steps[step].messages)
    self._spent[step] = max(self._spent[step], before)
    share = self._resolution * self._behind[step] // len(self._steps)
    if len(kept) <= THIN_ABOVE or share <= before:
      return kept
    # The last, most valuable, of each bucket stands for the others in it.
    costs = points.costs[0, kept]
    bucket = costs // (share - before + 1)
    last = np.append(np.flatnonzero(np.diff(bucket)), len(kept) - 1)
    stands = last[np.searchsorted(last, np.arange(len(kept)))]
    shift = int((costs[stands] - costs).max())
    self._spent[step] = max(self._spent[step], before + shift)
    return kept[last]


def eliminate(
  model: TermModel, steps: Sequence[Step], keep: Keep
) -> list[Sets]:
  """The sets of every step; the last one has one choice, and its points are
  those of whole assignments.

  Args:
    model: model with `C` costs.
    steps: steps of `elimination.plan`.
    keep: says which points stay; they are kept in the order it gives.

  Raises:
    TooMany: a set would be too large.
  """
  sets: list[Sets] = []
  for at, step in enumerate(steps):
    # Of every message, which of its choices goes with each choice and option.
    tables = step_tables(model, step)
    sources = [
      (sets[i], np.arange(len(sets[i].start) - 1).reshape(shape))
      for i, shape in step.messages
    ]
    sizes = [len(model.options[v]) for v in step.axes]
    sources = [
      (s, variable_last(np.broadcast_to(index, sizes), step))
      for s, index in sources
    ]

    # Choice by choice, so that only one choice's sums are held before `keep`
    # thins them.
    found = []
    for choice in range(len(tables[1])):
      points = _union(at, choice, tables, sources)
      found.append(points.take(keep(at, choice, points)))
    start = np.cumsum([0, *(len(points.value) for points in found)])
    sets.append(
      Sets(
        start,
        Points(*(np.concatenate(f, axis=-1) for f in zip(*found, strict=True))),
      )
    )
  return sets


def step_tables(model, step):
  """(costs [choices, n, C], value, legal [choices, n]) of a step's terms."""
  sizes = [len(model.options[v]) for v in step.axes]
  costs = np.zeros((*sizes, len(model.names)), np.int64)
  value, legal = np.zeros(sizes), np.ones(sizes, bool)
  for i, shape in step.terms:
    term = model.terms[i]
    costs += term.costs.reshape(*shape, -1)
    value += term.value.reshape(shape)
    legal &= term.legal.reshape(shape)
  costs = variable_last(costs, step, extra=1)
  return costs, variable_last(value, step), variable_last(legal, step)


def variable_last(table, step, extra=0):
  """[choices of the scope, n] (and `extra` axes) of a table over the axes."""
  tail = table.shape[table.ndim - extra :]
  if step.variable < 0:
    return table.reshape(1, 1, *tail)
  moved = np.moveaxis(table, step.axis, table.ndim - extra - 1)
  return moved.reshape(-1, table.shape[step.axis], *tail)


def _union(at, choice, tables, sources):
  """Every option of the variable with every point of the messages."""
  costs, value, legal = (table[choice] for table in tables)
  parts = []
  for option in np.flatnonzero(legal):
    points = Points(
      costs[option][:, None],
      value[option][None],
      np.array([option], np.uint8),
      np.empty((0, 1), np.int32),
    )
    for sets, index in sources:
      # Tensors tied together join many sets: their product must not grow.
      if len(points.value) > _PRUNE_ABOVE and len(points.costs) == 1:
        points = points.take(nondominated(points.costs, points.value))
      where = index[choice, option]
      points = _sum(points, sets, *sets.start[where : where + 2])
    parts.append(points)
  if not parts:
    return _nothing(len(costs[0]), len(sources))
  if len(parts) == 1:
    return parts[0]
  if sum(len(points.value) for points in parts) > MOST_POINTS:
    raise TooMany(_TOO_MANY)
  return Points(*(np.concatenate(f, axis=-1) for f in zip(*parts, strict=True)))


def _nothing(costs, messages):
  return Points(
    np.empty((costs, 0), np.int64),
    np.empty(0),
    np.empty(0, np.uint8),
    np.empty((messages, 0), np.int32),
  )


def _sum(points, sets, start, stop):
  """Each of the points with each of a set's.

  The smaller side changes slowest: few long runs of ascending costs come out,
  which a stable sort only has to merge.
  """
  count, more = len(points.value), stop - start
  if count * more > MOST_POINTS:
    raise TooMany(_TOO_MANY)
  ours = np.arange(count)
  theirs = np.arange(start, stop, dtype=np.int32)
  if count < more:
    ours, theirs = np.repeat(ours, more), np.tile(theirs, count)
  else:
    ours, theirs = np.tile(ours, more), np.repeat(theirs, count)
  return Points(
    points.costs[:, ours] + sets.points.costs[:, theirs],
    points.value[ours] + sets.points.value[theirs],
    points.option[ours],
    np.concatenate([points.parts[:, ours], theirs[None]]),
  )


def trace(
  model: TermModel,
  steps: Sequence[Step],
  sets: Sequence[Sets],
  last: np.ndarray,
) -> np.ndarray:
  """Options uint8 [V, P] of some points [P] of the last step's set."""
  chosen = np.zeros((len(model.options), len(last)), np.uint8)
  where = {len(steps) - 1: last}
  for at in reversed(range(len(steps))):
    step, points = steps[at], sets[at].points
    if step.variable >= 0:
      chosen[step.variable] = points.option[where[at]]
    for part, (i, _) in zip(points.parts, step.messages, strict=True):
      where[i] = part[where[at]]
  return chosen
