"""The front of a model with one cost, in two phases.

First the assignments on the convex hull, by elimination at one price of the
cost after the other; then, between neighbours on it, all those close enough to
their line (Ulungu and Teghem, 1995, for other problems). How close is found
while looking: until no assignment farther away could be on the front.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fbq.search import elimination, near_optimal, pareto_sets
from fbq.search.elimination import Step
from fbq.search.near_optimal import Tables
from fbq.search.terms import TermModel

_FIRST = 1 / 512  # of what neighbours on the hull differ by in value
_TABLES = 1 << 24  # entries of all tables, for several prices at a time


class Assignments(NamedTuple):
  """`P` assignments.

  Attributes:
    costs: int64 [P].
    value: float64 [P].
    chosen: uint8 [V, P], option of each of `V` variables.
  """

  costs: np.ndarray
  value: np.ndarray
  chosen: np.ndarray


def front(
  model: TermModel, steps: Sequence[Step], error: int = 0
) -> tuple[Assignments, int]:
  """(what no other assignment dominates, by rising cost; its error).

  For every assignment there is one here that is worth no less and costs at
  most the error more. It is 0 or the one allowed.

  Args:
    model: model with one cost; all options legal.
    steps: steps of `elimination.plan`.
    error: allowed error in cost; 0 is exact.

  Raises:
    pareto_sets.TooMany: that needs a (larger) error.
  """
  tables = near_optimal.tables(model, steps)
  ends = [_near(tables, 0.0, 1.0), _near(tables, 1.0, 0.0)]
  cheap, good = _point(ends[0], -1), _point(ends[1], 0)
  if cheap.cost >= good.cost:
    return _unbeaten(model, ends), 0
  hull, gaps = _hull(model, steps, cheap, good, error)
  between = [_between(tables, left, right, error) for left, right in gaps]
  return _unbeaten(model, [*ends, *hull, *between]), error


class _HullPoint(NamedTuple):
  cost: int
  value: float


def _point(of: Assignments, at) -> _HullPoint:
  return _HullPoint(int(of.costs[at]), float(of.value[at]))


def _near(tables: Tables, value_weight, price) -> Assignments:
  """The optima of a weighting that no other one dominates."""
  lost = near_optimal.lost(tables, value_weight, price)
  return _all_of(tables, near_optimal.near(tables, lost, 0.0))


def _all_of(tables, sets, which=None) -> Assignments:
  """The points of the last set, or some of them, as assignments."""
  points = sets[-1].points
  if which is None:
    which = np.arange(len(points.value))
  chosen = pareto_sets.trace(tables.model, tables.steps, sets, which)
  return Assignments(points.costs[0, which], points.value[which], chosen)


def _hull(model, steps, left: _HullPoint, right: _HullPoint, error):
  """(those on the hull between two; neighbours farther apart than the error).

  Where they are closer, the dearer stands for all between them.
  """
  size = sum(float(np.abs(term.value).max()) for term in model.terms)
  entries = sum(
    np.prod([len(model.options[v]) for v in step.axes], dtype=int)
    for step in steps
  )
  batch = max(1, _TABLES // int(entries))
  found, gaps, waiting = [], [], [(left, right)]
  while waiting:
    now, waiting = waiting[:batch], waiting[batch:]
    now = [(a, b) for a, b in now if b.cost - a.cost > error]
    if not now:
      continue
    prices = np.array([(b.value - a.value) / (b.cost - a.cost) for a, b in now])
    scored = elimination.scores(model, np.ones(len(now)), -prices[None])
    full, _ = elimination.upward(steps, scored)
    best = totals(model, elimination.decode(model, steps, full))
    found.append(best)
    for i, ((a, b), price) in enumerate(zip(now, prices, strict=True)):
      c = _point(best, i)
      above = (c.value - a.value) - price * (c.cost - a.cost)
      if a.cost < c.cost < b.cost and above > 1e-12 * size:
        waiting += [(a, c), (c, b)]
      else:
        gaps.append((a, b))
  return found, gaps


def _between(
  tables: Tables, left: _HullPoint, right: _HullPoint, error
) -> Assignments:
  """Assignments between neighbours on the hull, enough for the error.

  Args:
    tables: tables of the model, step by step.
    left: neighbour on the hull that costs less.
    right: neighbour on the hull that costs more.
    error: allowed error in cost, as for `front`.
  """
  price = (right.value - left.value) / (right.cost - left.cost)
  lost = near_optimal.lost(tables, 1.0, price)
  most = _FIRST * (right.value - left.value)
  while True:
    sets = near_optimal.near(tables, lost, most, error)
    points = sets[-1].points
    costs, value = points.costs[0], points.value
    inside = np.flatnonzero((costs > left.cost) & (value > left.value))
    inside = inside[costs[inside] < right.cost]
    behind = lost.best - value[inside] + price * costs[inside]
    close = inside[behind <= most]
    # Whatever loses more than `most`, and no close one stands for it, is worth
    # more than one of them and cheaper than the next, by more than the error.
    worth = np.append(left.value, value[close])
    before = np.append(costs[close], right.cost) - 1 - error
    needed = float((lost.best - worth + price * before).max())
    if needed <= most:
      return _all_of(tables, sets, inside)
    most = min(needed, 2 * most)


def totals(model: TermModel, chosen: np.ndarray) -> Assignments:
  """Costs and value of options [V, P]."""
  costs = np.zeros(chosen.shape[1], np.int64)
  value = np.zeros(chosen.shape[1])
  for term in model.terms:
    at = tuple(chosen[v] for v in term.scope)
    costs += term.costs[(*at, 0)]
    value += term.value[at]
  return Assignments(costs, value, chosen)


def _unbeaten(model, parts) -> Assignments:
  """What is left of all, summed anew: rounding depends on the order."""
  every = totals(model, np.concatenate([part.chosen for part in parts], 1))
  kept = pareto_sets.nondominated(every.costs[None], every.value)
  return Assignments(
    every.costs[kept], every.value[kept], every.chosen[:, kept]
  )
