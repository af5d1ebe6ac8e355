"""One optimum: the least cost or the most value within limits, or why none."""

import dataclasses

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

NO_LIMIT = 2**53


def least(problem: Problem, cost: str = "cycles") -> Candidates:
  """The one candidate of least cost within the limits on all costs.

  Of several optima: group by group in the order of the problem, each has the
  first of its allowed bits that some optimum has that agrees on the groups
  before. (Any of them where a limit on another cost binds, or where the network
  is too entangled for elimination.)

  Raises:
    Infeasible: no assignment meets the limits.
  """
  # The least cost is the most value of its negative.
  negative = tuple(
    Factor(f.name, f.sites, -f.table.astype(np.float64))
    for f in factors_of(problem, cost)
  )
  inner = dataclasses.replace(problem, value=negative)

  # Groups are decided in the order opposite to that of their elimination, so
  # the first group of the problem decides first.
  try:
    model = terms.compile_model(inner, ())
    backwards = range(len(problem.groups))[::-1]
    steps = elimination.plan(model, backwards)
  except terms.TooWide:
    return score(problem, milp.best_value(inner, {}).bits)

  # This optimum looks at one cost only. Where it meets the other limits too it
  # is the answer; where none of those binds, nothing else would help.
  chosen, best = best_scores(model, steps, np.ones(1), np.empty((0, 1)))
  if best[0] > -np.inf:
    bits = terms.to_bits(problem, model, chosen)
    found = score(problem, bits)
    if all(
      found.costs[name][0] <= most for name, most in problem.limits.items()
    ):
      return found
  if not binding_limits(problem, cost):
    raise infeasible(problem, cost)
  return score(problem, best_within(inner, cost).bits)


def best_scores(model, steps, value, costs):
  """(options [V, K], score [K]) of the best assignment of each weighting."""
  scored = elimination.scores(model, value, costs)
  tables, messages = elimination.upward(steps, scored)
  return elimination.decode(model, steps, tables), messages[-1]


def best_within(
  problem: Problem, cost: str, budget: int | None = None
) -> Candidates:
  """The one candidate of most value under a budget and all limits.

  Raises:
    Infeasible: no assignment meets them.
  """
  if budget is not None:
    problem = limited(problem, cost, budget)
  names = (cost, *binding_limits(problem, cost))
  try:
    model = terms.compile_model(problem, names)
    limits = [problem.limits.get(name, NO_LIMIT) for name in names]
    options = bounded.best(model, elimination.plan(model), np.array(limits))
    if options is not None:
      bits = terms.to_bits(problem, model, options[:, None])
      return score(problem, bits)
  except (terms.TooWide, pareto_sets.TooMany):
    try:
      return milp.best_value(problem, {})
    except Infeasible:
      pass  # said better below
  raise infeasible(problem, cost)


def factors_of(problem, cost):
  """The factors of a cost; ValueError if there is none of this name."""
  if cost not in problem.costs:
    raise ValueError(
      f"no cost {cost!r}, the problem has {sorted(problem.costs)}"
    )
  return problem.costs[cost]


def binding_limits(problem, cost):
  """Limits on sums, besides those on `cost`, that some assignment exceeds."""
  return [
    name
    for name, most in problem.limits.items()
    if name not in (cost, PEAK)
    and sum(int(f.table.max()) for f in problem.costs[name]) > most
  ]


def limited(problem, cost, budget):
  """The problem with a budget as a further limit."""
  most = min(budget, problem.limits.get(cost, budget))
  return dataclasses.replace(problem, limits={**problem.limits, cost: most})


def without(problem, name):
  """The problem without its limit on one cost, if it has one."""
  rest = {n: most for n, most in problem.limits.items() if n != name}
  return dataclasses.replace(problem, limits=rest)


def infeasible(problem, cost):
  """The error that says which limit cannot be met, and what could be."""
  # First each limit alone: what cannot be met by itself is said at once.
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

  # Otherwise limits exclude each other. One is taken out, to tell how low its
  # cost can get under the others: the one on `cost`, else the last of them.
  # Memory alone can always be met.
  if cost not in problem.limits:
    cost = next(name for name in reversed(problem.limits) if name != PEAK)
  others = without(problem, cost)
  try:
    reach = int(least(others, cost).costs[cost][0])
  except Infeasible as error:
    return error
  alone = {
    name: int(least(without(others, name), cost).costs[cost][0])
    for name in others.limits
  }

  # Two limits may each be as strict as the other: then both are named.
  binding = [name for name in alone if alone[name] < reach] or list(alone)
  said = [
    f"{cost} <= {problem.limits[cost]} cannot be met together with "
    + ", ".join(f"{name} <= {others.limits[name]}" for name in binding)
    + f": the least achievable is {reach}",
    *(
      f"without the limit on {name} it would be {alone[name]}"
      for name in binding
    ),
  ]
  return Infeasible("; ".join(said))
