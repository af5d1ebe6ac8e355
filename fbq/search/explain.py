"""Why an assignment is as it is: what every other choice would change."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fbq.search.problem import PEAK, Problem, evaluate, score


class Alternative(NamedTuple):
  """Other bits for some sites, all else kept.

  Attributes:
    bits: bits that the sites would have.
    costs: changes of the costs by name, `PEAK` included.
    value: change of the value.
    exceeds: the limits that would no longer be met.
  """

  bits: int
  costs: dict[str, int]
  value: float
  exceeds: tuple[str, ...]


class Reason(NamedTuple):
  """What was chosen for sites that share a precision.

  Attributes:
    sites: one site, or several that are tied together.
    bits: bits that were chosen.
    costs: costs by name, of all layers that the choice touches.
    value: value of the terms that the choice touches.
    alternatives: from the most bits to the least; none where there is no other
      choice.
  """

  sites: tuple[str, ...]
  bits: int
  costs: dict[str, int]
  value: float
  alternatives: tuple[Alternative, ...]

  def __str__(self) -> str:
    """One line for people."""
    others = [
      f"{other.bits} bits: {other.value:+.4g} value, "
      + ", ".join(f"{n:+,} {name}" for name, n in other.costs.items() if n)
      + "".join(f" (exceeds {name})" for name in other.exceeds)
      for other in self.alternatives
    ]
    name = " = ".join(self.sites)
    return f"{name}: {self.bits} bits; " + ("; ".join(others) or "no choice")


def explain(
  problem: Problem,
  precision: Mapping[str, int],
  budgets: Mapping[str, int] | None = None,
) -> list[Reason]:
  """What every group of sites has, what that costs, and what else it could be.

  In a best assignment under limits every alternative is worth no more or
  exceeds one of them.

  Args:
    problem: problem that was solved.
    precision: bits of every site; tied sites must agree.
    budgets: limits besides those of the problem, by name.
  """
  # Budgets of the search count like limits: what exceeds them is no choice.
  now = evaluate(problem, precision)
  limits = dict(problem.limits)
  for name, most in (budgets or {}).items():
    limits[name] = min(most, limits.get(name, most))

  # All alternatives of all groups in one array, scored together.
  column = {site: i for i, site in enumerate(now.sites)}
  groups, rows = [], []
  for group, allowed in zip(problem.groups, problem.allowed, strict=True):
    found = {int(now.bits[0, column[site]]) for site in group}
    if len(found) > 1 or not found <= set(allowed):
      raise ValueError(
        f"{', '.join(group)}: {sorted(found)} bits, expected one of "
        f"{sorted(allowed)} for all"
      )
    (bits,) = found
    others = [b for b in allowed if b != bits]
    groups.append((group, bits, others))
    for other in others:
      row = now.bits[0].copy()
      row[[column[site] for site in group]] = other
      rows.append(row)
  changed = score(problem, np.array(rows).reshape(-1, len(now.sites)))

  # In the order in which the rows were made.
  reasons, at = [], 0
  for group, bits, others in groups:
    alternatives = []
    for other in others:
      costs = {name: int(cost[at]) for name, cost in changed.costs.items()}
      alternatives.append(
        Alternative(
          other,
          {name: n - int(now.costs[name][0]) for name, n in costs.items()},
          float(changed.value[at] - now.value[0]),
          tuple(name for name, most in limits.items() if costs[name] > most),
        )
      )
      at += 1

    # Costs of the choice itself: only factors that read one of its sites, as
    # the others are the same for every alternative. A peak is no sum, so it has
    # no such part.
    touched = _touching(problem, group)
    part = evaluate(touched, precision)
    costs = {n: int(c[0]) for n, c in part.costs.items() if n != PEAK}
    reasons.append(
      Reason(group, bits, costs, float(part.value[0]), tuple(alternatives))
    )
  return reasons


def _touching(problem, group):
  """The problem with only the factors of some sites."""
  own = set(group)

  def keep(factors):
    return tuple(f for f in factors if own.intersection(f.sites))

  costs = {name: keep(factors) for name, factors in problem.costs.items()}
  return Problem(
    problem.workload,
    problem.groups,
    problem.allowed,
    costs,
    keep(problem.value),
    ladder=problem.ladder,
  )
