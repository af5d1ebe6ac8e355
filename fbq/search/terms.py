"""A problem compiled for elimination: tables over groups with a choice."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fbq.search.problem import PEAK, Factor, Problem
from hwsim.latency_table import BITS

MOST_ENTRIES = 1 << 20  # of one table


class TooWide(Exception):
  """A step would need a larger table than `MOST_ENTRIES`."""


class Term(NamedTuple):
  """A table over `k` variables, each of some `n` options.

  Attributes:
    scope: the variables, ascending.
    costs: int64 [n, ..., n, C].
    value: float64 [n, ..., n].
    legal: bool [n, ..., n], False where a limit on memory is exceeded.
  """

  scope: tuple[int, ...]
  costs: np.ndarray
  value: np.ndarray
  legal: np.ndarray


class Model(NamedTuple):
  """Terms that add up; variables are the groups of a problem.

  Attributes:
    options: per variable, its bits in the order of its axis.
    terms: no scope lies within another.
    names: of the `C` costs.
  """

  options: tuple[tuple[int, ...], ...]
  terms: tuple[Term, ...]
  names: tuple[str, ...]


def compile_model(
  problem: Problem,
  names: Sequence[str],
) -> Model:
  """The terms of a problem, with its costs called `names`.

  Args:
    problem: its limit on peak memory, if any, makes options illegal.
    names: of the `C` costs that count.

  Raises:
    TooWide: more tensors are alive at once than a table can have axes.
  """
  options = problem.allowed
  found: dict[tuple[int, ...], list] = {}

  def place(factor, slot):
    scope, table = _over_groups(problem, options, factor)
    parts = found.setdefault(scope, [])
    parts.append((slot, table))

  for c, name in enumerate(names):
    for factor in problem.costs[name]:
      place(factor, c)
  for factor in problem.value:
    place(factor, "value")
  if PEAK in problem.limits:
    for factor in _too_large(problem, options):
      place(factor, "legal")
  for group, bits in enumerate(options):
    if len(bits) > 1:
      found.setdefault((group,), [])  # one that nothing depends on, too
  # Smaller scopes go into a larger one around them.
  home = {}
  for scope in sorted(found, key=len, reverse=True):
    around = (s for s in home.values() if set(scope) <= set(s))
    home[scope] = next(around, scope)
  terms = {}
  for scope in found:
    target = home[scope]
    if target not in terms:
      shape = tuple(len(options[v]) for v in target)
      terms[target] = Term(
        target,
        np.zeros((*shape, len(names)), np.int64),
        np.zeros(shape),
        np.ones(shape, bool),
      )
    into = terms[target]
    shape = shape_among(scope, target, options)
    for slot, table in found[scope]:
      if slot == "value":
        into.value[...] += table.reshape(shape)
      elif slot == "legal":
        into.legal[...] &= table.reshape(shape)
      else:
        into.costs[..., slot] += table.reshape(shape)
  return Model(options, tuple(terms.values()), tuple(names))


def _over_groups(problem, options, factor: Factor):
  """(scope, table) of a factor over the groups of its sites.

  Groups that have no choice are not in the scope.
  """
  groups = [problem.group_of[site] for site in factor.sites]
  scope = tuple(sorted({g for g in groups if len(options[g]) > 1}))
  index = []
  for group in groups:
    levels = np.array([BITS.index(b) for b in options[group]])
    shape = [-1 if g == group else 1 for g in scope]
    index.append(levels.reshape(shape) if group in scope else levels[0])
  table = factor.table[tuple(index)]
  return scope, np.broadcast_to(table, [len(options[g]) for g in scope])


def _too_large(problem, options):
  """Bool factors of the layers whose activations may exceed the limit."""
  limit = problem.limits[PEAK]
  known = set()
  for layer, live in zip(problem.workload.layers, problem.live, strict=True):
    sites = tuple(site for site in live if site)
    ranges = [
      [live[s][BITS.index(b)] for b in options[problem.group_of[s]]]
      for s in sites
    ]
    if sum(map(max, ranges)) + live.get("", 0) <= limit:
      continue
    free = {problem.group_of[s] for s in sites}
    free = [g for g in free if len(options[g]) > 1]
    if (
      math.prod(len(options[g]) for g in free) > MOST_ENTRIES or len(sites) > 20
    ):
      raise TooWide(f"{len(sites)} tensors are alive at {layer.name}")
    table = np.array(live.get("", 0))
    for site in sites:
      table = table[..., None] + live[site]
    key = sites, table.tobytes()
    if key not in known:
      known.add(key)
      yield Factor(layer.name, sites, table <= limit)


def shape_among(
  scope: Sequence[int],
  axes: Sequence[int],
  options: Sequence[Sequence[int]],
) -> tuple[int, ...]:
  """A shape in which a table over `scope` broadcasts to one over `axes`."""
  return tuple(len(options[v]) if v in scope else 1 for v in axes)


def to_bits(problem: Problem, model: Model, chosen: np.ndarray) -> np.ndarray:
  """Bits uint8 [K, S] of every site from options [V, K] of every variable."""
  by_group = [
    np.array(options, np.uint8)[row]
    for options, row in zip(model.options, chosen, strict=True)
  ]
  columns = [by_group[problem.group_of[s]] for s in problem.workload.sites]
  return np.stack(columns, axis=1)
