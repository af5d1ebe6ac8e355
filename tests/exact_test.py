"""Exact search against brute force over every assignment of small networks."""

import dataclasses
import itertools
from unittest import mock

import hwsim_networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import random_table, workloads

from fbq.search import exact, milp, pareto_sets, solve
from fbq.search.exact import distance, least_latency
from fbq.search.free_bits import free_bits
from fbq.search.problem import PEAK, SIZE, Infeasible, make
from hwsim.latency_table import BITS, encode, flat_costs
from hwsim.proxies import peak_activation_bytes, weight_bytes
from hwsim.workload import Layer, Workload


@dataclasses.dataclass(frozen=True)
class Case:
  """A problem beside the plain data it was made of.

  Attributes:
    rows: int [P, S], every legal assignment, found by filtering all of them.
    cycles: int64 [P], by `hwsim`.
    value: float64 [P].
  """

  workload: Workload
  table: np.ndarray
  problem: object
  rows: np.ndarray
  cycles: np.ndarray
  value: np.ndarray

  def bytes(self):
    """(size, peak memory), each int [P], by `hwsim`."""
    sites = self.workload.sites
    given_bits = [dict(zip(sites, map(int, r), strict=True)) for r in self.rows]
    return tuple(
      np.array([count(self.workload, precision) for precision in given_bits])
      for count in (weight_bytes, peak_activation_bytes)
    )


@st.composite
def cases(draw, most_free=8, ruled=True, whole_value=None):
  """Few different numbers make ties; many make large fronts."""
  fixed = draw(st.booleans())
  workload = draw(workloads(most_free, adders_fixed=fixed, most_channels=40))
  most = draw(st.sampled_from([1, 3, 10**6]))
  seed = draw(st.integers(0, 2**32 - 1))
  table = random_table(workload, seed, most)
  by_site = draw(st.booleans())
  random = np.random.default_rng(seed + 1)
  whole = draw(st.booleans()) if whole_value is None else whole_value
  numbers = random.integers(-3, 4, (len(workload.sites), 3)) * 1.0
  if not whole:
    numbers += random.normal(size=numbers.shape)
  value = dict(zip(workload.sites, numbers, strict=True))
  bounds, ties = draw(rules(workload)) if ruled else ([], [])
  pairs = {}
  if len(workload.sites) > 1 and draw(st.booleans()):
    pair = tuple(random.choice(workload.sites, 2, replace=False).tolist())
    pairs[pair] = random.integers(-3, 4, (3, 3)) * 1.0
  problem = make(
    workload,
    {"cycles": table.cycles if by_site else table.for_output_bits(8)},
    {s: dict(zip(BITS, v, strict=True)) for s, v in value.items()},
    bounds=bounds,
    ties=ties,
    pair_values=pairs,
  )
  rows = np.array(
    [r for r in everything(workload) if legal(workload, r, bounds, ties)]
  )
  output_bits = "site" if by_site else 8
  codes = encode(workload, rows, output_bits=output_bits)
  costs = flat_costs(table, workload, output_bits)
  level = np.searchsorted(BITS, rows)
  worth = np.zeros(len(rows))
  for i, site in enumerate(workload.sites):
    worth += value[site][level[:, i]]
  for (a, b), extra in pairs.items():
    index = workload.sites.index
    worth += extra[level[:, index(a)], level[:, index(b)]]
  cycles = costs[np.arange(len(costs)), codes].sum(axis=1)
  view = table.cycles if by_site else table.for_output_bits(8)
  return Case(workload, view, problem, rows, cycles, worth)


@st.composite
def rules(draw, workload):
  """Bounds and ties of free sites that leave every site a precision."""
  free = workload.free_sites
  if len(free) < 2:
    return [], []
  bounds, ties = [], []
  if draw(st.booleans()):
    site = draw(st.sampled_from(free))
    least, most = sorted(draw(st.tuples(*[st.sampled_from(BITS)] * 2)))
    bounds.append((site.replace(".", r"\."), least, most))
  if draw(st.booleans()):
    bounded_sites = [site.replace("\\", "") for site, _, _ in bounds]
    loose = [site for site in free if site not in bounded_sites]
    if len(loose) > 1:
      ties.append(draw(st.permutations(loose))[: draw(st.integers(2, 3))])
  return bounds, ties


def everything(workload):
  fixed = dict(workload.fixed_bits)
  return itertools.product(
    *([fixed[s]] if s in fixed else BITS for s in workload.sites)
  )


def legal(workload, row, bounds, ties):
  bits = dict(zip(workload.sites, row, strict=True))
  return all(
    least <= bits[pattern.replace("\\", "")] <= most
    for pattern, least, most in bounds
  ) and all(len({bits[site] for site in tie}) == 1 for tie in ties)


def brute_front(cycles, value):
  """(cycles, value) of the points no other is as cheap and as good as."""
  found, best = [], -np.inf
  for cost in np.unique(cycles):
    most = value[cycles == cost].max()
    if most > best + 1e-9:
      found.append((cost, most))
      best = most
  return np.array(found)


def assert_is(case, found, rows=None):
  """What is reported of assignments is true, and they are legal."""
  known = {tuple(r): i for i, r in enumerate(case.rows.tolist())}
  at = [known[tuple(row)] for row in found.bits.tolist()]
  assert found.costs["cycles"].tolist() == case.cycles[at].tolist()
  np.testing.assert_allclose(found.value, case.value[at], atol=1e-9)
  return at


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([1, 4096]))
def test_front_is_that_of_all_assignments(case, prune_above):
  with mock.patch.object(pareto_sets, "_PRUNE_ABOVE", prune_above):
    found = exact.front(case.problem)
  assert_is(case, found)
  expected = brute_front(case.cycles, case.value)
  # Values may differ in rounding only: then one of two is dominated.
  assert (np.diff(found.costs["cycles"]) > 0).all()
  assert (np.diff(found.value) > 0).all()
  big = np.append(True, np.diff(found.value) > 1e-9)
  np.testing.assert_array_equal(found.costs["cycles"][big], expected[:, 0])
  np.testing.assert_allclose(found.value[big], expected[:, 1], atol=1e-9)
  assert found.error == 0


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(0, 10**6), st.integers(1, 4), st.data())
def test_thinned_front_keeps_the_error_it_reports(
  case, resolution, above, data
):
  most = int(data.draw(st.sampled_from([*case.cycles.tolist(), 2**53])))
  problem = dataclasses.replace(case.problem, limits={"cycles": most})
  with mock.patch.object(pareto_sets, "THIN_ABOVE", above):
    found = exact.front(problem, resolution)
  assert_is(case, found)
  assert 0 <= found.error <= resolution
  assert (np.diff(found.costs["cycles"]) > 0).all()
  assert found.costs["cycles"].max() <= most
  fits = case.cycles <= most
  for cost, value in brute_front(case.cycles[fits], case.value[fits]):
    near = found.costs["cycles"] <= cost + found.error
    assert found.value[near].max(initial=-np.inf) >= value - 1e-9


def test_thinning_thins():
  net = hwsim_networks.chain(
    "six", [Layer(f"l{i}", "linear", 1, 1) for i in range(6)]
  )
  table = random_table(net, 0, 10**6)
  random = np.random.default_rng(0)
  value = {s: dict(zip(BITS, random.random(3), strict=True)) for s in net.sites}
  problem = make(net, {"cycles": table.cycles}, value)
  whole = exact.front(problem)
  with mock.patch.object(pareto_sets, "THIN_ABOVE", 4):
    thin = exact.front(problem, 1_000_000)
  assert 2 < len(thin.value) < len(whole.value) / 2
  assert 0 < thin.error <= 1_000_000


@settings(max_examples=60, deadline=None)
@given(cases(), st.data())
def test_best_value_under_each_budget(case, data):
  ends = int(case.cycles.min()), int(case.cycles.max())
  budgets = data.draw(st.lists(st.integers(*ends), min_size=1, max_size=4))
  found = exact.best_value(case.problem, budgets)
  assert_is(case, found)
  for i, budget in enumerate(budgets):
    assert found.costs["cycles"][i] <= budget
    most = case.value[case.cycles <= budget].max()
    assert found.value[i] == pytest.approx(most, abs=1e-9)
  # More cycles never make it worth less.
  assert (np.diff(found.value[np.argsort(budgets)]) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(cases(most_free=6), st.data())
def test_best_value_under_several_limits(case, data):
  """All three ways agree with brute force on cycles, size and memory."""
  sums = dict(zip((SIZE, PEAK), case.bytes(), strict=True))
  cycles = case.cycles
  limits = {
    name: data.draw(st.integers(int(n.min()), int(n.max())))
    for name, n in sums.items()
    if data.draw(st.booleans())
  }
  budget = data.draw(st.integers(int(cycles.min()), int(cycles.max())))
  problem = dataclasses.replace(case.problem, limits=limits)
  fits = cycles <= budget
  for name, most in limits.items():
    fits &= sums[name] <= most
  for choose in (
    lambda: exact.best_value(problem, [budget]),
    lambda: solve.best_within(problem, "cycles", budget),
    lambda: milp.best_value(problem, {"cycles": budget}),
  ):
    if not fits.any():
      with pytest.raises(Infeasible):
        choose()
      continue
    found = choose()
    (at,) = assert_is(case, found)
    assert fits[at]
    assert found.costs[SIZE] == sums[SIZE][at]
    assert found.costs[PEAK] == sums[PEAK][at]
    most = case.value[fits].max()
    assert found.value[0] == pytest.approx(most, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(cases(most_free=5), st.data())
def test_front_under_a_limit_on_size(case, data):
  sizes, _ = case.bytes()
  most = data.draw(st.integers(int(sizes.min()), int(sizes.max())))
  resolution = data.draw(st.sampled_from([0, 1, 10**5]))
  problem = dataclasses.replace(case.problem, limits={SIZE: most})
  found = exact.front(problem, resolution)
  at = assert_is(case, found)
  assert (sizes[at] <= most).all() and found.error <= resolution
  fits = sizes <= most
  for cost, value in brute_front(case.cycles[fits], case.value[fits]):
    near = found.costs["cycles"] <= cost + found.error
    assert found.value[near].max(initial=-np.inf) >= value - 1e-9


@settings(max_examples=60, deadline=None)
@given(cases())
def test_tradeoffs_are_the_least_of_the_sum(case):
  lambdas = [0.0, 0.1, 1.0, 7.5, 1e3, 1e5, 1e9]
  found = exact.tradeoffs(case.problem, lambdas)
  assert_is(case, found)
  for i, weight in enumerate(lambdas):
    expected = (case.cycles - weight * case.value).min()
    got = found.costs["cycles"][i] - weight * found.value[i]
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-6)
    one = exact.tradeoffs(case.problem, [weight])
    assert (one.bits[0] == found.bits[i]).all()


@settings(max_examples=60, deadline=None)
@given(cases(), st.data())
def test_least_latency_and_its_ties(case, data):
  """Brute force over what is above, then site by site as documented."""
  sites, problem = case.workload.sites, case.problem
  start = data.draw(st.sampled_from(case.rows.tolist()))
  above = case.rows[(case.rows >= start).all(axis=1)]
  cycles = case.cycles[(case.rows >= start).all(axis=1)]
  optima = above[cycles == cycles.min()]
  for i, bits in enumerate(start):
    keeps = optima[:, i] == bits
    wanted = bits if keeps.any() else optima[:, i].max()
    optima = optima[optima[:, i] == wanted]
  begin = dict(zip(sites, start, strict=True))
  found, changes = least_latency(problem, begin)
  assert found == dict(zip(sites, optima[0].tolist(), strict=True))
  index = case.rows.tolist().index
  before, after = case.cycles[[index(start), index(list(found.values()))]]
  saved = sum(c.cycles_before - c.cycles_after for c in changes)
  assert before - after == saved
  told = {site for c in changes if c.before != c.after for site in [c.site]}
  assert all(found[c.site] == c.after[0] for c in changes)
  assert told <= set(sites)


@settings(max_examples=80, deadline=None)
@given(workloads(), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 10**6]))
def test_least_latency_is_the_greedy_pass_for_8_bit_outputs(net, seed, most):
  table = random_table(net, seed, most)
  bits = np.random.default_rng(seed).choice(BITS, len(net.sites))
  start = dict(zip(net.sites, bits.tolist(), strict=True))
  start |= dict(net.fixed_bits)
  cycles = table.for_output_bits(8)
  problem = make(net, {"cycles": cycles})
  assert least_latency(problem, start) == free_bits(net, cycles, start)


@settings(max_examples=60, deadline=None)
@given(workloads(adders_fixed=False), st.integers(0, 2**32 - 1))
def test_exact_is_never_slower_than_greedy(net, seed):
  table = random_table(net, seed, 10**6)
  bits = np.random.default_rng(seed).choice(BITS, len(net.sites))
  start = dict(zip(net.sites, bits.tolist(), strict=True))
  start |= dict(net.fixed_bits)
  problem = make(net, {"cycles": table.cycles})
  found = distance(problem, table.cycles, start)
  assert found.least <= min(found.greedy, found.start)


@settings(max_examples=30, deadline=None)
@given(cases(most_free=6, ruled=False), st.data())
def test_least_latency_under_a_limit_on_size(case, data):
  sizes, _ = case.bytes()
  start = data.draw(st.sampled_from(case.rows.tolist()))
  above = (case.rows >= start).all(axis=1)
  most = data.draw(st.integers(int(sizes.min()), int(sizes.max())))
  problem = dataclasses.replace(case.problem, limits={SIZE: most})
  begin = dict(zip(case.workload.sites, start, strict=True))
  fits = above & (sizes <= most)
  if not fits.any():
    with pytest.raises(Infeasible, match=f"{SIZE} <= {most} cannot be met"):
      least_latency(problem, begin)
    return
  found, _ = least_latency(problem, begin)
  at = case.rows.tolist().index(list(found.values()))
  assert fits[at] and case.cycles[at] == case.cycles[fits].min()


@settings(max_examples=20, deadline=None)
@given(cases(most_free=6), st.data())
def test_infeasible_states_the_least(case, data):
  _, peaks = case.bytes()
  least, lowest = int(case.cycles.min()), int(peaks.min())
  with pytest.raises(Infeasible) as error:
    exact.best_value(case.problem, [least - 1])
  assert str(error.value) == (
    f"cycles <= {least - 1} cannot be met: the least achievable is {least}"
  )
  tight = dataclasses.replace(case.problem, limits={PEAK: lowest - 1})
  for choose in (exact.front, solve.least):
    with pytest.raises(Infeasible) as error:
      choose(tight)
    assert str(error.value) == (
      f"{PEAK} <= {lowest - 1} cannot be met: the least achievable is {lowest}"
    )


def test_infeasible_names_the_limit_that_binds():
  """Low bits are slow here, so memory and latency exclude each other."""
  net = hwsim_networks.chain(
    "two", [Layer("a", "linear", 8, 8), Layer("b", "linear", 8, 8)]
  )
  cycles = np.full((2, 3, 3), 1)
  cycles[1] = np.array([30, 20, 10])[:, None]  # by bits of a.out
  limits = {PEAK: 36, SIZE: 10**6}  # while b runs: a.out and 8 x 32 bits
  problem = make(net, {"cycles": cycles}, limits=limits)
  assert solve.least(problem).costs["cycles"] == 21
  with pytest.raises(Infeasible) as error:
    exact.best_value(problem, [15])
  assert str(error.value) == (
    f"cycles <= 15 cannot be met together with {PEAK} <= 36: the least "
    f"achievable is 21; without the limit on {PEAK} it would be 11"
  )
  # The same where the front is of another cost and the last limit is memory.
  limits = {"cycles": 15, PEAK: 36}
  with pytest.raises(Infeasible, match=f"cycles <= 15 .* with {PEAK} <= 36"):
    exact.front(dataclasses.replace(problem, limits=limits), cost=SIZE)


def test_one_tensor_may_exceed_memory_at_several_layers():
  """Two pools of one precision: the second one needs more."""
  layers = (
    Layer("a", "conv", 1, 10),
    Layer("small", "max_pool", 10, 10),
    Layer("large", "max_pool", 40, 40),
    Layer("b", "linear", 40, 1),
  )
  site = ("a.out",)
  net = Workload(
    "pools",
    layers,
    ((-1,), (0,), (1,), (2,)),
    (("image.out",), site, site, site),
    (*site * 3, None),
    (("image.out", 8),),
  )
  value = {"a.out": {2: 0.0, 4: 1.0, 8: 2.0}}
  for most, bits in ((50, 8), (49, 4), (25, 4), (24, 2), (19, 2), (14, 2)):
    problem = make(
      net, {"cycles": np.ones((4, 3, 3), int)}, value, limits={PEAK: most}
    )
    chosen = exact.front(problem).precision(0)
    assert chosen["a.out"] == bits
    assert peak_activation_bytes(net, chosen) <= most
  with pytest.raises(Infeasible, match="the least achievable is 14"):
    exact.front(
      make(net, {"cycles": np.ones((4, 3, 3), int)}, value, limits={PEAK: 13})
    )
