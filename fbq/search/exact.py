"""Provably best assignments: least latency, most value, whole fronts.

All take a `Problem` and are exact: the optimum over every assignment that its
rules, ties and limits allow, not over the ones some walk visits. Networks that
are too entangled for elimination go to `fbq.search.milp`.

Measured for MobileNetV1-0.75-224 with outputs at the bits of their sites (55
free sites, `benchmarks/search.py`, processor time): the exact front of 1,342
points 28 ms, 1,024 trade-offs 6 ms, the least latency 3 ms; one budget with the
size limited too 0.2 s, which HiGHS needs 0.4 s for. With 8-bit outputs 12, 5, 3
and 90 ms.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fbq.search import elimination, pareto_sets, terms
from fbq.search.free_bits import Raise, changes, free_bits
from fbq.search.problem import Candidates, Infeasible, Problem, evaluate, score
from fbq.search.solve import (
  NO_LIMIT,
  best_scores,
  best_within,
  binding_limits,
  factors_of,
  infeasible,
  least,
  limited,
  without,
)


class Distance(NamedTuple):
  """How far the greedy Free Bits pass stays from the optimum, in cycles."""

  start: int
  greedy: int
  least: int


def least_latency(
  problem: Problem, at_least: Mapping[str, int], cost: str = "cycles"
) -> tuple[dict[str, int], list[Raise]]:
  """The assignment of least latency that is at least as precise everywhere.

  The Free Bits pass made exact. Of several optima: site by site in the order of
  the workload, each keeps its bits if some optimum that agrees on the sites
  before does, and else takes the most bits of such an optimum. With that rule
  the result is the greedy pass's, bit for bit, wherever that pass is optimal
  because outputs stay at 8 bits. (Not so under a limit on another cost that
  this optimum exceeds: there any of the fastest is returned.)

  Args:
    problem: problem to solve; its value does not matter.
    at_least: bits of every site; sites below their bounds are raised to them.
    cost: name of the cost to make least, one made of a table of layers.

  Returns:
    (assignment, changes by layer in the order of the workload). A layer is
    listed if its bits or its cycles changed.

  Raises:
    Infeasible: `at_least` or the limits cannot be met.
  """
  # The changes are told layer by layer, so each layer must have a factor.
  by_name = {factor.name: factor for factor in factors_of(problem, cost)}
  if not by_name.keys() >= problem.workload.index.keys():
    raise ValueError(f"cost {cost!r} has no factor for every layer")
  factors = [by_name[layer.name] for layer in problem.workload.layers]

  # The elimination breaks ties by the order of options: the bits a group has
  # come first, then the most bits, which gives the rule above.
  start = problem.workload.site_bits(at_least)
  options = options_above(problem, start)
  above = dataclasses.replace(problem, allowed=options, value=())
  found = least(above, cost)
  precision = found.precision(0)
  return precision, changes(
    problem.workload, factors, start, precision, problem.ladder
  )


def options_above(
  problem: Problem, start: Mapping[str, int]
) -> tuple[tuple[int, ...], ...]:
  """Per group, the bits that are allowed and nowhere below those of a start.

  Raises:
    Infeasible: a group may have none.
  """
  return tuple(
    _raised(problem, group, allowed, start)
    for group, allowed in zip(problem.groups, problem.allowed, strict=True)
  )


def _raised(problem, group, allowed, start):
  """Bits a group may take: its least first, then from the most downwards."""
  needed = max(start[site] for site in group)
  bits = [b for b in sorted(allowed) if b >= needed]
  if not bits:
    raise Infeasible(
      f"{', '.join(group)}: {needed} bits are asked for at least, but only "
      f"{sorted(allowed)} are allowed"
    )
  return (bits[0], *reversed(bits[1:]))


def distance(
  problem: Problem, cycles: np.ndarray, at_least: Mapping[str, int]
) -> Distance:
  """The cycles of the greedy pass and of `least_latency`, both by `cycles`.

  Args:
    problem: problem with a cost "cycles", without ties, bounds or limits that
      the greedy pass knows nothing of.
    cycles: int64 [L, A, W] or [L, A, W, O], the cycles of the problem.
    at_least: bits of every site.
  """
  start = problem.workload.site_bits(at_least)
  greedy, _ = free_bits(problem.workload, cycles, start, problem.ladder)
  exact, _ = least_latency(problem, start)
  return Distance(
    *(
      int(evaluate(problem, p).costs["cycles"][0])
      for p in (start, greedy, exact)
    )
  )


def best_value(
  problem: Problem, budgets: Sequence[int], cost: str = "cycles"
) -> Candidates:
  """The most valuable assignment under each of `P` budgets, exactly.

  The problem's own limits hold as well. Of equally valuable ones the cheapest
  is returned. Values are sums in float64: two that differ by rounding alone may
  change places.

  Args:
    problem: problem with values.
    budgets: most of `cost`, for each of `P` assignments.
    cost: cost that the budgets limit, cycles or bytes.

  Raises:
    Infeasible: nothing meets a budget; names the least achievable cost.
  """
  factors_of(problem, cost)

  # Where no other limit binds, the whole front answers all budgets for less
  # than what one of them costs otherwise.
  if not binding_limits(problem, cost):
    try:
      whole = front(without(problem, cost), cost=cost)
    except (pareto_sets.TooMany, terms.TooWide):
      pass
    else:
      allowed = np.minimum(budgets, problem.limits.get(cost, NO_LIMIT))
      at = np.searchsorted(whole.costs[cost], allowed, side="right") - 1
      if at.min(initial=0) < 0:
        raise infeasible(limited(problem, cost, min(budgets)), cost)
      return score(problem, whole.bits[at])

  # Otherwise one search for each budget.
  found = [best_within(problem, cost, budget) for budget in budgets]
  return score(problem, np.concatenate([candidate.bits for candidate in found]))


def front(
  problem: Problem, resolution: int = 0, cost: str = "cycles"
) -> Candidates:
  """Every assignment no other dominates in cost and value, by ascending cost.

  The whole front, not its convex hull: of each (cost, value) on it one
  assignment. Where a limit on another sum binds (the size of the model), every
  point is the optimum of one budget, 0.1 s or more each for MobileNetV1: give a
  resolution there.

  Args:
    problem: problem with values.
    resolution: allowed error in cost; 0 is exact. Sets of more than 256 points
      are thinned. `Candidates.error` says by how much, at most `resolution`:
      for every assignment there is a candidate that is worth no less and costs
      at most `error` more.
    cost: cycles or bytes.

  Raises:
    Infeasible: no assignment meets the limits.
    pareto_sets.TooMany: the front is too large for resolution 0.
  """
  # Said before any table is made.
  factors_of(problem, cost)
  if resolution < 0:
    raise ValueError(f"resolution is {resolution}, expected at least 0")

  # A second cost that binds, or tables that are too wide: budget by budget.
  if binding_limits(problem, cost):
    return _front_by_budgets(problem, resolution, cost)
  try:
    model = terms.compile_model(problem, (cost,))
    steps = elimination.plan(model)
  except terms.TooWide:
    return _front_by_budgets(problem, resolution, cost)

  # Too many points are given up only where nothing may be left out.
  keep = pareto_sets.Thin(steps, resolution)
  try:
    sets = pareto_sets.eliminate(model, steps, keep)
  except pareto_sets.TooMany:
    if not resolution:
      raise
    return _front_by_budgets(problem, resolution, cost)

  # In a thinned front the point that stands for an assignment within the limit
  # may be above it, so that front is cut afterwards, by `_up_to_limit`.
  points = sets[-1].points
  on = np.arange(len(points.value))
  if not keep.error:
    on = np.flatnonzero(points.costs[0] <= problem.limits.get(cost, NO_LIMIT))
  if not len(on):
    raise infeasible(problem, cost)
  bits = terms.to_bits(
    problem, model, pareto_sets.trace(model, steps, sets, on)
  )
  found = score(problem, bits, keep.error)
  if keep.error and cost in problem.limits:
    return _up_to_limit(problem, found, cost)
  return found


def _up_to_limit(problem, whole, cost):
  """The part of a thinned front within the limit on its cost.

  What stands for an assignment within the limit may be above it, so the best
  within it is put to the end.
  """
  last = best_within(problem, cost)
  bits = np.concatenate([whole.bits, last.bits])
  found = score(problem, bits, whole.error)
  within = np.flatnonzero(found.costs[cost] <= problem.limits[cost])
  costs, value = found.costs[cost][within], found.value[within]
  keep = pareto_sets.nondominated(costs[None], value)
  return score(problem, bits[within[keep]], whole.error)


def _front_by_budgets(problem, resolution, cost):
  """The front from the most valuable end, one budget after the other."""
  found, budget = [], problem.limits.get(cost)
  while True:
    try:
      candidate = best_within(problem, cost, budget)
    except Infeasible:
      if not found:
        raise
      break
    found.append(candidate.bits)
    # What costs less, by no more than the resolution, is passed over: it is
    # worth no more than this one.
    budget = int(candidate.costs[cost][0]) - 1 - resolution
  return score(problem, np.concatenate(found[::-1]), resolution)


def tradeoffs(
  problem: Problem, lambdas: Sequence[float], cost: str = "cycles"
) -> Candidates:
  """The assignment of least cost - lambda * value, for `P` lambdas at once.

  The points of the front on its convex hull. Of equals the more precise one.

  Args:
    problem: problem without limits on other costs that could bind: there the
      least of a sum is not a choice by sites. `best_value` and `front` respect
      them.
    lambdas: [P], units of cost per unit of value, at least 0.
    cost: cycles or bytes.

  Raises:
    Infeasible: no assignment fits the memory.
  """
  factors_of(problem, cost)

  # A limit on a sum could be exceeded by the best of a weighting, and nothing
  # here would notice.
  weights = np.asarray(lambdas, np.float64)
  if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
    raise ValueError(
      f"lambdas have shape {weights.shape}, expected a list of finite numbers, "
      "none negative"
    )
  binding = [*binding_limits(problem, cost), *({cost} & problem.limits.keys())]
  if binding:
    raise ValueError(
      f"trade-offs cannot keep the limits on {binding}: use best_value or front"
    )

  # One elimination for all weightings: they are the last axis of its tables.
  model = terms.compile_model(problem, (cost,))
  steps = elimination.plan(model)
  chosen, best = best_scores(
    model, steps, weights, np.full((1, len(weights)), -1.0)
  )
  if np.isneginf(best).any():
    raise infeasible(problem, cost)
  bits = terms.to_bits(problem, model, chosen)
  return score(problem, np.broadcast_to(bits, (len(weights), bits.shape[1])))
