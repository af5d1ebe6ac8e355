"""A proof, for anybody to check, of how good a choice under a budget is.

For a price p >= 0 of a cycle no assignment within the budget B has less harm
than the least of harm + p (cycles - B) over all assignments: what is within the
budget pays nothing by it. That least is a sum over layers, without any budget,
and found by another way than the choice (Lagrange's relaxation). What lies
between both is the gap; the choice itself is exact, so the gap is the
relaxation's, which knows the hull of the front alone.
"""

import math
from typing import NamedTuple

import numpy as np

from fbq.search import exact, terms
from fbq.search.problem import Candidates, Infeasible, Problem


class Certificate(NamedTuple):
  """What is proven of the choice under one budget.

  Attributes:
    budget: most cycles.
    cycles: cycles of the choice.
    harm: its sum of harms.
    price: harm that a cycle is taken to be worth in the proof; None where there
      is no proof: where a limit on another sum binds.
    bound: no assignment within the budget has less harm; None likewise.
  """

  budget: int
  cycles: int
  harm: float
  price: float | None
  bound: float | None

  @property
  def gap(self) -> float | None:
    """Harm by which the choice may be above the least, by this proof alone."""
    return None if self.bound is None else max(0.0, self.harm - self.bound)


def certify(
  problem: Problem, front: Candidates, chosen: Candidates, budgets: list[int]
) -> list[Certificate]:
  """A certificate for the choice under each budget.

  Args:
    problem: problem with a cost "cycles", and minus harm as its value.
    front: its front, from which good prices are read; the proof does not rest
      on it.
    chosen: a choice for each of the budgets.
    budgets: most cycles of each.
  """
  prices = [price_at(front, budget) for budget in budgets]
  bounds = _bounds(problem, prices, budgets)
  found = []
  for i, (budget, price) in enumerate(zip(budgets, prices, strict=True)):
    own = int(chosen.costs["cycles"][i]), -float(chosen.value[i])
    proof = (None, None) if bounds is None else (price, bounds[i])
    found.append(Certificate(budget, *own, *proof))
  return found


def price_at(front: Candidates, budget: int) -> float:
  """Harm that a cycle is worth at a budget: slope of the front's lower hull."""
  cycles = front.costs["cycles"].astype(np.float64)
  harm = -front.value
  within = np.flatnonzero(cycles <= budget)
  if len(within) == len(cycles) or not len(within):
    return 0.0

  # The hull at the budget: of all pairs of points around it, the one whose line
  # is lowest there. Where a corner lies at the budget itself, lines to all
  # points behind it are as low: the steepest has none of them below it.
  left, right = cycles[within], cycles[len(within) :]
  slopes = (harm[within][:, None] - harm[None, len(within) :]) / (
    right[None, :] - left[:, None]
  )
  at = harm[within][:, None] - slopes * (budget - left[:, None])
  is_lowest = at <= at.min() + 1e-12 * np.abs(harm).max()
  return max(0.0, float(slopes[is_lowest].max()))


def assignments(problem: Problem) -> float:
  """The power of ten of how many assignments there are in all."""
  return sum(math.log10(len(allowed)) for allowed in problem.allowed)


def _bounds(problem, prices, budgets) -> list[float] | None:
  """The least of harm + price (cycles - budget) over all assignments."""
  found = []
  for price, budget in zip(prices, budgets, strict=True):
    try:
      # At a price of zero the least harm of all, of any cycles.
      if price:
        best = exact.tradeoffs(problem, [1.0 / price])
      else:
        best = exact.best_value(problem, [_most(problem)])
    except (ValueError, Infeasible, terms.TooWide):
      return None
    above = int(best.costs["cycles"][0]) - budget
    found.append(-float(best.value[0]) + price * above)
  return found


def _most(problem) -> int:
  """Cycles that no assignment exceeds."""
  return sum(int(f.table.max()) for f in problem.costs["cycles"])
