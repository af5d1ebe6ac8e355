"""A problem compiled for elimination: tables over groups with a choice."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fbq.search.problem import PEAK, Factor, Problem

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


class TermModel(NamedTuple):
  """Terms that add up; variables are the groups of a problem.

  Attributes:
    options: per variable, its bits in the order of its axis.
    terms: no scope lies within another.
    names: names of the `C` costs.
  """

  options: tuple[tuple[int, ...], ...]
  terms: tuple[Term, ...]
  names: tuple[str, ...]


def compile_model(problem: Problem, names: Sequence[str]) -> TermModel:
  """The terms of a problem, with its costs called `names`.

  Args:
    problem: problem whose limit on peak memory, if any, makes options illegal.
    names: names of the `C` costs that count.

  Raises:
    TooWide: more tensors are alive at once than a table can have axes.
  """
  # Memory is no sum over layers but a limit on each, so it is not a cost.
  factors = [(c, f) for c, n in enumerate(names) for f in problem.costs[n]]
  factors += [("value", f) for f in problem.value]
  if PEAK in problem.limits:
    factors += [("legal", f) for f in _fitting(problem)]
  found: dict[tuple[int, ...], list] = {
    (group,): []  # one that nothing depends on, too
    for group, bits in enumerate(problem.allowed)
    if len(bits) > 1
  }
  for slot, factor in factors:
    scope, table = _over_groups(problem, factor)
    found.setdefault(scope, []).append((slot, table))

  # Smaller scopes go into a larger one around them.
  terms: dict[tuple[int, ...], Term] = {}
  for scope in sorted(found, key=len, reverse=True):
    around = next((s for s in terms if set(scope) <= set(s)), scope)
    if around == scope:
      terms[scope] = _empty(problem, scope, len(names))
    shape = shape_among(scope, around, problem.allowed)
    for slot, table in found[scope]:
      _add(terms[around], slot, table.reshape(shape))
  return TermModel(problem.allowed, tuple(terms.values()), tuple(names))


def _empty(problem, scope, costs):
  shape = tuple(len(problem.allowed[group]) for group in scope)
  return Term(
    scope,
    np.zeros((*shape, costs), np.int64),
    np.zeros(shape),
    np.ones(shape, bool),
  )


def _add(term, slot, table):
  if slot == "value":
    term.value[...] += table
  elif slot == "legal":
    term.legal[...] &= table
  else:
    term.costs[..., slot] += table


def _over_groups(problem, factor: Factor):
  """(scope, table) of a factor over the groups of its sites.

  Groups that have no choice are not in the scope.
  """
  options = problem.allowed
  groups = [problem.group_of[site] for site in factor.sites]
  scope = tuple(sorted({g for g in groups if len(options[g]) > 1}))
  index = []
  for site, group in zip(factor.sites, groups, strict=True):
    rungs = problem.ladder.of(site)
    levels = np.array([rungs.index(b) for b in options[group]])
    shape = [-1 if g == group else 1 for g in scope]
    index.append(levels.reshape(shape) if group in scope else levels[0])
  table = np.asarray(factor.table[tuple(index)])
  return scope, np.broadcast_to(table, [len(options[g]) for g in scope])


def _fitting(problem):
  """Bool factors, one for each layer whose activations may be too large."""
  limit, rungs = problem.limits[PEAK], problem.ladder.activations
  known = set()
  for layer, live in zip(problem.workload.layers, problem.live, strict=True):
    free, table, most = [], np.array(live.get("", 0)), 0
    for site in filter(None, live):
      bits = problem.allowed[problem.group_of[site]]
      sizes = live[site][[rungs.index(b) for b in bits]]
      if len(bits) > 1:
        free.append(site)
        most += sizes.max()
      else:
        table = table + sizes[0]
    if table + most <= limit:
      continue
    if len(rungs) ** len(free) > MOST_ENTRIES:
      raise TooWide(f"{len(free)} tensors are alive at {layer.name}")
    for site in free:
      table = table[..., None] + live[site]
    key = tuple(free), table.tobytes()
    if key not in known:
      known.add(key)
      yield Factor(layer.name, tuple(free), table <= limit)


def shape_among(
  scope: Sequence[int],
  axes: Sequence[int],
  options: Sequence[Sequence[int]],
) -> tuple[int, ...]:
  """A shape in which a table over `scope` broadcasts to one over `axes`."""
  return tuple(len(options[v]) if v in scope else 1 for v in axes)


def to_bits(
  problem: Problem, model: TermModel, chosen: np.ndarray
) -> np.ndarray:
  """Bits uint8 [K, S] of every site from options [V, K] of every variable."""
  by_group = [
    np.array(options, np.uint8)[row]
    for options, row in zip(model.options, chosen, strict=True)
  ]
  columns = [by_group[problem.group_of[s]] for s in problem.workload.sites]
  return np.stack(columns, axis=1)
