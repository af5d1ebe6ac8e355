"""Provably best assignments: least cost, most value, whole fronts.

All take a `Problem` and are exact: the optimum over every assignment that its
rules, ties and limits allow, not over the ones some walk visits. Networks that
are too entangled for elimination go to `fbq.search.milp`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from fbq.search import bounded, elimination, milp, pareto_sets, terms
from fbq.search.problem import (
  PEAK,
  Candidates,
  Factor,
  Infeasible,
  Problem,
  score,
)

_NO_LIMIT = 2**53


def least(problem: Problem, cost: str = "cycles") -> Candidates:
  """The one candidate of least cost within the limits on all costs.

  Of several optima: group by group in the order of the problem, each has the
  first of its allowed bits that some optimum has that agrees on the groups
  before. (Any of them where a limit on another cost binds, or where the network
  is too entangled for elimination.)

  Raises:
    Infeasible: no assignment meets the limits.
  """
  negative = tuple(
    Factor(f.name, f.sites, -f.table.astype(np.float64))
    for f in _costs(problem, cost)
  )
  problem = dataclasses.replace(problem, value=negative)
  try:
    model = terms.compile_model(problem, ())
    backwards = range(len(problem.groups))[::-1]
    steps = elimination.plan(model, backwards)
  except terms.TooWide:
    return milp.best_value(problem, {})
  chosen, best = _best_scores(model, steps, np.ones(1), np.empty((0, 1)))
  if best[0] > -np.inf:
    bits = terms.to_bits(problem, model, chosen)
    found = score(problem, bits)
    if all(
      found.costs[name][0] <= most for name, most in problem.limits.items()
    ):
      return found
  if not _binding(problem, cost):
    raise _infeasible(problem, cost)
  return _best_within(problem, cost, None)


def _best_scores(model, steps, value, costs):
  """(options [V, K], score [K]) of the best assignment of each weighting."""
  scored = elimination.scores(model, value, costs)
  tables, messages = elimination.upward(steps, scored)
  return elimination.decode(model, steps, tables), messages[-1]


def best_value(
  problem: Problem, budgets: Sequence[int], cost: str = "cycles"
) -> Candidates:
  """The most valuable assignment under each of `P` budgets, exactly.

  The problem's own limits hold as well. Of equally valuable ones the cheapest
  is returned. Values are sums in float64: two that differ by rounding alone may
  change places.

  Args:
    problem: with value.
    budgets: most of `cost`.
    cost: what the budgets are on, cycles or bytes.

  Raises:
    Infeasible: nothing meets a budget; names the least achievable cost.
  """
  _costs(problem, cost)
  if not _binding(problem, cost):
    try:
      whole = front(_without(problem, cost), cost=cost)
    except pareto_sets.TooMany:
      pass
    else:
      allowed = np.minimum(budgets, problem.limits.get(cost, _NO_LIMIT))
      at = np.searchsorted(whole.costs[cost], allowed, side="right") - 1
      if at.min(initial=0) < 0:
        raise _infeasible(_limited(problem, cost, min(budgets)), cost)
      return score(problem, whole.bits[at])
  found = [_best_within(problem, cost, budget) for budget in budgets]
  return score(problem, np.concatenate([candidate.bits for candidate in found]))


def _best_within(problem, cost, budget):
  """One candidate: the most valuable one under a budget and all limits."""
  if budget is not None:
    problem = _limited(problem, cost, budget)
  names = (cost, *_binding(problem, cost))
  try:
    model = terms.compile_model(problem, names)
    limits = [problem.limits.get(name, _NO_LIMIT) for name in names]
    options = bounded.best(model, elimination.plan(model), np.array(limits))
  except (terms.TooWide, pareto_sets.TooMany):
    return milp.best_value(problem, {})
  if options is None:
    raise _infeasible(problem, cost)
  bits = terms.to_bits(problem, model, options[:, None])
  return score(problem, bits)


def front(
  problem: Problem, resolution: int = 0, cost: str = "cycles"
) -> Candidates:
  """Every assignment no other dominates in cost and value, by ascending cost.

  The whole front, not its convex hull: of each (cost, value) on it one
  assignment, the more precise one of two where that is free.

  Args:
    problem: with value.
    resolution: allowed error in cost. With it, sets of more than 256 points are
      thinned; what that cost is in `Candidates.error`, at most `resolution`:
      for every assignment there is a candidate that is worth no less and costs
      at most `error` more. 0 is exact.
    cost: cycles or bytes.

  Raises:
    Infeasible: no assignment meets the limits.
    pareto_sets.TooMany: the front is too large for this resolution.
    terms.TooWide: the network is too entangled.
  """
  _costs(problem, cost)
  if resolution < 0:
    raise ValueError(f"resolution is {resolution}, expected at least 0")
  if _binding(problem, cost):
    return _front_by_budgets(problem, resolution, cost)
  model = terms.compile_model(problem, (cost,))
  steps = elimination.plan(model)
  keep = pareto_sets.Thin(steps, resolution)
  sets = pareto_sets.eliminate(model, steps, keep)
  points = sets[-1].points
  on = np.flatnonzero(points.costs[0] <= problem.limits.get(cost, _NO_LIMIT))
  if not len(on):
    raise _infeasible(problem, cost)
  bits = terms.to_bits(
    problem, model, pareto_sets.trace(model, steps, sets, on)
  )
  return score(problem, bits, keep.error)


def _front_by_budgets(problem, resolution, cost):
  """The front from the most valuable end, one budget after the other."""
  found, budget = [], problem.limits.get(cost)
  while True:
    try:
      candidate = _best_within(problem, cost, budget)
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
    problem: without limits on other costs that could bind: there the least of a
      sum is not a choice by sites. `best_value` and `front` respect them.
    lambdas: [P], units of cost per unit of value, at least 0.
    cost: cycles or bytes.

  Raises:
    Infeasible: no assignment fits the memory.
  """
  _costs(problem, cost)
  weights = np.asarray(lambdas, np.float64)
  if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
    raise ValueError(
      f"lambdas have shape {weights.shape}, expected a list of finite numbers, "
      "none negative"
    )
  binding = [*_binding(problem, cost), *({cost} & problem.limits.keys())]
  if binding:
    raise ValueError(
      f"trade-offs cannot keep the limits on {binding}: use best_value or front"
    )
  model = terms.compile_model(problem, (cost,))
  steps = elimination.plan(model)
  chosen, best = _best_scores(
    model, steps, weights, np.full((1, len(weights)), -1.0)
  )
  if np.isneginf(best).any():
    raise _infeasible(problem, cost)
  bits = terms.to_bits(problem, model, chosen)
  return score(problem, np.broadcast_to(bits, (len(weights), bits.shape[1])))


def _costs(problem, cost):
  if cost not in problem.costs:
    raise ValueError(
      f"no cost {cost!r}, the problem has {sorted(problem.costs)}"
    )
  return problem.costs[cost]


def _binding(problem, cost):
  """Limits on sums, besides those on `cost`, that some assignment exceeds."""
  return [
    name
    for name, most in problem.limits.items()
    if name not in (cost, PEAK)
    and sum(int(f.table.max()) for f in problem.costs[name]) > most
  ]


def _limited(problem, cost, budget):
  most = min(budget, problem.limits.get(cost, budget))
  return dataclasses.replace(problem, limits={**problem.limits, cost: most})


def _without(problem, *names):
  rest = {n: v for n, v in problem.limits.items() if n not in names}
  return dataclasses.replace(problem, limits=rest)


def _infeasible(problem, cost):
  """The error that says which limit cannot be met, and what could be."""
  alone = {}
  for name in problem.limits:
    free = dataclasses.replace(problem, limits={})
    if name == PEAK:  # grows with every tensor's bits
      low = tuple((min(allowed),) for allowed in problem.allowed)
      free = dataclasses.replace(free, allowed=low)
    found = least(free, cost if name == PEAK else name)
    alone[name] = int(found.costs[name][0])
  said = [
    f"{name} <= {most} cannot be met: the least achievable is {alone[name]}"
    for name, most in problem.limits.items()
    if alone[name] > most
  ]
  if said:
    return Infeasible("; ".join(said))
  if cost not in problem.limits:
    cost = next(reversed(problem.limits))
  others = _without(problem, cost)
  try:
    reach = int(least(others, cost).costs[cost][0])
  except Infeasible as error:
    return error
  said = [
    f"{cost} <= {problem.limits[cost]} cannot be met together with "
    + ", ".join(f"{n} <= {v}" for n, v in others.limits.items())
    + f": the least achievable is {reach}"
  ]
  for name in others.limits:
    without = int(least(_without(others, name), cost).costs[cost][0])
    said.append(f"without the limit on {name} it would be {without}")
  return Infeasible("; ".join(said))
