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
from typing import NamedTuple

import numpy as np

from fbq.search import elimination, pareto_sets, terms
from fbq.search.exact import options_above
from fbq.search.free_bits import groups_of
from fbq.search.problem import Factor, Infeasible, Problem, layer_factors
from hwsim.latency_table import PULP_LADDER, Ladder
from hwsim.workload import Workload

_BREADTHS = 128, 512, 4_096  # points of a set, compared in every draw
_MIXTURES = 256  # of draws, whose fastest ways are tried first


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


class Least(NamedTuple):
  """The assignment of least upper quantile, with its certificate.

  Attributes:
    precision: bits of every site.
    cycles: upper quantile of its cycles over the draws.
    bound: what no assignment's is below; `cycles` if it is proven the least.
  """

  precision: dict[str, int]
  cycles: int
  bound: int

  @property
  def gap(self) -> float:
    """By which fraction of the bound less cycles are possible; 0 if proven."""
    return self.cycles / self.bound - 1 if self.bound else 0.0


def least_latency(
  problem: Problem,
  cycles: np.ndarray,
  at_least: Mapping[str, int],
  quantile: float,
  breadths: Sequence[int] = _BREADTHS,
) -> Least:
  """The assignment of least upper quantile that is nowhere less precise.

  Partial assignments are left out where another of the same scope costs no more
  in any draw, or where the quantile would exceed one that is reached even if
  every draw were completed by its own fastest way. Where too many remain those
  stay whose quantile would then be least, and the least of the others bounds
  what was missed: often it is no less than what is found, which is then proven.

  Args:
    problem: its groups, rules and limit on memory; other limits are refused.
    cycles: integers [H, L, A, W] or [H, L, A, W, O] of `H` draws.
    at_least: bits of every site; sites below their bounds are raised to them.
    quantile: share of the draws, see `upper`.
    breadths: most partial assignments of one scope, of one pass after another
      until the least is proven.

  Raises:
    ValueError: the problem limits a sum of costs.
    Infeasible: `at_least` or the limits cannot be met.
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

  # The fastest way to complete every draw by itself
  own, least, completion = _completions(model, steps)
  best, reached = _best_of(model, _mixed(model, steps, own), place)
  bound = int(np.partition(least, place)[place])

  # Narrow passes find better ends, with which wide ones leave out more
  for breadth in breadths:
    if bound == reached:
      break
    try:
      found, passed_over = _pass(
        model, steps, completion, place, reached, breadth
      )
    except pareto_sets.TooMany:  # where sets meet: what is found is kept
      break
    if found.shape[1]:
      best, reached = _best_of(model, found, place)
    bound = max(bound, min(reached, passed_over))
  [bits] = terms.to_bits(above, model, best).tolist()
  assignment = dict(zip(problem.workload.sites, bits, strict=True))
  return Least(assignment, reached, bound)


def _completions(model, steps):
  """(Ways [V, H] that are fastest in one draw each, their cycles [H], cycles
  [H, choices] of the fastest rest of every step)."""
  count = len(model.names)
  scored = elimination.scores(model, np.zeros(count), -np.eye(count))
  tables, messages = elimination.upward(steps, scored)
  if np.isneginf(messages[-1]).any():
    raise Infeasible("no assignment meets the limit on memory")
  rests = [
    np.where(np.isneginf(rest), -(2.0**52), rest)
    for rest in elimination.downward(model, steps, scored, messages)
  ]
  return (
    elimination.decode(model, steps, tables),
    np.rint(-messages[-1].ravel()).astype(np.int64),
    [-rest.reshape(-1, count).T for rest in rests],
  )


def _mixed(model, steps, own):
  """Ways [V, C] to start from: the fastest in each draw and in mixtures.

  Mixtures of a few draws, as an upper quantile is of those it is between.
  """
  shares = np.random.default_rng(0).dirichlet(
    np.full(len(model.names), 0.3), _MIXTURES
  )
  scored = elimination.scores(model, np.zeros(_MIXTURES), -shares.T)
  tables, _ = elimination.upward(steps, scored)
  ways = elimination.decode(model, steps, tables)
  return np.concatenate([own, ways], axis=1)


def _best_of(model, ways, place):
  """(Way [V, 1] of least quantile, and it); of equals the least on average."""
  totals = _totals(model, ways)
  quantiles = np.partition(totals, place, axis=0)[place]
  first = np.lexsort((totals.sum(axis=0), quantiles))[0]
  return ways[:, [first]], int(quantiles[first])


def _pass(model, steps, completion, place, reached, breadth):
  """Ways [V, C] as good as what is reached, and what was passed over is at
  least."""
  passed_over = np.inf

  def keep(step, choice, points):
    nonlocal passed_over
    at_best = points.costs + completion[step][:, choice, None]
    low = np.partition(at_best, place, axis=0)[place]
    found = np.flatnonzero(low <= reached)
    if len(found) > breadth:
      found = found[np.argsort(low[found], kind="stable")]
      passed_over = min(passed_over, low[found[breadth]])
      found = found[:breadth]
    kept = pareto_sets.nondominated(points.costs[:, found], points.value[found])
    return found[kept]

  sets = pareto_sets.eliminate(model, steps, keep)
  last = np.arange(len(sets[-1].points.value))
  ways = pareto_sets.trace(model, steps, sets, last)
  return ways, int(min(passed_over, 2**62))


def _totals(model, chosen) -> np.ndarray:
  """Costs int64 [C, K] of whole assignments."""
  parts = [
    term.costs[tuple(chosen[v] for v in term.scope)] for term in model.terms
  ]
  totals = np.sum(parts, axis=0, dtype=np.int64)  # [C] if nothing is chosen
  return np.broadcast_to(totals, (chosen.shape[1], len(model.names))).T
