"""Precisions that come from the target: NE16's in tables, searches, files."""

import dataclasses
import itertools

import numpy as np
import pytest
from hwsim_networks import chain

from fbq.search import exact, milp, problem
from fbq.search.free_bits import free_bits
from hwsim import latency_io, ne16, targets
from hwsim.latency_table import (
  PULP_LADDER,
  Ladder,
  encode,
  flat_costs,
  layer_cycles,
  total_cycles,
)
from hwsim.ne16 import GAP9_NE16
from hwsim.scoring import score
from hwsim.workload import Layer

SAME = (1, 1, 1, 1)
NE16 = GAP9_NE16.ladder


def network():
  """3x3 and depthwise, whose jobs grow with weight bits; 1x1, whose do not."""
  return chain(
    "small",
    [
      Layer("c", "conv", 3, 16, 12, 12, 3, 3, 1, SAME),
      Layer("p", "conv", 16, 16, 12, 12),
      Layer("k", "depthwise", 16, 16, 12, 12, 3, 3, 1, SAME),
    ],
  )


@pytest.fixture(scope="module")
def table():
  return ne16.latency_table(network(), GAP9_NE16)


def start(weights):
  names = ("c", "p", "k")
  bits = {f"{n}.weight": b for n, b in zip(names, weights, strict=True)}
  return {"image.out": 8, "c.out": 8, "p.out": 8} | bits


def test_totals_and_codes_are_lookups(table):
  workload = network()
  rows = list(itertools.product(*[NE16.weights] * 3))
  candidates = [start(row) for row in rows]
  codes = encode(
    workload,
    np.array([list(c.values()) for c in candidates]),
    list(candidates[0]),
    ladder=NE16,
  )
  totals = score(flat_costs(table, workload), codes)
  for row, candidate, total in zip(rows, candidates, totals, strict=True):
    by_hand = [table.cycles[i, 0, b - 2, 0] for i, b in enumerate(row)]
    assert layer_cycles(table, workload, candidate).tolist() == by_hand
    assert total_cycles(table, workload, candidate) == total == sum(by_hand)


def test_free_bits_leaves_what_no_raise_makes_faster(table):
  """Nothing is faster on NE16 at more bits, so all stay, though some are free.

  The job of the 1x1 layer takes the same at all widths; its DMA does not.
  """
  found, changes = free_bits(
    network(), table.for_output_bits(8), start((3, 5, 2)), NE16
  )
  assert found == start((3, 5, 2)) and not changes


def test_free_bits_takes_a_cheaper_width_and_the_highest_of_equals(table):
  cycles = table.for_output_bits(8).copy()
  cycles[1, 0] = (9, 9, 9, 7, 7, 9, 9)  # 1x1 by weights of 2 to 8 bits
  found, changes = free_bits(network(), cycles, start((3, 3, 2)), NE16)
  assert found == start((3, 6, 2))
  assert [(c.layer, c.before[:2], c.after[:2]) for c in changes] == [
    ("p", (8, 3), (8, 6))
  ]
  assert (changes[0].cycles_before, changes[0].cycles_after) == (9, 7)


def test_activations_below_the_ladder_are_raised_first(table):
  below = start((3, 4, 4)) | {"c.out": 2, "p.out": 4}
  found, _ = free_bits(network(), table.for_output_bits(8), below, NE16)
  assert found == start((3, 4, 4))
  assert NE16.at_least({"c.out": 4, "c.weight": 5}) == {
    "c.out": 8,
    "c.weight": 5,
  }
  assert PULP_LADDER.at_least({"c.weight": 3}) == {"c.weight": 4}
  with pytest.raises(ValueError, match="'c.weight' is 9 bits"):
    NE16.at_least({"c.weight": 9})


def choice(table, **options):
  """Value: bits of weights, those of the 1x1 layer worth half."""
  value = {
    f"{name}.weight": {b: scale * b for b in NE16.weights}
    for name, scale in (("c", 1.0), ("p", 0.5), ("k", 1.0))
  }
  return problem.make(
    network(),
    {"cycles": table.for_output_bits(8)},
    value,
    ladder=NE16,
    **options,
  )


def by_hand(made, budget):
  """Of all 343 assignments the most valuable within a budget: its value."""
  best = -1.0
  for row in itertools.product(NE16.weights, repeat=3):
    one = problem.evaluate(made, start(row))
    within = one.costs["cycles"][0] <= budget and all(
      one.costs[name][0] <= most for name, most in made.limits.items()
    )
    best = max(best, float(one.value[0])) if within else best
  return best


@pytest.mark.parametrize("limits", [{}, {problem.SIZE: 4_500}])
def test_exact_choice_is_the_best_of_all(table, limits):
  made = choice(table, limits=limits)
  least, most = (
    int(problem.evaluate(made, start((b, b, b))).costs["cycles"][0])
    for b in (2, 8)
  )
  for budget in range(least, most + 1, (most - least) // 5):
    found = exact.best_value(made, [budget])
    assert float(found.value[0]) == by_hand(made, budget)
    assert set(found.precision(0).values()) <= set(NE16.weights)
    other = milp.best_value(made, {"cycles": budget})
    assert float(other.value[0]) == float(found.value[0])


def test_least_latency_and_distance_are_on_the_ladder(table):
  made = choice(table)
  found, _ = exact.least_latency(made, start((4, 3, 3)))
  assert total_cycles(table, network(), found) == min(
    total_cycles(table, network(), start(row))
    for row in itertools.product(range(4, 9), range(3, 9), range(3, 9))
  )
  ways = exact.distance(made, table.for_output_bits(8), start((4, 3, 3)))
  assert ways.greedy == ways.least


def test_bounds_and_bits_off_the_ladder_are_refused(table):
  bounded = choice(table, bounds=[("c.weight", 5, 6)])
  assert bounded.allowed[bounded.group_of["c.weight"]] == (6, 5)
  assert bounded.allowed[bounded.group_of["c.out"]] == (8,)
  with pytest.raises(ValueError, match=r"expected two of \(8,\)"):
    choice(table, bounds=[("c.out", 4, 8)])
  with pytest.raises(ValueError, match=r"'p.out' is 4 bits.*\(8,\)"):
    problem.evaluate(bounded, start((8, 8, 8)) | {"p.out": 4})
  with pytest.raises(ValueError, match=r"\[L, 3, 3\]"):
    problem.make(network(), {"cycles": table.for_output_bits(8)})


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_files_keep_the_ladder(table, tmp_path, kind):
  path = tmp_path / f"table.{kind}"
  latency_io.save(table, path)
  again = latency_io.load(path, network(), ladder=NE16)
  assert again.ladder == NE16 and (again.cycles == table.cycles).all()
  merged = latency_io.merge(table, path)
  assert (merged.cycles == table.cycles).all()
  with pytest.raises(ValueError, match="weight_bits is 3"):
    latency_io.load(path, network())
  blank = latency_io.blank(network(), "board", NE16)
  assert blank.cycles.shape == table.cycles.shape


def test_names_lead_to_targets_of_both_families():
  assert targets.get_target("gap9_ne16") is GAP9_NE16
  own = targets.get_target("gap9_ne16", {"l1_bytes": 64_000})
  assert own == dataclasses.replace(
    GAP9_NE16, name="gap9_ne16 (l1_bytes=64000)", l1_bytes=64_000
  )
  assert targets.ladder_of(own) == NE16
  pulp = targets.get_target("xpulp_v2")
  assert targets.ladder_of(pulp) == Ladder() == PULP_LADDER
  with pytest.raises(ValueError, match="no field 'l1_byte'; did you mean"):
    targets.get_target("gap9_ne16", {"l1_byte": 1})
  with pytest.raises(ValueError, match="unknown target 'gap8'"):
    targets.get_target("gap8")
  layer = Layer("l", "conv", 16, 16, 8, 8, 3, 3, 1, SAME)
  total = targets.simulate(layer, 8, 4, 8, own).total
  table = targets.latency_table(chain("two", [layer, layer_after()]), own)
  assert table.cycles[0, 0, 2, 0] == total


def layer_after():
  return Layer("fc", "conv", 16, 16, 8, 8)
