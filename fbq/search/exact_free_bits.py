"""The Free Bits pass made exact, and how far the greedy one is from it."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fbq.search.exact import least
from fbq.search.free_bits import Raise, free_bits
from fbq.search.problem import Infeasible, Problem, evaluate
from hwsim.latency_table import BITS


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
    problem: its value does not matter.
    at_least: bits of every site; sites below their bounds are raised to them.
    cost: what to make least.

  Returns:
    (assignment, changes by layer in the order of the workload). A layer is
    listed if its bits or its cycles changed.

  Raises:
    Infeasible: `at_least` or the limits cannot be met.
  """
  start = problem.workload.site_bits(at_least)
  options = tuple(
    _raised(problem, group, allowed, start)
    for group, allowed in zip(problem.groups, problem.allowed, strict=True)
  )
  above = dataclasses.replace(problem, allowed=options, value=())
  found = least(above, cost)
  precision = found.precision(0)
  return precision, _raises(problem, cost, start, precision)


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
  """The cycles of the greedy pass and of `least_latency`, by `problem`.

  The greedy pass looks at outputs of 8 bits, as published.

  Args:
    problem: with a cost "cycles", without ties, bounds or limits that the
      greedy pass knows nothing of.
    cycles: int64 [L, A, W] or [L, A, W, O], that of the problem.
    at_least: bits of every site.
  """
  seen = cycles if cycles.ndim == 3 else cycles[..., -1]
  start = problem.workload.site_bits(at_least)
  greedy, _ = free_bits(problem.workload, seen, start)
  exact, _ = least_latency(problem, start)
  return Distance(
    *(
      int(evaluate(problem, p).costs["cycles"][0])
      for p in (start, greedy, exact)
    )
  )


def _raises(problem, cost, before, after):
  """What changed, by layer."""
  workload = problem.workload
  factors = {factor.name: factor for factor in problem.costs[cost]}
  changes = []
  for i, layer in enumerate(workload.layers):
    site = workload.input_sites[i][0]
    weight = workload.weight_site(layer) if layer.has_weights else None
    old, new = (
      (bits[site], bits[weight] if weight else None) for bits in (before, after)
    )
    then, now = (_entry(factors[layer.name], b) for b in (before, after))
    if old != new or then != now:
      changes.append(Raise(layer.name, site, old, new, then, now))
  return changes


def _entry(factor, bits):
  at = tuple(BITS.index(bits[site]) for site in factor.sites)
  return int(factor.table[at])
