"""Exact search on whole networks, against HiGHS, and where it gives way."""

import dataclasses
from unittest import mock

import hwsim_networks
import numpy as np
import pytest
from search_cases import random_table

from fbq import precision
from fbq.nets import googlenet, mobilenet, resnet
from fbq.search import bounded, exact, milp, pareto_sets, solve, terms
from fbq.search.problem import PEAK, SIZE, Infeasible, make, uniform
from hwsim.latency_table import BITS, total_cycles
from hwsim.proxies import peak_activation_bytes, weight_bytes
from hwsim.workload import Layer

NETS = {
  "mobilenet_v1": mobilenet.mobilenet_v1(0.25, 32, 10),
  "mobilenet_v2": mobilenet.mobilenet_v2(0.35, 32, 10),
  "resnet8": resnet.resnet8(),
}


def table_of(net, seed=0):
  """Cycles that grow with bits and size, with exceptions to both."""
  table = random_table(net.workload, seed, 10**6)
  sizes = [layer.macs + layer.out_count for layer in net.workload.layers]
  cycles = np.array(sizes)[:, None, None, None] * (table.cycles + 10**5)
  return dataclasses.replace(table, cycles=cycles // 10**6)


def values_of(net, seed=0):
  random = np.random.default_rng(seed)
  return {
    site: {b: -random.exponential() * 2.0**-b for b in BITS}
    for site in net.workload.sites
  }


def problem_of(net, output_bits, **more):
  table = table_of(net)
  cycles = table.cycles if output_bits == "site" else table.for_output_bits(8)
  return make(net.workload, {"cycles": cycles}, values_of(net), **more)


@pytest.mark.parametrize("output_bits", [8, "site"])
@pytest.mark.parametrize("name", NETS)
def test_optimum_is_that_of_highs(name, output_bits):
  net = NETS[name]
  problem = problem_of(net, output_bits)
  front = exact.front(problem)
  budget = int(front.costs["cycles"][len(front.value) // 3])
  found = exact.best_value(problem, [budget])
  oracle = milp.best_value(problem, {"cycles": budget})
  assert found.value[0] == pytest.approx(oracle.value[0], rel=1e-9)
  limits = {
    SIZE: int(found.costs[SIZE][0] * 0.9),
    PEAK: max(
      int(found.costs[PEAK][0] * 0.9),
      int(uniform(problem, (2,)).costs[PEAK][0]),
    ),
  }
  tight = dataclasses.replace(problem, limits=limits)
  less = exact.best_value(tight, [budget])
  oracle = milp.best_value(tight, {"cycles": budget})
  assert less.value[0] == pytest.approx(oracle.value[0], rel=1e-9)
  assert less.value[0] < found.value[0]
  assert all(less.costs[cost] <= most for cost, most in limits.items())
  # What is reported is what hwsim says, and fbq takes it as it is.
  chosen = less.precision(0)
  precision.check_assignment(net, chosen)
  assert less.costs["cycles"] == total_cycles(
    table_of(net), net.workload, chosen, output_bits
  )
  assert less.costs[SIZE] == weight_bytes(net.workload, chosen)
  assert less.costs[PEAK] == peak_activation_bytes(net.workload, chosen)


@pytest.mark.parametrize("name", NETS)
def test_least_latency_is_that_of_highs(name):
  net = NETS[name]
  problem = problem_of(net, "site")
  start = precision.uniform(net, 4)
  found = exact.distance(problem, table_of(net).cycles, start)
  assert found.least <= found.greedy
  negative = [f._replace(table=-1.0 * f.table) for f in problem.costs["cycles"]]
  above = dataclasses.replace(
    make(net.workload, {}, bounds=[(".*", 4, 8)]), value=tuple(negative)
  )
  assert found.least == -milp.best_value(above, {}).value[0]


def test_front_and_tradeoffs_agree_with_each_other():
  problem = problem_of(NETS["mobilenet_v2"], "site")
  front = exact.front(problem)
  lambdas = np.geomspace(1, 1e12, 50)
  found = exact.tradeoffs(problem, lambdas)
  sums = front.costs["cycles"] - lambdas[:, None] * front.value
  best = found.costs["cycles"] - lambdas * found.value
  np.testing.assert_allclose(best, sums.min(axis=1), rtol=1e-9)
  thin = exact.front(problem, resolution := 10**5)
  assert len(thin.value) < len(front.value) and 0 < thin.error <= resolution
  at = np.searchsorted(thin.value, front.value - 1e-12)
  late = thin.costs["cycles"][at] - front.costs["cycles"]
  assert (late <= thin.error).all()


def test_many_weights_tied_together_have_an_exact_front():
  """All messages of their layers meet in one step."""
  ties = (r"pw\d+\.weight",)
  problem = problem_of(NETS["mobilenet_v1"], 8, ties=ties)
  front = exact.front(problem)
  assert front.error == 0 and len(front.value) > 100
  for at in (0, len(front.value) // 2):
    budget = int(front.costs["cycles"][at])
    oracle = milp.best_value(problem, {"cycles": budget})
    assert front.value[at] == pytest.approx(oracle.value[0], rel=1e-9)


def test_a_front_too_large_at_a_resolution_is_made_by_budgets():
  problem = problem_of(NETS["resnet8"], 8)
  whole = exact.front(problem)
  resolution = int(np.ptp(whole.costs["cycles"])) // 5
  with mock.patch.object(pareto_sets, "MOST_POINTS", 20):
    with pytest.raises(pareto_sets.TooMany):
      exact.front(problem)
    thin = exact.front(problem, resolution)
  assert thin.error == resolution
  at = np.searchsorted(thin.value, whole.value - 1e-9)
  late = thin.costs["cycles"][at] - whole.costs["cycles"]
  assert (late <= resolution).all()


def test_concatenations_count_as_hwsim_does():
  net = googlenet(0.25, 64, 10)
  problem = problem_of(net, "site")
  random = np.random.default_rng(0)
  for bits in (*BITS, None):
    choice = precision.uniform(net, 8) | {
      site: bits or int(random.choice(BITS)) for site in net.workload.free_sites
    }
    found = exact.evaluate(problem, choice)
    assert found.costs[PEAK] == peak_activation_bytes(net.workload, choice)
    assert found.costs["cycles"] == total_cycles(
      table_of(net), net.workload, choice, "site"
    )
  start = precision.uniform(net, 4)
  least, _ = exact.least_latency(problem, start)
  precision.check_assignment(net, least)
  negative = [f._replace(table=-1.0 * f.table) for f in problem.costs["cycles"]]
  above = dataclasses.replace(
    make(net.workload, {}, bounds=[(".*", 4, 8)]), value=tuple(negative)
  )
  least = exact.evaluate(problem, least).costs["cycles"]
  assert least == -milp.best_value(above, {}).value[0]


def chain_problem(**more):
  net = hwsim_networks.chain(
    "chain", [Layer(f"l{i}", "linear", 9, 9) for i in range(5)]
  )
  table = random_table(net, 3, 1000)
  random = np.random.default_rng(3)
  value = {s: dict(zip(BITS, random.random(3), strict=True)) for s in net.sites}
  return make(net, {"cycles": table.cycles}, value, **more)


@pytest.mark.parametrize(
  "points, entries", [(40, 1 << 20), (1, 1 << 20), (99, 2)]
)
def test_large_problems_go_another_way_to_the_same_optimum(points, entries):
  """To bounds, to HiGHS for the points, to HiGHS for the tables."""
  problem = chain_problem(limits={PEAK: 42})
  budgets = [2300, 2600, 2900]
  expected = exact.best_value(problem, budgets)
  front, least = exact.front(problem), solve.least(problem)
  ways = []

  def note(name, function):
    def noted(*arguments):
      ways.append(name)
      return function(*arguments)

    return noted

  with (
    mock.patch.object(pareto_sets, "MOST_POINTS", points),
    mock.patch.object(terms, "MOST_ENTRIES", entries),
    mock.patch("fbq.search.elimination.MOST_ENTRIES", entries),
    mock.patch.object(bounded, "best", note("bounds", bounded.best)),
    mock.patch.object(milp, "best_value", note("milp", milp.best_value)),
  ):
    if entries > 2:
      with pytest.raises(pareto_sets.TooMany):
        exact.front(problem)
    else:
      thin = exact.front(problem, 100)
      assert thin.error == 100
      at = np.searchsorted(thin.value, front.value - 1e-9)
      late = thin.costs["cycles"][at] - front.costs["cycles"]
      assert late.max() <= 100
    found = exact.best_value(problem, budgets)
    assert solve.least(problem).costs["cycles"] == least.costs["cycles"]
    with pytest.raises(Infeasible, match="the least achievable is"):
      exact.best_value(problem, [10])
  np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)
  assert ("milp" in ways) == (points == 1 or entries == 2)
  assert "bounds" in ways or entries == 2


def test_uniform_baselines():
  net = NETS["mobilenet_v2"]
  problem = problem_of(net, 8)
  found = uniform(problem)
  for i, bits in enumerate((8, 4, 2)):
    assert found.precision(i) == precision.uniform(net, bits)
  ruled = problem_of(
    net,
    8,
    bounds=[(".*", 4, 8), (r".*\.weight", 2, 4)],
    ties=[[net.workload.free_sites[0], net.workload.free_sites[1]]],
  )
  found = uniform(ruled)
  for i, bits in enumerate((8, 4, 2)):
    chosen = found.precision(i)
    for site in net.workload.free_sites[2:]:
      least, most = (2, 4) if site.endswith(".weight") else (4, 8)
      assert chosen[site] == min(max(bits, least), most)
