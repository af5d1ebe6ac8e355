"""Least upper quantiles: against brute force, and the passes of one table."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import workloads

from fbq.search import exact as exact_search
from fbq.search import pareto_sets, problem, quantile
from fbq.search.free_bits import free_bits
from hwsim.latency_table import BITS


def drawn_tables(workload, draws, seed):
  """Cycles [H, L, A, W, O] of related draws, constant where no tensor is."""
  random = np.random.default_rng(seed)
  cycles = random.integers(1, 100, (len(workload.layers), 3, 3, 3))
  cycles = np.rint(cycles * random.uniform(0.7, 1.3, (draws, *cycles.shape)))
  cycles = cycles.astype(np.int64)
  for i, layer in enumerate(workload.layers):
    if not layer.has_weights:
      cycles[:, i] = cycles[:, i, :, :1]
    if workload.output_sites[i] is None:
      cycles[:, i] = cycles[:, i, :, :, :1]
  return cycles


def total(workload, cycles, bits):
  """Cycles [H] of a network, looked up layer by layer."""
  found = 0
  for i, layer in enumerate(workload.layers):
    reads = max(bits[s] for s in workload.input_sites[i])
    weight = bits[workload.weight_site(layer)] if layer.has_weights else 2
    out = bits.get(workload.output_sites[i], 2)
    place = [BITS.index(b) for b in (reads, weight, out)][: cycles.ndim - 2]
    found = found + cycles[:, i, *place]
  return found


def all_above(workload, start):
  """Every assignment that is nowhere below a start."""
  fixed = dict(workload.fixed_bits)
  rungs = [
    [fixed[s]] if s in fixed else [b for b in BITS if b >= start[s]]
    for s in workload.sites
  ]
  for bits in itertools.product(*rungs):
    yield dict(zip(workload.sites, bits, strict=True))


def order_statistic(numbers, share):
  """The least number that at least a share of them does not exceed."""
  ordered = sorted(numbers)
  return next(
    n
    for n in ordered
    if sum(m <= n for m in ordered) >= share * len(ordered) - 1e-9
  )


CASES = dict(
  workload=workloads(most_free=6),
  seed=st.integers(0, 10**6),
  draws=st.sampled_from([1, 5, 10]),
  share=st.sampled_from([0.5, 0.9, 1.0]),
  own_outputs=st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_the_exact_pass_is_the_best_of_all(
  workload, seed, draws, share, own_outputs
):
  cycles = drawn_tables(workload, draws, seed)
  cycles = cycles if own_outputs else cycles[..., 2]
  start = workload.site_bits(dict.fromkeys(workload.free_sites, 2))
  choice = problem.make(workload, {})
  bits, reached, bound = quantile.least_latency(choice, cycles, start, share)
  best = min(
    order_statistic(total(workload, cycles, way), share)
    for way in all_above(workload, start)
  )
  assert reached == best == bound
  assert order_statistic(total(workload, cycles, bits), share) == best
  assert all(bits[site] == b for site, b in workload.fixed_bits)


@settings(max_examples=40, deadline=None)
@given(**CASES, breadth=st.integers(1, 3))
def test_what_a_narrow_pass_misses_is_not_below_its_bound(
  workload, seed, draws, share, own_outputs, breadth
):
  cycles = drawn_tables(workload, draws, seed)
  cycles = cycles if own_outputs else cycles[..., 2]
  start = workload.site_bits(dict.fromkeys(workload.free_sites, 2))
  choice = problem.make(workload, {})
  found = quantile.least_latency(choice, cycles, start, share, (breadth,))
  best = min(
    order_statistic(total(workload, cycles, way), share)
    for way in all_above(workload, start)
  )
  assert found.bound <= best <= found.cycles
  of_found = total(workload, cycles, found.precision)
  assert order_statistic(of_found, share) == found.cycles
  assert found.gap == found.cycles / found.bound - 1


@settings(max_examples=40, deadline=None)
@given(**CASES)
def test_the_greedy_pass_ends_where_no_tensor_with_its_weights_gains(
  workload, seed, draws, share, own_outputs
):
  cycles = drawn_tables(workload, draws, seed)
  cycles = cycles if own_outputs else cycles[..., 2]
  start = workload.site_bits(dict.fromkeys(workload.free_sites, 2))
  bits = quantile.free_bits(workload, cycles, start, share)
  reached = order_statistic(total(workload, cycles, bits), share)
  assert reached <= order_statistic(total(workload, cycles, start), share)
  weights = {workload.weight_site(x) for x in workload.layers if x.has_weights}
  for site in set(workload.sites) - weights:
    own = {site} | {
      workload.weight_site(layer)
      for layer, reads in zip(
        workload.layers, workload.input_sites, strict=True
      )
      if site in reads and layer.has_weights
    }
    for way in all_above(workload, bits):
      if all(way[s] == bits[s] for s in bits if s not in own):
        assert order_statistic(total(workload, cycles, way), share) >= reached


@settings(max_examples=40, deadline=None)
@given(workload=CASES["workload"], seed=CASES["seed"], own=st.booleans())
def test_one_draw_gives_the_passes_of_one_table(workload, seed, own):
  cycles = drawn_tables(workload, 1, seed)
  cycles = cycles if own else cycles[..., 2]
  start = workload.site_bits(dict.fromkeys(workload.free_sites, 2))
  greedy = quantile.free_bits(workload, cycles, start, 1.0)
  assert greedy == free_bits(workload, cycles[0], start)[0]
  choice = problem.make(workload, {"cycles": cycles[0]})
  bits, reached, _ = quantile.least_latency(choice, cycles, start, 1.0)
  exact, _ = exact_search.least_latency(choice, start)
  assert reached == total(workload, cycles, exact)[0]
  assert total(workload, cycles, bits)[0] == reached


def test_the_quantile_of_a_network_is_not_the_sum_of_those_of_layers():
  numbers = np.array([[1, 9], [9, 1]])
  assert quantile.upper(numbers.sum(axis=1), 1.0) == 10
  assert quantile.upper(numbers, 1.0).sum() == 18
  assert quantile.upper(np.arange(10), 0.9) == 8
  assert quantile.upper(np.arange(10), 0.91) == 9


@pytest.mark.parametrize("share", [0, 1.1, -1])
def test_shares_are_checked(share):
  with pytest.raises(ValueError, match="expected a share above 0 to 1"):
    quantile.upper(np.arange(3), share)


def mobilenet_draws(draws):
  """Tables in which hardly an assignment is worse than another everywhere."""
  from hwsim_networks import mobilenet_v1

  workload = mobilenet_v1()
  random = np.random.default_rng(0)
  cycles = random.integers(1, 9, (draws, len(workload.layers), 3, 3))
  start = dict.fromkeys(workload.sites, 2) | dict(workload.fixed_bits)
  return workload, cycles, start


def test_limits_on_sums_are_refused():
  workload, cycles, start = mobilenet_draws(2)
  limited = problem.make(workload, {}, limits={"weight_bytes": 10})
  with pytest.raises(ValueError, match="limits on .*weight_bytes"):
    quantile.least_latency(limited, cycles, start, 0.9)


def test_too_many_ways_end_in_a_bound_that_wider_passes_raise():
  workload, cycles, start = mobilenet_draws(20)
  choice = problem.make(workload, {})
  widths = (4,), (4, 32), (4, 32, 256)
  found = [
    quantile.least_latency(choice, cycles, start, 0.9, each) for each in widths
  ]
  assert found[0].gap > 0
  for narrow, wide in itertools.pairwise(found):
    assert narrow.bound <= wide.bound <= wide.cycles <= narrow.cycles

  # Nothing near what is found is below the bound
  random, least = np.random.default_rng(1), found[0].bound
  for _ in range(200):
    near = dict(found[-1].precision)
    for site in random.choice(workload.free_sites, 3):
      near[site] = int(random.choice(BITS))
    assert order_statistic(total(workload, cycles, near), 0.9) >= least


def test_where_sets_meet_in_too_many_sums_the_narrower_pass_counts(monkeypatch):
  monkeypatch.setattr(pareto_sets, "MOST_POINTS", 20)
  workload, cycles, start = mobilenet_draws(20)
  choice = problem.make(workload, {})
  found = quantile.least_latency(choice, cycles, start, 0.9, (2, 100))
  narrow = quantile.least_latency(choice, cycles, start, 0.9, (2,))
  assert found == narrow and found.gap > 0
