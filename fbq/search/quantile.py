"""Assignments of least latency where cycles are not known but drawn.

Cycles come as tables of `H` draws of what is assumed of the hardware. Instead
of the cycles of one table, an upper quantile of the network's cycles over all
draws is made least: what it takes in all but the worst few of them. Quantiles
of layers do not add up, so sums of all draws are carried along.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from fbq.search import elimination, pareto_sets, terms
from fbq.search.exact import options_above
from fbq.search.free_bits import groups_of
from fbq.search.problem import Factor, Infeasible, Problem, layer_factors
from hwsim.latency_table import PULP_LADDER, Ladder
from hwsim.workload import Workload

_MOST = 4_096  # points of a set, compared in every draw


def upper(cycles: np.ndarray, quantile: float) -> np.ndarray:
  """The least of `H` numbers that a share of them does not exceed.

  Args:
    cycles: [H, ...].
    quantile: the share, above 0 to 1.
  """
  place = place_of(len(cycles), quantile)
  return np.partition(cycles, place, axis=0)[place]


def place_of(draws: int, quantile: float) -> int:
  """Position of a quantile among so many numbers, ascending.

  Raises:
    ValueError: no share above 0 to 1, or no draws.
  """
  if not (0 < quantile <= 1 and draws):
    raise ValueError(
      f"quantile is {quantile} of {draws} draws, expected a share above 0 to 1 "
      "of at least one"
    )
  return math.ceil(quantile * draws - 1e-9) - 1


def free_bits(
  workload: Workload,
  cycles: np.ndarray,
  precision: Mapping[str, int],
  quantile: float,
  ladder: Ladder = PULP_LADDER,
) -> dict[str, int]:
  """The assignment after a Free Bits pass that lowers an upper quantile.

  As `fbq.search.free_bits.free_bits`, of which it is the same with one draw:
  every activation and the weights of the layers that read it take the bits, at
  least as high, with which the quantile of the whole network is least, all else
  as it is, until nothing changes. Bits only rise and the quantile only falls.

  Args:
    workload: `L` layers.
    cycles: integers [H, L, A, W] or [H, L, A, W, O] of `H` draws.
    precision: bits of every site.
    quantile: share of the draws, see `upper`.
    ladder: precisions of the hardware.
  """
  by_draw = _factors(workload, cycles, ladder)
  precision = ladder.at_least(precision)
  level = {
    site: ladder.of(site).index(precision[site]) for site in workload.sites
  }
  groups = list(groups_of(workload, by_draw))
  total = _sum(by_draw, level)
  changed = True
  while changed:
    changed = False
    for group in groups:
      around = [factor for factor, _ in group.layers]
      rest = total - _sum(around, level)
      best, least = level, upper(total, quantile)
      for way in _ways(group, level, ladder):
        place = {**level, **way}
        sums = rest + _sum(around, place)
        if (reached := upper(sums, quantile)) < least:
          best, least, total = place, reached, sums
          changed = True
      level = best
  return {site: ladder.of(site)[at] for site, at in level.items()}


def _ways(group, level, ladder):
  """Positions that a group's sites may rise to, preferred ones first.

  Of equals what need not be raised stays, and what is raised goes highest.
  """
  sites = [group.site] if group.is_free else []
  sites += dict.fromkeys(weight for _, weight in group.layers if weight)
  rungs = [
    [level[s], *range(len(ladder.of(s)) - 1, level[s], -1)] for s in sites
  ]
  for places in itertools.product(*rungs):
    yield dict(zip(sites, places, strict=True))


def _factors(workload, cycles, ladder) -> list[Factor]:
  """Factors whose tables have a last axis [H]."""
  of_draws = [layer_factors(workload, table, ladder) for table in cycles]
  return [
    first._replace(table=np.stack([f.table for f in same], axis=-1))
    for first, same in zip(
      of_draws[0], zip(*of_draws, strict=True), strict=True
    )
  ]


def _sum(factors: Sequence[Factor], level: Mapping[str, int]) -> np.ndarray:
  """Cycles [H] of factors at the positions of their sites."""
  entries = [f.table[tuple(level[site] for site in f.sites)] for f in factors]
  return np.asarray(np.sum(entries, axis=0, dtype=np.int64))


# ---- The exact pass


def least_latency(
  problem: Problem,
  cycles: np.ndarray,
  at_least: Mapping[str, int],
  quantile: float,
) -> tuple[dict[str, int], int]:
  """The assignment of least upper quantile that is nowhere less precise.

  Exact: partial assignments are left out where another of the same scope costs
  no more in any draw, or where the quantile would exceed one that is reached
  even if every draw were completed by its own fastest way.

  Args:
    problem: its groups, rules and limit on memory; other limits are refused.
    cycles: integers [H, L, A, W] or [H, L, A, W, O] of `H` draws.
    at_least: bits of every site; sites below their bounds are raised to them.
    quantile: share of the draws, see `upper`.

  Returns:
    (assignment, the quantile of its cycles).

  Raises:
    ValueError: the problem limits a sum of costs.
    Infeasible: `at_least` or the limits cannot be met.
    pareto_sets.TooMany: too many assignments are as good in some draw.
    terms.TooWide: the network is too entangled.
  """
  place = place_of(len(cycles), quantile)
  names = tuple(f"draw {i}" for i in range(len(cycles)))
  start = problem.workload.site_bits(at_least)
  above = dataclasses.replace(
    problem,
    allowed=options_above(problem, start),
    value=(),
    limits={n: most for n, most in problem.limits.items() if n == "peak_bytes"},
    costs={
      name: layer_factors(problem.workload, table, problem.ladder)
      for name, table in zip(names, cycles, strict=True)
    },
  )
  if len(above.limits) < len(problem.limits):
    raise ValueError(
      f"a quantile of cycles cannot be made least under limits on "
      f"{sorted(problem.limits.keys() - above.limits.keys())}"
    )
  model = terms.compile_model(above, names)
  steps = elimination.plan(model)

  # The fastest way to complete every draw by itself, and what these ways take
  one = np.eye(len(names))
  scored = elimination.scores(model, np.zeros(len(names)), -one)
  tables, messages = elimination.upward(steps, scored)
  if np.isneginf(messages[-1]).any():
    raise Infeasible("no assignment meets the limit on memory")
  rests = [
    np.where(np.isneginf(rest), -(2.0**52), rest)
    for rest in elimination.downward(model, steps, scored, messages)
  ]
  completion = [-rest.reshape(-1, len(names)).T for rest in rests]
  ways = elimination.decode(model, steps, tables)
  reached = int(upper(_totals(model, ways), quantile).min())

  # Everything that may still be as good as the best of them
  def keep(step, choice, points):
    at_best = points.costs + completion[step][:, choice, None]
    low = np.partition(at_best, place, axis=0)[place]
    found = np.flatnonzero(low <= reached)
    if len(found) > _MOST:
      raise pareto_sets.TooMany(
        f"more than {_MOST:,} partial assignments may each be the best in some "
        "draws; take the greedy pass, or fewer draws"
      )
    kept = pareto_sets.nondominated(points.costs[:, found], points.value[found])
    return found[kept]

  sets = pareto_sets.eliminate(model, steps, keep)
  totals = sets[-1].points.costs
  quantiles = upper(totals, quantile)
  order = np.lexsort((totals.sum(axis=0), quantiles))
  chosen = pareto_sets.trace(model, steps, sets, order[:1])
  [bits] = terms.to_bits(above, model, chosen).tolist()
  assignment = dict(zip(problem.workload.sites, bits, strict=True))
  return assignment, int(quantiles[order[0]])


def _totals(model, chosen) -> np.ndarray:
  """Costs int64 [C, K] of whole assignments."""
  parts = [
    term.costs[tuple(chosen[v] for v in term.scope)] for term in model.terms
  ]
  return np.asarray(np.sum(parts, axis=0, dtype=np.int64)).T
