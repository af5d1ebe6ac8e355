"""The choice of precisions as an optimization problem: costs, value, limits.

A cost is a sum of small integer tables, each over the bits of a few sites; so
is the value, of floats. Everything that chooses precisions from tables
(`fbq.search.exact`, `fbq.search.milp`) reads this one record.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import chex
import numpy as np

from fbq.search import constraints
from hwsim.latency_table import BITS, PULP_LADDER, Ladder, shape_of
from hwsim.workload import Workload

SIZE = "weight_bytes"
PEAK = "peak_bytes"
_LARGEST = 2**52  # sums of costs stay exact in float64


class Infeasible(ValueError):
  """No assignment meets the limits; the message says which one binds."""


class Factor(NamedTuple):
  """One term of a sum over the network.

  Attributes:
    name: name of the layer or the site that the term stands for.
    sites: `k` sites, each once.
    table: one axis for each site, over its bits in the order of the ladder.
  """

  name: str
  sites: tuple[str, ...]
  table: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """What may be chosen, what it costs and what it is worth.

  Attributes:
    workload: the network.
    groups: sites that share one precision; every site is in exactly one group.
    allowed: per group, the bits it may have, the most first.
    costs: by name, int64 factors; the factors of a cost add up. `make` gives
      every layer one factor in each cost that is a table of layers, in order.
    value: float64 factors, more is better.
    limits: most of each cost, or of `PEAK`, that an assignment may have.
    ladder: precisions of the hardware.
  """

  workload: Workload
  groups: tuple[tuple[str, ...], ...]
  allowed: tuple[tuple[int, ...], ...]
  costs: Mapping[str, tuple[Factor, ...]]
  value: tuple[Factor, ...] = ()
  limits: Mapping[str, int] = dataclasses.field(default_factory=dict)
  ladder: Ladder = PULP_LADDER

  def __post_init__(self):
    known = (*self.costs, PEAK)
    for name in self.limits:
      if name not in known:
        raise ValueError(f"no cost {name!r} to limit, there are {known}")
    for name, factors in self.costs.items():
      if sum(int(np.abs(f.table).max()) for f in factors) > _LARGEST:
        raise ValueError(
          f"cost {name!r} reaches above 2^52, where sums are no longer exact "
          "in float64: count in a larger unit"
        )

  @functools.cached_property
  def group_of(self) -> dict[str, int]:
    """Site -> position of its group."""
    return {s: i for i, group in enumerate(self.groups) for s in group}

  @functools.cached_property
  def live(self) -> tuple[Mapping[str, np.ndarray], ...]:
    """Per layer, int64 [A] bytes of each site's tensors while it runs."""
    return constraints.live_bytes(self.workload, self.ladder)

  def entry(self, factor: Factor, bits: Mapping[str, int]):
    """The entry of a factor's table at some bits of its sites."""
    at = tuple(self.ladder.of(site).index(bits[site]) for site in factor.sites)
    return factor.table[at]


class Candidates(NamedTuple):
  """`P` assignments with what they cost and are worth.

  Attributes:
    sites: names of the `S` columns, all of the workload.
    bits: uint8 [P, S].
    costs: by name, int64 [P], `PEAK` included.
    value: float64 [P].
    error: for every assignment there is a candidate that is worth no less and
      costs at most this much more. 0 where the candidates are exact.
  """

  sites: tuple[str, ...]
  bits: np.ndarray
  costs: dict[str, np.ndarray]
  value: np.ndarray
  error: int = 0

  def precision(self, index: int) -> dict[str, int]:
    """The assignment of one candidate."""
    return dict(zip(self.sites, self.bits[index].tolist(), strict=True))


def make(
  workload: Workload,
  costs: Mapping[str, np.ndarray],
  value: Mapping[str, Mapping[int, float]] | None = None,
  *,
  bounds: Sequence[tuple[str, int, int]] = (),
  ties: Sequence[str | Sequence[str]] = (),
  limits: Mapping[str, int] | None = None,
  pair_values: Mapping[tuple[str, str], np.ndarray] | None = None,
  ladder: Ladder = PULP_LADDER,
) -> Problem:
  """The problem of choosing the precisions of a network.

  The size of the model, `SIZE`, is a cost of every problem. Further terms of a
  cost or of the value are added with `dataclasses.replace`.

  Args:
    workload: `L` layers.
    costs: by name, integers [L, A, W] where the bits of outputs do not count
      (`LatencyTable.for_output_bits(8)`), or [L, A, W, O] where they do
      (`LatencyTable.cycles`), axes in the order of the ladder.
    value: {site: {bits: more is better}}, for instance from `fbq.search.value`;
      the sum over sites counts. Sites left out count nothing.
    bounds: (regular expression, least bits, most bits); an expression matches
      whole names of free sites, and later ones win.
    ties: regular expressions: the free sites one matches share a precision,
      separately for each text of its (groups); or lists of sites that do.
    limits: most cycles, `SIZE` or `PEAK` bytes.
    pair_values: {(site, site): table over their bits} added to the value.
    ladder: precisions of the hardware.

  Raises:
    ValueError: tables of other shapes, unknown sites, rules that match nothing
      or leave a site no precision, numbers that are not finite.
  """
  # Rules first: they are checked against the sites and are cheap.
  groups = constraints.tie(workload, ties)
  allowed = constraints.allowed_bits(workload, groups, bounds, ladder)
  factors = {
    name: layer_factors(workload, c, ladder) for name, c in costs.items()
  }

  # The size is always a cost, so that it can be limited and told.
  return Problem(
    workload,
    groups,
    allowed,
    {SIZE: tuple(_size_factors(workload, ladder)), **factors},
    (
      *_value_factors(workload, groups, allowed, value or {}, ladder),
      *_pair_factors(workload, pair_values or {}, ladder),
    ),
    dict(limits or {}),
    ladder,
  )


def layer_factors(
  workload: Workload, table: np.ndarray, ladder: Ladder = PULP_LADDER
) -> tuple[Factor, ...]:
  """One factor per layer from integers [L, A, W] or [L, A, W, O].

  Where several inputs of a layer differ in bits the widest counts, as in
  `LatencyTable`.
  """
  # A table of other axes would be read without an error below.
  table = np.asarray(table)
  a, w, _ = shape_of(ladder)
  shape = len(workload.layers), *(a, w, a)[: table.ndim - 1]
  if (
    table.ndim not in (3, 4)
    or table.shape != shape
    or not np.issubdtype(table.dtype, np.integer)
  ):
    raise ValueError(
      f"cost table is {table.dtype}{table.shape}, expected integers [L, {a}, "
      f"{w}] or [L, {a}, {w}, {a}] with L = {len(workload.layers)} layers"
    )

  # A layer depends on the sites that it reads and writes, each once: a tensor
  # that is added to itself has one axis.
  factors = []
  for i, layer in enumerate(workload.layers):
    reads = workload.input_sites[i]
    output = workload.output_sites[i] if table.ndim == 4 else None
    weight = [workload.weight_site(layer)] if layer.has_weights else []
    sites = tuple(
      dict.fromkeys([*reads, *weight, *([output] if output else [])])
    )
    lengths = [len(ladder.of(site)) for site in sites]
    level = dict(zip(sites, np.indices(lengths), strict=True))

    # Where inputs differ in bits the widest counts, as in `LatencyTable`.
    index = [np.maximum.reduce([level[site] for site in reads])]
    index.append(level[weight[0]] if weight else 0)
    if table.ndim == 4:
      index.append(level[output] if output else 0)
    factors.append(
      Factor(layer.name, sites, table[i][tuple(index)].astype(np.int64))
    )
  return tuple(factors)


def score(problem: Problem, bits: np.ndarray, error: int = 0) -> Candidates:
  """Candidates from bits uint8 [P, S] of every site of the workload."""
  sites = problem.workload.sites
  chex.assert_shape(bits, (None, len(sites)))
  level = {}
  for site, column in zip(sites, np.asarray(bits).T, strict=True):
    rungs = problem.ladder.of(site)
    level[site] = np.searchsorted(rungs, column)
    if (np.take(rungs, level[site], mode="clip") != column).any():  # 3 for 4
      raise ValueError(
        f"candidates of {np.setdiff1d(column, rungs)[:8].tolist()} bits, "
        f"expected {rungs}"
      )
  bits = np.asarray(bits, np.uint8)

  def total(factors, kind):
    result = np.zeros(len(bits), kind)
    for factor in factors:
      result += factor.table[tuple(level[site] for site in factor.sites)]
    return result

  costs = {name: total(f, np.int64) for name, f in problem.costs.items()}
  peak = np.zeros(len(bits), np.int64)
  for live in problem.live:
    now = sum(table[level[site]] for site, table in live.items() if site)
    np.maximum(peak, now + live.get("", 0), out=peak)
  costs[PEAK] = peak
  return Candidates(sites, bits, costs, total(problem.value, np.float64), error)


def evaluate(problem: Problem, precision: Mapping[str, int]) -> Candidates:
  """One candidate: what an assignment costs and is worth.

  Raises:
    ValueError: a site is missing or unknown, or has impossible bits.
  """
  bits = problem.workload.site_bits(precision)
  for site, number in bits.items():
    if number not in (rungs := problem.ladder.of(site)):
      raise ValueError(f"{site!r} is {number} bits, expected one of {rungs}")
  return score(problem, np.array([list(bits.values())]))


def uniform(problem: Problem, bits: Sequence[int] = BITS[::-1]) -> Candidates:
  """The uniform baselines: each of `bits` everywhere, as near as is allowed.

  A group that may not have these bits takes the most it may have below them,
  or else its least. Limits are not looked at.
  """
  rows = []
  for want in bits:
    chosen = [
      next((b for b in allowed if b <= want), allowed[-1])
      for allowed in problem.allowed
    ]
    rows.append(
      [chosen[problem.group_of[site]] for site in problem.workload.sites]
    )
  return score(problem, np.array(rows))


def _size_factors(workload, ladder):
  for layer in workload.layers:
    if layer.has_weights:
      site = workload.weight_site(layer)
      sizes = [-(-layer.weight_count * bits // 8) for bits in ladder.weights]
      yield Factor(site, (site,), np.array(sizes, np.int64))


def _value_factors(workload, groups, allowed, value, ladder):
  bits_of = {
    site: bits
    for group, bits in zip(groups, allowed, strict=True)
    for site in group
  }
  _check_sites(workload, value)
  for site, by_bits in value.items():
    missing = [b for b in bits_of[site] if b not in by_bits]
    if missing:
      raise ValueError(f"no value of {site!r} at {missing} bits")
    rungs = ladder.of(site)
    table = np.zeros(len(rungs))
    for b in bits_of[site]:
      table[rungs.index(b)] = by_bits[b]
    yield _finite(Factor(site, (site,), table))


def _pair_factors(workload, pairs, ladder):
  for sites, table in pairs.items():
    _check_sites(workload, sites)
    table = np.asarray(table, np.float64)
    shape = tuple(len(ladder.of(site)) for site in sites)
    if len(set(sites)) != 2 or table.shape != shape:
      raise ValueError(
        f"pair value of {sites}: table has shape {table.shape}, expected two "
        f"different sites and {list(shape)}"
      )
    yield _finite(Factor(" x ".join(sites), tuple(sites), table))


def _check_sites(workload, sites):
  unknown = [site for site in sites if site not in workload.sites]
  if unknown:
    raise ValueError(f"values of {unknown[:5]}: {workload.name} has none such")


def _finite(factor):
  if not np.isfinite(factor.table).all():
    raise ValueError(
      f"value of {factor.name} is {factor.table.tolist()}, expected finite "
      "numbers"
    )
  return factor
