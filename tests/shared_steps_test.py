"""What an adder adds has one step, to the last bit, in every network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import IMAGES, NET, calibrated

from fbq import nets, precision
from fbq.model import Model
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT, INPUT_SITE
from fbq.quantizers import qat_rules, shared_steps, uniform
from fbq.quantizers.site_ranges import FLOAT_BITS, site_ranges
from fbq.schemes import ranges as range_lib
from fbq.schemes.fixed import Fixed
from fbq.schemes.scheme import Call
from fbq.train import optimizer, steps

WITH_ADDERS = [
  name
  for name in nets.BUILDERS
  if any(node.op == "add" for node in nets.build(name).nodes)
]


def adders(net):
  """Sites of both operands of every adder."""
  return [
    [net.site_of[name] for name in node.inputs]
    for node in net.nodes
    if node.op == "add"
  ]


def test_the_zoo_has_networks_with_adders():
  without = {"ds_cnn", "googlenet", "inception_v3", "mobilenet_v1"}
  without |= {"unet", "vgg9"}
  assert set(WITH_ADDERS) == set(nets.BUILDERS) - without


@pytest.mark.parametrize("name", WITH_ADDERS)
def test_operands_have_bit_equal_steps_whatever_is_learned(name):
  """In compiled code, with bits that are data, as in training."""
  net = nets.build(name)
  owners = sorted(
    {net.step_site[site] for pair in adders(net) for site in pair}
  )
  others = dict.fromkeys(net.step_site.values(), jnp.float32(1))

  @functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
  )
  def run(values, bits):
    ranges = others | {site: values[i] for i, site in enumerate(owners)}
    call = Call(net, lambda _, site, __: ranges[site], True, 1, bits, None)
    quantizer = Fixed().quantizer(call)
    step = lambda site: (
      quantizer.ranges[site]
      / uniform.grid(quantizer.bits[site], net.is_signed[site])[2]
    )
    return [(step(first), step(second)) for first, second in adders(net)]

  random = np.random.default_rng(0)
  bits = precision.to_array(net, precision.uniform(net, 4))
  for _ in range(20):
    values = np.exp(random.uniform(-12, 8, len(owners))).astype(np.float32)
    for first, second in jax.device_get(run(values, bits)):
      assert first.view(np.int32) == second.view(np.int32)


@pytest.mark.parametrize("rule", [qat_rules.LOG_LSQ, qat_rules.MIN_MAX])
def test_operands_have_bit_equal_steps_after_training(rule):
  """As integers they are what the sum is made of, to float32's last bit."""
  scheme = Fixed(rule)
  model = Model(NET, scheme)
  bits = jnp.asarray(precision.to_array(NET, precision.uniform(NET, 4)))
  trained = ("params", "ranges") if scheme.learns_ranges else ("params",)
  kinds = {"params", "batch_stats", scheme.collection}
  variables = steps.complete(
    model, {k: v for k, v in calibrated().items() if k in kinds}, bits
  )
  options = dict(range_rule=rule, range_learning_rate=0.02)
  updates = optimizer.make(
    3, 0.1, 0.0, **(options if scheme.learns_ranges else {})
  )
  sample = lambda key: (IMAGES, jnp.arange(8) % 3)
  step = steps.train_step(model, updates, trained, sample)
  state = steps.initial_state(variables, trained, updates)
  run = {"key": jax.random.key(0), "bits": bits}
  for _ in range(3):
    state, _ = step(state, run)
  before = calibrated()["ranges"]["a.out"]
  found = state.variables
  if scheme.learns_ranges:
    assert "c.out" not in found["ranges"]
    assert found["ranges"]["a.out"] != before
    range_ = found["ranges"]["a.out"]
  else:  # the larger step of the two
    low, high = found["averages"]["c.out"]
    needed = max(-low, high) / 128
    range_ = np.maximum(found["averages"]["a.out"][1] / 255, needed) * 255
  _, seen = model.apply(found, IMAGES, False, bits, mutable="intermediates")
  seen = {name: np.asarray(x[0]) for name, x in seen["intermediates"].items()}
  step_ = np.float32(np.float32(range_) / np.float32(255))
  # Codes by numpy, from what the model has before its quantizers.
  a = np.clip(np.rint(seen["a"] * (1 / step_)), 0, 255)
  c = np.clip(np.rint(seen["c"] * (1 / step_)), -128, 127)
  assert np.ptp(c) > 10
  expected = (a.astype(np.float32) + c.astype(np.float32)).astype(np.float64)
  np.testing.assert_allclose(
    seen["sum"] / np.float64(step_), expected, rtol=0, atol=1e-4
  )


# ---- which sites share -------------------------------------------------------


def joined():
  """Two adders read b, signed; a pool of a is added to it; then the image."""
  conv = dict(norm=True)
  return Net(
    "joined",
    (4, 4, 2),
    (
      Node("a", "conv", (INPUT,), 2, (1, 1), activation="relu", **conv),
      Node("b", "conv", ("a",), 2, (1, 1), **conv),
      Node("same", "max_pool", ("a",), kernel=(1, 1)),
      Node("c", "conv", ("a",), 2, (1, 1), **conv),
      Node("one", "add", ("c", "b")),
      Node("two", "add", ("b", "same"), activation="relu"),
      Node("d", "conv", ("two",), 2, (1, 1), **conv),
      Node("e", "conv", ("one",), 2, (1, 1), **conv),
      Node("three", "add", ("d", "e")),
      Node("four", "add", ("three", INPUT)),
      Node("fc", "linear", ("four",), 3, is_output=True),
    ),
  )


def test_groups_of_sites():
  """b joins c and the pooled a; sums have steps of their own."""
  net = joined()
  shared = {"b.out": "a.out", "c.out": "a.out", "e.out": "d.out"}
  shared["three.out"] = INPUT_SITE
  alone = {site: site for site in net.is_signed}
  assert net.step_site == alone | shared


def test_networks_without_adders_share_nothing():
  for name in set(nets.BUILDERS) - set(WITH_ADDERS):
    net = nets.build(name)
    assert net.step_site == {site: site for site in net.is_signed}


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 8, FLOAT_BITS]))
@settings(max_examples=20, deadline=None)
def test_the_largest_step_that_one_needs_is_taken(seed, bits):
  net = joined()
  random = np.random.default_rng(seed)
  alone = {
    site: np.float32(np.exp(random.uniform(-8, 8)))
    for site in net.is_signed
    if site != INPUT_SITE
  }
  by_site = dict.fromkeys(net.is_signed, bits)
  found = shared_steps.of_step_sites(net, alone, by_site)
  own = {"a.out", "one.out", "two.out", "d.out", "four.out"}
  assert set(found) == own
  signed, unsigned = 2 ** (bits - 1), 2**bits - 1
  needed = [alone["a.out"] / unsigned]
  needed += [alone[site] / signed for site in ("b.out", "c.out")]
  assert float(found["a.out"]) == pytest.approx(max(needed) * unsigned)
  assert found["d.out"] == max(alone["d.out"], alone["e.out"])
  for site in ("one.out", "two.out", "four.out"):
    assert found[site] == alone[site]
  everywhere = shared_steps.of_all_sites(net, found, by_site)
  assert set(everywhere) == set(net.is_signed)
  assert everywhere[INPUT_SITE] == 1
  assert float(everywhere["three.out"]) == pytest.approx(signed / unsigned)
  for site in set(alone) - {"three.out"}:  # the image leaves no choice
    assert everywhere[site] >= alone[site] * (1 - 1e-6)


def test_calibration_starts_groups_at_the_largest_step():
  random = np.random.default_rng(0)
  net = joined()
  tensors = {
    site: random.normal(0, 1 + 4 * (site == "c.out"), (64, 2))
    for site in net.is_signed
    if site != INPUT_SITE
  }
  params = {
    f"{node.name}_kernel": random.normal(size=(1, 1, 2, 2))
    for node in net.nodes
    if node.op == "conv"
  } | {"fc_kernel": random.normal(size=(32, 3))}
  found = site_ranges(net, params, tensors, (8,))
  activations = {site for site in found if site.endswith(".out")}
  assert activations == {"a.out", "one.out", "two.out", "d.out", "four.out"}
  largest = np.abs(tensors["c.out"]).max()
  assert found["a.out"][8] / 255 * 128 == pytest.approx(largest, rel=0.1)
  assert found["a.out"][FLOAT_BITS] == pytest.approx(4 * largest, rel=1e-6)


def test_a_gradient_reaches_the_one_range_from_both_operands():
  bits = {site: jnp.int32(8) for site in NET.is_signed}

  def clipped(range_, site):
    ranges = dict.fromkeys(["b.out", "sum.out", "d.out"], jnp.float32(1))
    found = shared_steps.of_all_sites(NET, {"a.out": range_} | ranges, bits)
    x = jnp.float32([100.0])
    return uniform.quantize(x, found[site], bits[site], NET.is_signed[site])[0]

  for site, share in (("a.out", 1.0), ("c.out", 127 / 255)):
    assert jax.grad(clipped)(jnp.float32(2), site) == pytest.approx(share)


def test_the_schemes_declare_the_ranges_of_step_sites():
  asked = []

  def variable(kind, site, start):
    asked.append((kind, site))
    return start()

  call = Call(joined(), variable, False, 1, None, None)
  found = range_lib.activation_ranges(call)
  assert asked == [
    ("ranges", f"{name}.out") for name in ("a", "one", "two", "d", "four")
  ]
  assert set(found) == set(joined().is_signed)
