"""Values for the exact search, against products of gate probabilities."""

import itertools
import math

import jax
import model_cases
import numpy as np
import pytest

from fbq.quantizers import gates
from fbq.schemes.groups import gate_groups
from fbq.search import value

NET = model_cases.NET


def test_harm_is_minus_value():
  harm = {site: {2: 3.0, 4: -1.0, 8: 0.0} for site in NET.workload.free_sites}
  values = value.from_harm(NET, harm)
  assert values.keys() == set(NET.workload.sites)
  for site, by_bits in values.items():
    if site in NET.fixed_bits:
      assert by_bits == {NET.fixed_bits[site]: 0.0}
    else:
      assert by_bits == {2: -3.0, 4: 1.0, 8: 0.0}


def test_harm_that_is_missing_or_no_number_is_named():
  harm = {site: {2: 1.0, 8: 0.0} for site in NET.workload.free_sites}
  with pytest.raises(ValueError, match="no sensitivity of 'b.out'"):
    value.from_harm(NET, {s: v for s, v in harm.items() if s != "b.out"})
  with pytest.raises(ValueError, match="'b.out' at 2 bits is nan"):
    value.from_harm(NET, {**harm, "b.out": {2: math.nan, 8: 0.0}})


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("kind", [gates.FREE_BITS, gates.BAYESIAN_BITS])
def test_sums_are_log_probabilities(locked, kind):
  """Of every assignment that keeps the groups together."""
  groups = gate_groups(NET, locked)
  random = np.random.default_rng(0)
  logits = random.normal(scale=2.0, size=(groups.count, 2))
  values = value.from_gates(NET, groups, logits, kind)
  open_ = np.asarray(kind.probability_open(logits), np.float64)
  p = {
    2: 1 - open_[:, 0],
    4: open_[:, 0] * (1 - open_[:, 1]),
    8: open_[:, 0] * open_[:, 1],
  }
  total = 0.0
  tried = itertools.product((2, 4, 8), repeat=groups.count)
  for bits in itertools.islice(tried, 0, None, 7):
    assignment = groups.assignment(NET, bits)
    expected = math.prod(p[b][g] for g, b in enumerate(bits))
    found = sum(values[site][b] for site, b in assignment.items())
    assert found == pytest.approx(math.log(expected), rel=1e-5, abs=1e-5)
    total += expected
  assert 0 < total < 1
  # Sites of one group have equal parts of a distribution.
  for site, row in groups.rows(NET).items():
    if row >= 0:
      size = groups.of_site.count(row)
      parts = [math.exp(size * v) for v in values[site].values()]
      assert sum(parts) == pytest.approx(1, rel=1e-9)


def test_agrees_with_gates_that_are_drawn():
  groups = gate_groups(NET, False)
  logits = np.tile([0.4, -0.7], (groups.count, 1))
  noise = jax.random.uniform(jax.random.key(1), (40_000, 2), minval=1e-7)
  drawn = np.asarray(gates.FREE_BITS.sample(logits[0], noise)) > 0
  bits = np.where(drawn[:, 0], np.where(drawn[:, 1], 8, 4), 2)
  by_bits = value.from_gates(NET, groups, logits)["b.weight"]
  for b in (2, 4, 8):
    assert math.exp(by_bits[b]) == pytest.approx(np.mean(bits == b), abs=0.01)


def test_extreme_gates_stay_finite():
  groups = gate_groups(NET, True)
  for logit in (-900.0, 900.0):
    logits = np.full((groups.count, 2), logit)
    for by_bits in value.from_gates(NET, groups, logits).values():
      assert np.isfinite([*by_bits.values()]).all()


def test_logits_of_another_net_are_refused():
  groups = gate_groups(NET, False)
  with pytest.raises(ValueError, match=r"shape \(3, 2\), expected \[7, 2\]"):
    value.from_gates(NET, groups, np.zeros((3, 2)))


def test_shares_are_values_by_their_logarithms():
  groups = gate_groups(NET, True)
  logits = np.random.default_rng(2).normal(size=(groups.count, 2))
  shares = gates.level_probabilities(logits.astype(np.float32), gates.FREE_BITS)
  found = value.from_shares(NET, groups, np.asarray(shares))
  for site, by_bits in value.from_gates(NET, groups, logits).items():
    assert found[site] == pytest.approx(by_bits, rel=1e-4, abs=1e-5)
  sure = np.tile([0.0, 1.0, 0.0], (groups.count, 1))
  by_bits = value.from_shares(NET, groups, sure)["b.out"]
  assert by_bits[4] == 0 and np.isfinite(by_bits[2]) and by_bits[2] < 0
  with pytest.raises(ValueError, match="shape .*expected"):
    value.from_shares(NET, groups, sure[:-1])
