"""The record of a problem: rules, ties, tables, and errors that help."""

import dataclasses

import numpy as np
import pytest
from hwsim_networks import chain

from fbq.search import exact
from fbq.search.explain import explain
from fbq.search.problem import (
  PEAK,
  SIZE,
  Infeasible,
  evaluate,
  make,
)
from hwsim.latency_table import BITS
from hwsim.workload import Layer

NET = chain("net", [Layer(f"l{i}", "linear", 4, 4) for i in range(3)])
CYCLES = np.arange(81).reshape(3, 3, 3, 3)
VALUE = {s: {2: 0.0, 4: 1.0, 8: 1.5} for s in NET.sites}


def allowed(**rules):
  problem = make(NET, {"cycles": CYCLES}, **rules)
  return dict(zip(problem.groups, problem.allowed, strict=True))


def test_later_bounds_win_and_fixed_sites_stay():
  bits = allowed(bounds=[(".*", 4, 8), (r"l1\..*", 2, 4), ("l2.weight", 8, 8)])
  assert bits == {
    ("image.out",): (8,),
    ("l0.weight",): (8, 4),
    ("l0.out",): (8, 4),
    ("l1.weight",): (4, 2),
    ("l1.out",): (4, 2),
    ("l2.weight",): (8,),
  }


@pytest.mark.parametrize(
  "ties, groups",
  [
    ([r"l.\.weight"], [("l0.weight", "l1.weight", "l2.weight")]),
    (
      [r"(l.)\..*"],  # per layer
      [("l0.weight", "l0.out"), ("l1.weight", "l1.out")],
    ),
    (
      [("l0.out", "l1.weight"), ["l1.weight", "l2.weight"]],  # they overlap
      [("l0.out", "l1.weight", "l2.weight")],
    ),
    (
      [("l1.weight", "l2.weight"), ("l0.out", "l2.weight")],
      [("l0.out", "l1.weight", "l2.weight")],
    ),
    ([], []),
  ],
)
def test_ties(ties, groups):
  problem = make(NET, {"cycles": CYCLES}, VALUE, ties=ties)
  assert [g for g in problem.groups if len(g) > 1] == groups
  assert sorted(s for g in problem.groups for s in g) == sorted(NET.sites)
  for bits in exact.front(problem).bits:
    chosen = dict(zip(NET.sites, bits, strict=True))
    assert all(len({chosen[site] for site in group}) == 1 for group in groups)


def test_ties_and_bounds_together():
  bits = allowed(
    ties=[("l0.out", "l1.weight")],
    bounds=[("l0.out", 2, 4), ("l1.weight", 4, 8)],
  )
  assert bits["l0.out", "l1.weight"] == (4,)


@pytest.mark.parametrize(
  "rules, message",
  [
    ({"bounds": [("l9.*", 2, 4)]}, "'l9.*' matches no tensor of net"),
    ({"bounds": [("image.out", 2, 4)]}, "matches no tensor .* free"),
    ({"bounds": [("(", 2, 4)]}, "is no regular expression"),
    ({"bounds": [("l0.out", 4, 2)]}, "4 to 2 bits, expected two of"),
    ({"bounds": [("l0.out", 3, 8)]}, "3 to 8 bits, expected two of"),
    ({"ties": ["l7.*"]}, "'l7.*' matches no tensor of net"),
    ({"ties": [r"l0\.weight"]}, "ties nothing"),
    ({"ties": [r"(.*)"]}, "ties nothing"),
    ({"ties": [["l0.out", "l9.out"]]}, "has no \\['l9.out'\\]"),
    (
      {"ties": [("l0.out", "l1.out")],
       "bounds": [("l0.out", 2, 2), ("l1.out", 4, 8)]},
      "l0.out \\[2\\], l1.out \\[4, 8\\]",
    ),
    ({"ties": [("image.out", "l0.out")], "bounds": [("l0.out", 2, 4)]},
     "image.out \\[8\\], l0.out \\[2, 4\\]"),
    ({"limits": {"joules": 3}}, "no cost 'joules' to limit"),
    ({"value": {"l9.out": {2: 0.0}}}, "values of \\['l9.out'\\]"),
    ({"value": {"l0.out": {2: 0.0, 8: 1.0}}}, "no value of 'l0.out' at .4.")
    ,
    (
      {"value": {"l0.out": {2: 0.0, 4: np.nan, 8: 1.0}}},
      "value of l0.out is .* expected finite",
    ),
    ({"pair_values": {("l0.out", "l0.out"): np.eye(3)}}, "two different sites"),
    ({"pair_values": {("l0.out", "x"): np.eye(3)}}, "values of \\['x'\\]"),
    ({"costs": {"cycles": CYCLES * 1.0}}, "float64.* expected integers"),
    ({"costs": {"cycles": CYCLES[:2]}}, "with L = 3 layers"),
    ({"costs": {"cycles": CYCLES << 50}}, "count in a larger unit"),
  ],
)  # fmt: skip
def test_errors_say_what_is_wrong(rules, message):
  rules = {"costs": {"cycles": CYCLES}} | rules
  with pytest.raises(ValueError, match=message):
    make(NET, **rules)


def test_values_left_out_count_nothing():
  problem = make(NET, {"cycles": CYCLES}, {"l0.out": {2: 1.0, 4: 2.0, 8: 4.0}})
  start = dict.fromkeys(NET.sites, 4) | {"image.out": 8}
  assert evaluate(problem, start).value == 2.0
  with pytest.raises(ValueError, match="'l0.out' is 3 bits"):
    evaluate(problem, start | {"l0.out": 3})
  bound = make(NET, {"cycles": CYCLES}, {"l0.out": {8: 4.0}},
               bounds=[("l0.out", 8, 8)])  # fmt: skip
  assert evaluate(bound, start | {"l0.out": 8}).value == 4.0


def test_wrong_calls_are_told():
  problem = make(NET, {"cycles": CYCLES}, VALUE)
  with pytest.raises(ValueError, match="no cost 'joules', the problem has"):
    exact.front(problem, cost="joules")
  with pytest.raises(ValueError, match="resolution is -1"):
    exact.front(problem, -1)
  with pytest.raises(ValueError, match="none negative"):
    exact.tradeoffs(problem, [1.0, -2.0])
  with pytest.raises(ValueError, match="has no factor for every layer"):
    exact.least_latency(problem, dict.fromkeys(NET.sites, 8), cost=SIZE)
  limited = dataclasses.replace(problem, limits={SIZE: 20})
  with pytest.raises(ValueError, match="limits on \\['weight_bytes'\\]"):
    exact.tradeoffs(limited, [1.0])
  ruled = make(NET, {"cycles": CYCLES}, bounds=[("l1.out", 2, 4)])
  with pytest.raises(Infeasible, match="l1.out: 8 bits are asked for"):
    exact.least_latency(ruled, dict.fromkeys(NET.sites, 8))


def test_any_cost_can_be_the_one():
  """Fronts of size against value; a further cost beside cycles."""
  problem = make(NET, {"cycles": CYCLES, "joules": CYCLES[::-1]}, VALUE)
  sizes = exact.front(problem, cost=SIZE)
  assert sizes.costs[SIZE][0] == 3 * 4  # 16 weights each, at 2 bits
  assert sizes.costs[SIZE][-1] == 3 * 16
  least = {
    cost: exact.least(problem, cost).costs[cost][0]
    for cost in ("cycles", "joules")
  }
  level = np.array(BITS)[np.indices((3,) * 5)].reshape(5, -1)
  for cost, table in (("cycles", CYCLES), ("joules", CYCLES[::-1])):
    w0, a0, w1, a1, w2 = np.searchsorted(BITS, level)
    total = table[0, 2, w0, a0] + table[1, a0, w1, a1] + table[2, a1, w2, 0]
    assert least[cost] == total.min()
  # Its value is that of the problem.
  found = exact.least(problem, "joules")
  assert found.value == evaluate(problem, found.precision(0)).value


def test_reasons_are_single_changes():
  problem = make(NET, {"cycles": CYCLES}, VALUE, ties=[("l0.out", "l1.weight")])
  budget = 120
  found = exact.best_value(problem, [budget])
  chosen = found.precision(0)
  reasons = explain(problem, chosen, {"cycles": budget})
  assert tuple(reason.sites for reason in reasons) == problem.groups
  for reason, options in zip(reasons, problem.allowed, strict=True):
    assert all(chosen[site] == reason.bits for site in reason.sites)
    assert [a.bits for a in reason.alternatives] == [
      bits for bits in options if bits != reason.bits
    ]
    for other in reason.alternatives:
      changed = evaluate(
        problem, chosen | dict.fromkeys(reason.sites, other.bits)
      )
      for cost, change in other.costs.items():
        assert change == changed.costs[cost][0] - found.costs[cost][0]
      assert other.value == pytest.approx(changed.value[0] - found.value[0])
      over = changed.costs["cycles"][0] > budget
      assert other.exceeds == (("cycles",) if over else ())
      # The choice is best: nothing better fits.
      assert over or other.value <= 0
  assert str(reasons[0]) == "image.out: 8 bits; no choice"
  tied = next(r for r in reasons if len(r.sites) == 2)
  assert str(tied).startswith("l0.out = l1.weight: ")
  # What layers 0 and 1 and their weights cost.
  index = {s: BITS.index(b) for s, b in chosen.items()}
  assert tied.costs["cycles"] == (
    CYCLES[0, 2, index["l0.weight"], index["l0.out"]]
    + CYCLES[1, index["l0.out"], index["l1.weight"], index["l1.out"]]
  )
  assert tied.costs[SIZE] == 16 * chosen["l1.weight"] // 8
  assert tied.value == 2 * VALUE["l0.out"][tied.bits]
  with pytest.raises(ValueError, match="l0.out, l1.weight: .* for all"):
    explain(problem, chosen | {"l0.out": 8, "l1.weight": 2})
  assert PEAK not in tied.costs
