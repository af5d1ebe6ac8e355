"""The exact choice of block formats against all assignments tried."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.nets import Net, Node
from fbq.nets.graph import INPUT
from fbq.search import bitq, pareto
from hwsim.bfp import encode, movement_table, score
from hwsim.bfp.formats import bitq_format

# Of 2 channels the last is the cheapest (5 + 1 / 2 bits), by eq. 6 the second.
FORMATS = (bitq_format(8, 2, 4), bitq_format(8, 4, 8), bitq_format(6, 1, 2))
RELU = dict(norm=True, activation="relu")


def residual():
  """A block whose sum two layers read, as ResNet's with a projection."""
  return Net(
    "residual",
    (4, 4, 2),
    (
      Node("stem", "conv", (INPUT,), 4, (3, 3), 1, 1, **RELU),
      Node("a", "conv", ("stem",), 2, (1, 1), 2, **RELU),
      Node("down", "conv", ("stem",), 2, (1, 1), 2, norm=True),
      Node("add", "add", ("a", "down"), activation="relu"),
      Node("pool", "avg_pool", ("add",), kernel=None),
      Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
    ),
  )


def branches():
  """Two branches that are concatenated."""
  return Net(
    "branches",
    (4, 4, 2),
    (
      Node("stem", "conv", (INPUT,), 3, (3, 3), 1, 1, **RELU),
      Node("a", "conv", ("stem",), 2, **RELU),
      Node("b", "depthwise", ("stem",), 0, (3, 3), 1, 1, **RELU),
      Node("both", "concat", ("a", "b")),
      Node("fc", "linear", ("both",), 2, bias=True, is_output=True),
    ),
  )


def random_losses(workload, seed, coarse=False):
  """Some with ties, some formats forbidden."""
  random = np.random.default_rng(seed)
  found = {}
  for site in workload.sites:
    values = random.integers(0, 4, 3) / 4 if coarse else random.random(3)
    found[site] = dict(zip(FORMATS, values.tolist(), strict=True))
  return found


def every_assignment(workload, table, losses, groups):
  """(loss, units) of all, one option for each group."""
  group_of = {s: i for i, group in enumerate(groups) for s in group}
  options = np.array(
    list(itertools.product(range(3), repeat=len(groups))), np.int32
  )
  rows = options[:, [group_of[s] for s in workload.sites]]
  units = score(table, encode(table, workload, rows))
  loss = sum(
    np.array([losses[site][f] for f in FORMATS])[rows[:, i]]
    for i, site in enumerate(workload.sites)
  )
  return loss, units


@pytest.mark.parametrize("net", [residual(), branches()], ids=lambda n: n.name)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), coarse=st.booleans())
def test_optima_and_front_equal_brute_force(net, seed, coarse):
  workload = net.workload
  table = movement_table(workload, FORMATS, 900, others="once")
  losses = random_losses(workload, seed, coarse)
  choice = bitq.make(workload, losses, table)
  loss, units = every_assignment(workload, table, losses, choice.groups)
  assert choice.largest == units.max()
  alphas = [0.0, 0.1, 1.0, 30.0]
  found = bitq.optima(choice, alphas)
  for i, alpha in enumerate(alphas):
    expected = (loss + alpha * units / units.max()).min()
    assert found.objective[i] == pytest.approx(expected, abs=1e-12)
    at = [FORMATS.index(found.formats[i][s]) for s in workload.sites]
    got = score(table, encode(table, workload, np.array([at])))[0]
    assert table.bits(got) == found.movement_bits[i]
    assert found.loss[i] == pytest.approx(
      sum(losses[s][f] for s, f in found.formats[i].items())
    )
  front = bitq.front(choice)
  points = np.unique(np.stack([units, np.round(loss, 9)]), axis=1)
  kept = points[:, pareto.front(points[0], -points[1])]
  got = [round(m * table.per_bit) for m in front.movement_bits]
  # Losses that differ by rounding alone may make one point more or less.
  assert len(got) >= kept.shape[1]
  places = np.searchsorted(got, kept[0], side="right") - 1
  np.testing.assert_allclose(front.loss[places], kept[1], atol=1e-8)


def test_adders_tie_their_operands_and_their_sum():
  net = residual()
  table = movement_table(net.workload, FORMATS, 900)
  choice = bitq.make(net.workload, random_losses(net.workload, 0), table)
  assert ("a.out", "down.out", "add.out") in choice.groups
  assert ("stem.out",) in choice.groups and ("a.weight",) in choice.groups


def test_formats_that_others_beat_are_left_out_without_harm():
  net = branches()
  table = movement_table(net.workload, FORMATS, 900)
  losses = random_losses(net.workload, 3)
  choice = bitq.make(net.workload, losses, table)
  assert sum(map(len, choice.options)) < 3 * len(choice.groups)


@pytest.mark.parametrize("resolution", [0.002, 0.05])
def test_a_coarse_front_keeps_its_bound_and_optima_are_on_it(resolution):
  net = residual()
  table = movement_table(net.workload, FORMATS, 900)
  choice = bitq.make(net.workload, random_losses(net.workload, 5), table)
  exact, coarse = bitq.front(choice), bitq.front(choice, resolution)
  assert exact.error_bits == 0
  allowed = table.bits(choice.largest) * Fraction(resolution)
  assert 0 < coarse.error_bits <= allowed
  assert resolution < 0.05 or len(coarse.loss) < len(exact.loss)
  hull = bitq.optima(choice, np.geomspace(1e-3, 1e3, 50))
  for found in (exact, hull):
    for loss, moved in zip(found.loss, found.movement_bits, strict=True):
      assert any(
        other <= loss + 1e-12 and bits <= moved + coarse.error_bits
        for other, bits in zip(coarse.loss, coarse.movement_bits, strict=True)
      )
  on = dict(zip(exact.movement_bits, exact.loss, strict=True))
  for loss, moved in zip(hull.loss, hull.movement_bits, strict=True):
    assert on[moved] == pytest.approx(loss)
  for bad in (-0.1, float("nan")):
    with pytest.raises(ValueError, match="resolution is"):
      bitq.front(choice, bad)


def test_more_alpha_never_moves_more():
  net = residual()
  table = movement_table(net.workload, FORMATS, 900)
  choice = bitq.make(net.workload, random_losses(net.workload, 9), table)
  moved = bitq.optima(choice, np.linspace(0, 5, 40)).movement_bits
  assert all(a >= b for a, b in itertools.pairwise(moved))


def test_what_is_missing_or_wrong_is_named():
  net = residual()
  table = movement_table(net.workload, FORMATS, 900)
  losses = random_losses(net.workload, 0)
  choice = bitq.make(net.workload, losses, table)
  with pytest.raises(ValueError, match="alphas are .*none negative"):
    bitq.optima(choice, [-0.1])
  with pytest.raises(ValueError, match="stem.weight"):
    bitq.make(net.workload, {**losses, "stem.weight": {}}, table)
  odd = {**losses, "fc.weight": {bitq_format(16, 3, 8): 0.0}}
  with pytest.raises(ValueError, match="fc.weight.*not in the"):
    bitq.make(net.workload, odd, table)
  bad = {**losses, "fc.weight": {FORMATS[0]: float("nan")}}
  with pytest.raises(ValueError, match="fc.weight"):
    bitq.make(net.workload, bad, table)
