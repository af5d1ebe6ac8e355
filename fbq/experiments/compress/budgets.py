"""The exact choice under budgets of cycles, flash, L2 or energy."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fbq import precision
from fbq.config import ConfigError
from fbq.lab.lab import Lab
from fbq.search import exact, problem, solve
from fbq.search.problem import PEAK, SIZE, Problem

if TYPE_CHECKING:
  from fbq.experiments.compress.config import Compress

_COST = {"cycles": "cycles", "energy": "cycles", "flash": SIZE, "l2": PEAK}
UNITS = {"cycles": "cycles", "energy": "µJ", "flash": "bytes", "l2": "bytes"}


class Plan(NamedTuple):
  """What is chosen under.

  Attributes:
    problem: costs, values, limits and bounds.
    cost: name of the cost in the problem that budgets are of.
    budgets: {name of a point: most of that cost}, the largest first.
  """

  problem: Problem
  cost: str
  budgets: Mapping[str, int]


def plan(settings: "Compress", lab: Lab, values: Any) -> Plan:
  """The choice of the settings.

  Args:
    settings: budgets, limits and bounds.
    lab: network and costs.
    values: {site: {bits: higher is better}}, or None.

  Raises:
    ValueError: nothing meets the limits, or a budget.
  """
  workload, limits = lab.net.workload, settings.limits
  cycles = [limits.cycles] if limits.cycles else []
  if limits.microjoules:
    cycles.append(cycles_of(settings, lab, limits.microjoules))
  most = {
    "cycles": min(cycles, default=0),
    SIZE: limits.flash_bytes,
    PEAK: limits.l2_bytes,
  }
  made = problem.make(
    workload,
    {"cycles": lab.costs.cycles},
    values,
    bounds=settings.bounds,
    limits={name: limit for name, limit in most.items() if limit},
    ladder=lab.ladder,
  )
  cost = _COST[settings.cost]
  eight = problem.evaluate(made, precision.uniform(lab.net, 8)).costs[cost]
  whole = int(eight[0])

  # From the least that the limits allow, or as given
  least = _least(made, cost)
  if not settings.budgets:
    top = max(whole, least)
    amounts = np.linspace(top, least, settings.points + 1)[1:]
    found = [int(round(amount)) for amount in amounts]
  else:
    found = [int(share * whole) for share in sorted(settings.budgets)[::-1]]
  if min(found) < least:
    raise problem.Infeasible(
      f"{min(found):,} {cost} cannot be met: the least achievable is "
      f"{least:,}, {least / whole:.0%} of 8 bits"
    )
  return Plan(made, cost, {_name(settings.cost, b / whole): b for b in found})


def choose(plan: Plan) -> dict[str, dict[str, int]]:
  """{name: the assignment of most value under its budget}."""
  if plan.cost != PEAK:
    found = exact.best_value(
      plan.problem, list(plan.budgets.values()), plan.cost
    )
    return {name: found.precision(i) for i, name in enumerate(plan.budgets)}

  # No sum over layers: a limit for each budget
  result = {}
  for name, most in plan.budgets.items():
    under = _limited(plan.problem, most)
    cycles = [_most_cycles(under)]
    result[name] = exact.best_value(under, cycles).precision(0)
  return result


def cycles_of(settings: "Compress", lab: Lab, microjoules: float) -> int:
  """Cycles in which the target takes so much energy."""
  target = lab.costs.target
  if target is None:
    raise ConfigError(
      "config.limits.microjoules: a board whose cycles are all measured has no "
      "clock here; expected a limit of cycles"
    )
  seconds = microjoules * 1e-6 / (settings.milliwatts * 1e-3)
  return int(seconds * target.frequency_hz)


def microjoules_of(settings: "Compress", lab: Lab, cycles: float) -> float:
  """Energy of so many cycles; 0 where no power is set."""
  target = lab.costs.target
  if target is None or not settings.milliwatts:
    return 0.0
  return cycles / target.frequency_hz * settings.milliwatts * 1e3


def _least(made: Problem, cost: str) -> int:
  if cost == PEAK:  # grows with the bits of every tensor
    sites = made.workload.sites
    row = [min(made.allowed[made.group_of[site]]) for site in sites]
    found = problem.score(made, np.array([row]))
  else:
    found = solve.least(made, cost)
  return int(found.costs[cost][0])


def _limited(made: Problem, most: int) -> Problem:
  limit = min(most, made.limits.get(PEAK, most))
  return dataclasses.replace(made, limits={**made.limits, PEAK: limit})


def _most_cycles(made: Problem) -> int:
  return sum(int(factor.table.max()) for factor in made.costs["cycles"])


def _name(cost: str, share: float) -> str:
  return f"{cost}-{100 * share:.3g}%"
