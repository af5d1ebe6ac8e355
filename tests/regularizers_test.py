"""Regularizers against sums over every assignment, and what they drive to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import QUANTLIB, case, close
from model_cases import CONV, MIXED, NET

from fbq import precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.quantizers import gates
from fbq.schemes.bayesian_bits import BayesianBits
from fbq.schemes.fractional import Fractional
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.schemes.mixture import Mixture
from fbq.train import optimizer, regularizers, steps
from hwsim import proxies
from hwsim.latency_table import LatencyTable, total_cycles

SCHEMES = (FreeBits, BayesianBits, Mixture, Fractional)
WORKLOAD = NET.workload


def random_table(net, seed=0):
  """Cycles of any layers: nothing of the hardware is needed here."""
  layers = net.workload.layers
  rng = np.random.default_rng(seed)
  cycles = rng.integers(10, 1000, (len(layers), 3, 3, 3))
  quantized = tuple(site is not None for site in net.workload.output_sites)
  for i, layer in enumerate(layers):
    if not layer.has_weights:
      cycles[i] = cycles[i][:, :1]
    if not quantized[i]:
      cycles[i] = cycles[i][:, :, :1]
  return LatencyTable(
    "random", layers, quantized, cycles, ("simulated",) * len(layers)
  )


def random_gates(scheme, seed=1):
  rng = np.random.default_rng(seed)
  return {
    name: jnp.float32(rng.uniform(0.2, 1.8, value.shape))
    for name, value in scheme.start().items()
  }


def assignments(net, groups):
  """(level [G], assignment) of every way to choose."""
  for levels in itertools.product(range(3), repeat=groups.count):
    bits = np.array(precision.BITS)[list(levels)]
    yield np.array(levels), groups.assignment(net, bits)


@pytest.mark.parametrize("output_bits", [8, "site"])
@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("make", [FreeBits, Fractional])
def test_expected_cycles_are_the_sum_over_all_assignments(
  make, locked, output_bits
):
  groups = gate_groups(NET, locked)
  scheme, table = make(groups), random_table(NET)
  costs = table.cycles if output_bits == "site" else table.for_output_bits(8)
  variables = {"gates": random_gates(scheme)}
  shares = np.asarray(scheme.distribution(variables), np.float64)
  expected = 0.0
  for levels, assignment in assignments(NET, groups):
    likely = shares[np.arange(groups.count), levels].prod()
    if likely:
      cycles = total_cycles(table, WORKLOAD, assignment, output_bits)
      expected += likely * cycles
  eight = total_cycles(table, WORKLOAD, precision.uniform(NET, 8), output_bits)
  cost = regularizers.expected_cost(NET, scheme, costs)
  assert float(cost(variables)) == pytest.approx(expected / eight, rel=1e-5)


@pytest.mark.parametrize("make", SCHEMES)
def test_decided_gates_cost_what_their_assignment_does(make):
  groups = gate_groups(NET, False)
  scheme = make(groups)
  level = np.zeros(groups.count, int)
  for site, row in groups.rows(NET).items():
    if row >= 0:
      level[row] = precision.BITS.index(MIXED[site])
  gates_ = {"logits": jnp.where(level[:, None] > np.arange(2), 40.0, -40.0)}
  if make is Mixture:
    gates_ = {"logits": 1e3 * jax.nn.one_hot(level, 3)}
  if make is Fractional:
    gates_ = {"index": jnp.float32(level)}
  table = proxies.bops_table(WORKLOAD)
  found = regularizers.expected_cost(NET, scheme, table)({"gates": gates_})
  expected = proxies.bops(WORKLOAD, MIXED) / proxies.bops(
    WORKLOAD, precision.uniform(NET, 8)
  )
  assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_expected_bops_of_decided_gates_by_hand(level):
  """4 for a tensor of 4 bits, 4 + 8 for one of 8, times MACs over the largest.

  What has fixed bits counts as open: image, sum, and what is signed.
  """
  groups = gate_groups(NET, False)
  cost = regularizers.bops_regularizer(WORKLOAD, groups)
  open_ = np.arange(2) < level
  logits = np.tile(np.where(open_, 40.0, -40.0), (groups.count, 1))
  macs = {"a": 648, "b": 324, "c": 144, "d": 180, "fc": 15}  # 9 pixels
  assert macs == {x.name: x.macs for x in WORKLOAD.layers if x.macs}
  free = (0, 4, 12)[level]
  reads = {"a": 12, "b": 12, "c": free, "d": 12, "fc": free}
  expected = sum(n / 648 * (free + reads[name]) for name, n in macs.items())
  found = cost({"gates": {"logits": jnp.float32(logits)}})
  assert float(found) == pytest.approx(expected, rel=1e-5)


def test_chances_of_precisions_follow_the_chain_of_gates():
  for distribution in (gates.FREE_BITS, gates.BAYESIAN_BITS):
    logits = jnp.float32([[0.7, -0.4], [9.0, -9.0]])
    z4, z8 = np.asarray(distribution.probability_open(logits), np.float64).T
    np.testing.assert_allclose(
      gates.level_probabilities(logits, distribution),
      np.stack([1 - z4, z4 * (1 - z8), z4 * z8], 1),
      atol=1e-6,
    )


def test_temperature_sharpens_the_cost_of_a_mixture():
  groups = gate_groups(NET, True)
  scheme = Mixture(groups)
  cost = regularizers.expected_cost(NET, scheme, proxies.bops_table(WORKLOAD))
  run = {
    "temperature": jnp.float32([1.0, 0.01]),
    "temperature_steps": jnp.int32(10),
  }
  variables = {"gates": scheme.start()}  # 8 bits have the largest share
  found = [float(cost(variables, run, jnp.int32(n))) for n in (0, 5, 10)]
  assert found[0] == pytest.approx(float(cost(variables)))
  assert found[0] < found[1] < found[2] == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("kind", ["bops", "const"])
@pytest.mark.parametrize("prunes", [False, True])
def test_bayesian_bits_prior_is_the_sum_over_tensors(prunes, kind, locked):
  scheme = BayesianBits(gate_groups(NET, locked), prunes=prunes)
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(scheme.groups.count, 2))
  channels = {
    f"{name}.weight.channels": rng.normal(size=size)
    for name, size in (("a", 4), ("b", 4), ("c", 4), ("d", 5))
  }
  variables = {"logits": logits, **(channels if prunes else {})}
  variables = {"gates": jax.tree.map(jnp.float32, variables)}
  q = lambda logit: 1 / (1 + np.exp(-logit - 2 / 3 * np.log(11)))
  # Of the free tensors: the MACs of the layers that read them.
  macs = {layer.name: layer.macs for layer in WORKLOAD.layers}
  readers = {
    **{f"{name}.weight": [name] for name in ("a", "b", "c", "d", "fc")},
    "b.out": ["c"],
    "d.out": ["fc"],
  }
  assert set(readers) == set(WORKLOAD.free_sites)
  rows, total = scheme.groups.rows(NET), 0.0
  for site, names in readers.items():
    share = sum(macs[name] for name in names) / max(macs.values())
    weight = lambda b, s=share: b * s if kind == "bops" else 1.0
    q4, q8 = q(logits[rows[site]])
    higher = weight(4) * q4 + weight(8) * q4 * q8
    if f"{site}.channels" in channels and prunes:
      kept = q(channels[f"{site}.channels"]).mean()
      total += kept * (weight(2) + higher)
    else:
      total += 1.0 + higher
  prior = regularizers.bayesian_bits_regularizer(NET, scheme, kind)
  assert float(prior(variables)) == pytest.approx(total, rel=1e-5)


def test_wrong_tables_are_refused():
  scheme = FreeBits(gate_groups(NET, False))
  with pytest.raises(ValueError, match=r"shape \(2, 3, 3\), expected \(7, 3"):
    regularizers.expected_cost(NET, scheme, np.ones((2, 3, 3)))
  with pytest.raises(ValueError, match="not all finite"):
    regularizers.expected_cost(NET, scheme, np.full((7, 3, 3), np.nan))
  with pytest.raises(ValueError, match="at 8 bits add up to 0"):
    regularizers.expected_cost(NET, scheme, np.zeros((7, 3, 3)))
  more = BayesianBits(scheme.groups, ladder=(2, 4, 8, 16))
  cost = regularizers.expected_cost(NET, more, np.ones((7, 3, 3)))
  with pytest.raises(ValueError, match="among 4 precisions"):
    cost({"gates": more.start()})
  with pytest.raises(ValueError, match="kind is 'bop'"):
    regularizers.bayesian_bits_regularizer(NET, more, "bop")


def test_expected_latency_golden():
  """The authors' joint latency regularizer, of one activation and its reader.

  Their table was not recorded. These round numbers are the one solution, with 0
  as its least entry, of the ten equations that `reg_lat` and
  `reg_lat_split_marg` (values and gradients) are for its nine entries; the two
  equations too many hold to 1e-8.
  """
  latency = np.array([[50, 125, 300], [200, 0, 150], [450, 250, 100]]) / 1e3
  scheme = FreeBits(gate_groups(CHAIN, False))
  costs = np.stack([np.zeros((3, 3)), np.zeros((3, 3)), latency])
  cost = regularizers.expected_cost(CHAIN, scheme, costs)
  c, rows = case(QUANTLIB, "reg_lat"), scheme.groups.rows(CHAIN)
  logits = np.zeros((scheme.groups.count, 2), np.float32)
  logits[rows["b.out"]], logits[rows["fc.weight"]] = c["phi_a"], c["phi_w"]
  value, gradient = jax.value_and_grad(cost)({"gates": {"logits": logits}})
  at_8_bits = latency[2, 2]
  gradient = at_8_bits * gradient["gates"]["logits"]
  close(at_8_bits * value, c["value"])
  close(gradient[rows["fc.weight"]], c["grad_w"])
  close(gradient[rows["b.out"]], c["grad_a"])
  assert np.count_nonzero(np.abs(gradient).sum(1)) == 2


OPEN, CLOSED, EVEN = 40.0, -40.0, -1.19895  # P(gate > 0) of 1, 0 and 1/2


@pytest.mark.parametrize(
  "of, shares", [("bops", (1, 4 / 9, 1 / 3)), ("tensors", (1, 1, 1))]
)
def test_the_free_bits_penalty_by_hand(of, shares):
  """4 P(4 or more) + 8 P(8) of both operands, by MACs of 576, 256 and 192."""
  groups = gate_groups(CHAIN, False)
  penalty = regularizers.bops_regularizer(CHAIN.workload, groups, of)
  rows = groups.rows(CHAIN)

  def at(**logits):
    found = np.full((groups.count, 2), OPEN, np.float32)
    for name, pair in logits.items():
      found[rows[name.replace("_", ".")]] = pair
    return float(penalty({"gates": {"logits": jnp.asarray(found)}}))

  a, b, fc = shares
  assert at() == pytest.approx(24 * (a + b + fc), rel=1e-5)
  # 4-bit weights of b, 2-bit input of b; 2-bit weights of fc, 4-bit input.
  found = at(
    b_weight=(OPEN, CLOSED),
    a_out=(CLOSED, OPEN),
    fc_weight=(CLOSED, CLOSED),
    b_out=(OPEN, CLOSED),
  )
  assert found == pytest.approx(24 * a + 4 * b + 4 * fc, rel=1e-5)
  # Half a chance of 4 bits or more, a quarter of 8: 4 / 2 + 8 / 4.
  found = at(a_weight=(EVEN, EVEN), fc_weight=(EVEN, OPEN))
  assert found == pytest.approx(16 * a + 24 * b + 18 * fc, rel=1e-4)


def test_an_unknown_penalty_is_refused():
  with pytest.raises(ValueError, match="of is 'macs', expected 'bops' or 'te"):
    regularizers.bops_regularizer(WORKLOAD, gate_groups(NET, False), "macs")


# ---- what they drive to ------------------------------------------------------


CHAIN = Net(
  "chain",
  (4, 4, 1),
  (
    Node("a", "conv", ("input",), 4, (3, 3), 1, 1, **CONV),
    Node("b", "conv", ("a",), 4, **CONV),
    Node("fc", "linear", ("b",), 3, is_output=True),
  ),
)


@pytest.fixture(scope="module")
def search():
  """(scheme, cycles, final variables as a function of the budget)."""
  scheme = Fractional(gate_groups(CHAIN, False))
  # Fastest: 4-bit inputs with 2-bit weights, far from uniform.
  cycles = np.tile([[6, 7, 9], [2, 5, 8], [4, 6, 10]], (3, 1, 1))
  cost = regularizers.expected_cost(CHAIN, scheme, cycles)
  model = Model(CHAIN, scheme)

  def sample(key):
    images = jax.random.uniform(key, (6, *CHAIN.input_shape))
    return images, jnp.arange(6, dtype=jnp.int32) % 3

  updates = optimizer.make(
    350, 1e-2, range_learning_rate=1e-3, gate_learning_rate=0.01
  )
  kinds = ("params", "gates", "ranges")
  step = steps.train_step(
    model, updates, kinds, sample, regularizers.within_budget(cost)
  )
  start = Model(CHAIN).init(
    jax.random.key(0), sample(jax.random.key(1))[0], False
  )
  start = steps.complete(model, start)

  def search_at(budget, count):
    state = steps.initial_state(start, kinds, updates)
    run = {
      "key": jax.random.key(2),
      "strength": jnp.float32(20.0),
      "budget": jnp.float32(budget),
      "ramp_steps": jnp.int32(30),
    }
    costs = []
    for _ in range(count):
      state, _ = step(state, run)
      costs.append(float(cost(state.variables)))
    return state.variables, costs

  return scheme, search_at


def test_a_strong_regularizer_finds_the_fastest_assignment(search):
  scheme, search_at = search
  variables, _ = search_at(0.01, 350)
  found = scheme.assignment(CHAIN, variables)
  precision.check_assignment(CHAIN, found)
  # The stem reads 8 bits, where 2-bit weights are fastest too.
  assert found == {
    "input.out": 8,
    **dict.fromkeys(("a.out", "b.out"), 4),
    **{f"{name}.weight": 2 for name in ("a", "b", "fc")},
  }


def test_the_budget_is_met_and_not_more(search):
  _, search_at = search
  _, costs = search_at(0.8, 250)
  assert costs[0] > 0.95
  assert 0.7 < costs[-1] < 0.82


def test_the_penalty_rises_to_the_excess():
  cost = lambda variables, run, step: variables["cost"]
  penalty = regularizers.within_budget(cost)
  run = {"budget": jnp.float32(0.5), "ramp_steps": jnp.int32(4)}
  variables = {"cost": jnp.float32(0.75)}
  found = [float(penalty(variables, run, jnp.int32(n))) for n in range(6)]
  np.testing.assert_allclose(found, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5])
  assert penalty({"cost": jnp.float32(0.4)}, run, jnp.int32(9)) == 0.0
