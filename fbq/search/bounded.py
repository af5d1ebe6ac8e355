"""The most valuable assignment within limits, by elimination with bounds.

Partial assignments are left out where even the best completion exceeds a limit,
or, by a Lagrangian bound on it, is worth less than what is looked for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fbq.search import elimination, pareto_sets
from fbq.search.elimination import Step
from fbq.search.terms import TermModel

_ROUNDING = 1e-12  # of sums of values, relative to the largest ones
_ROUNDS = 40  # of cutting planes, at most
_STEEPEST = 1e4  # multiplier, in units of all value for the range of a cost


class _Bounds(NamedTuple):
  """Of the best completion of each step's points, per choice of its scope.

  Attributes:
    multipliers: [C] of the costs.
    score: per step [choices], most of value - multipliers . costs.
    least: per step [C, choices], least costs.
    most: per step [C, choices], most costs.
    upper: no assignment within the limits is worth more.
  """

  multipliers: np.ndarray
  score: list[np.ndarray]
  least: list[np.ndarray]
  most: list[np.ndarray]
  upper: float


def best(
  model: TermModel, steps: Sequence[Step], limits: np.ndarray
) -> np.ndarray | None:
  """Options uint8 [V] of the most valuable assignment; None if there is none.

  Of equally valuable ones the first cost is least. Values that differ by less
  than rounding (1e-12 of the sum of magnitudes) count as equal.

  Args:
    model: with `C` costs.
    steps: order of elimination, from `elimination.plan`.
    limits: int64 [C], most of each cost.

  Raises:
    pareto_sets.TooMany: the bounds leave too many partial assignments.
  """
  size = float(sum(np.abs(term.value).max() for term in model.terms))
  most = sum(
    term.costs.max(tuple(range(len(term.scope)))) for term in model.terms
  )
  limits = np.minimum(limits, most)
  bounds = _bounds(model, steps, limits, size)
  # The optimum is close below its bound; how close is found by trying.
  gap = 1e-3 * size
  while True:
    at_least = bounds.upper - gap if gap < 4 * size else -np.inf
    sets = pareto_sets.eliminate(
      model, steps, _keeper(bounds, limits, at_least - _ROUNDING * size)
    )
    value = sets[-1].points.value
    most = value.max(initial=-np.inf)
    if len(value) and most >= at_least:
      # Sorted by the first cost: the first of the most valuable ones.
      found = np.flatnonzero(value >= most - _ROUNDING * size)[:1]
      return pareto_sets.trace(model, steps, sets, found)[:, 0]
    if at_least == -np.inf:
      return None
    # A better one than those found may have been left out, but none is worse
    # than they are. (0.13 s instead of 2.6 in `benchmarks/search.py`.)
    gap = min(4 * gap, (bounds.upper - most) * (1 + 1e-9))


def _keeper(bounds, limits, at_least):
  """A `Keep`: within the limits, worth `at_least`, and not dominated."""

  def keep(step, choice, points):
    score = bounds.score[step][choice] + bounds.multipliers @ limits
    reach = points.value - bounds.multipliers @ points.costs + score
    slack = limits[:, None] - points.costs
    ok = (slack >= bounds.least[step][:, choice, None]).all(0)
    found = np.flatnonzero(ok & (reach >= at_least))
    costs = points.costs[:, found].copy()
    # Nothing that follows can exceed a limit from below this: all the same.
    harmless = limits[1:] - bounds.most[step][1:, choice]
    np.maximum(costs[1:], harmless[:, None], out=costs[1:])
    return found[pareto_sets.nondominated(costs, points.value[found])]

  return keep


def _bounds(model, steps, limits, size):
  count = len(limits)
  multipliers, upper = _multipliers(model, steps, limits, max(size, 1e-300))
  # Score, least and most costs in one pass: 2 C + 1 weightings.
  value = np.zeros(2 * count + 1)
  value[0] = 1.0
  one = np.eye(count)
  costs = np.concatenate([-multipliers[:, None], -one, one], axis=1)
  scored = elimination.scores(model, value, costs)
  _, messages = elimination.upward(steps, scored)
  rests = [
    rest.reshape(-1, rest.shape[-1])
    for rest in elimination.downward(model, steps, scored, messages)
  ]
  return _Bounds(
    multipliers,
    [rest[:, 0] for rest in rests],
    [-rest[:, 1 : count + 1].T for rest in rests],
    [_integers(rest[:, count + 1 :].T) for rest in rests],
    upper,
  )


def _integers(most):
  """int64; 0 where nothing is legal, and nothing kept."""
  return np.where(np.isfinite(most), most, 0).astype(np.int64)


def _multipliers(model, steps, limits, size):
  """(multipliers [C], upper bound) of the Lagrangian dual, nearly its least.

  Cutting planes (Kelley, 1960): every assignment found gives a plane below
  which the dual cannot lie. Any multipliers give a bound; better ones leave out
  more.
  """
  from scipy.optimize import linprog

  count = len(limits)
  ends = np.concatenate(
    [np.zeros((count, 1)), -np.eye(count), np.eye(count)], 1
  )
  value = np.zeros(2 * count + 1)
  value[0] = 1.0
  planes = list(zip(*_extremes(model, steps, value, ends), strict=True))
  costs = np.array([cost for _, cost in planes])
  unit = np.maximum(np.ptp(costs, axis=0), 1)
  best = np.zeros(count), float(planes[0][0])
  for _ in range(_ROUNDS):
    slack = np.array([(limits - cost) / unit for _, cost in planes])
    # theta >= value + multipliers . (limits - cost), in units of `size`.
    found = linprog(
      [*[0.0] * count, 1.0],
      A_ub=np.column_stack([slack, -np.ones(len(planes))]),
      b_ub=[-value / size for value, _ in planes],
      bounds=[*[(0, _STEEPEST)] * count, (None, None)],
    )
    if found.x is None:  # any multipliers give a bound
      break
    multipliers = np.maximum(found.x[:count], 0) * size / unit
    value, cost = (
      a[0] for a in _extremes(model, steps, np.ones(1), -multipliers[:, None])
    )
    upper = value + multipliers @ (limits - cost)
    if upper < best[1]:
      best = multipliers, upper
    if best[1] - found.x[count] * size <= 1e-5 * size:
      break
    planes.append((value, cost))
  return best


def _extremes(model, steps, value, costs):
  """(value [K], costs [K, C]) of the best assignment of each weighting."""
  scored = elimination.scores(model, value, costs)
  tables, _ = elimination.upward(steps, scored)
  chosen = elimination.decode(model, steps, tables)
  total_value, total_costs = 0.0, 0
  for term in model.terms:
    index = tuple(chosen[v] for v in term.scope)
    total_value = total_value + term.value[index]
    total_costs = total_costs + term.costs[index]
  count = len(value)
  return (
    np.broadcast_to(total_value, count),
    np.broadcast_to(total_costs, (count, len(model.names))),
  )
