"""Rules of training: each moves what its paper moves, as its paper does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import paper_rules
import pytest
from golden_cases import QUANTLIB, case, close
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import IMAGES, NET, calibrated

from fbq import precision
from fbq.model import Model
from fbq.quantizers import calibration, qat_rules
from fbq.quantizers.qat_rules import LOG_LSQ, LSQ, MIN_MAX, PACT, TQT
from fbq.schemes.fixed import Fixed, Form
from fbq.train import steps

RULES = (LOG_LSQ, LSQ, TQT, PACT, MIN_MAX)
LEARNED = [rule for rule in RULES if rule.optimizer]
RANDOM = np.random.default_rng(0)
RATE = 0.1


def updates(rule, gradients, start):
  """[K, ..]: variables after each of K gradients."""
  transform = rule.optimizer(RATE)
  state, value, found = transform.init(start), start, []
  for gradient in gradients:
    update, state = transform.update(jnp.float32(gradient), state, value)
    value = optax.apply_updates(value, update)
    found.append(np.asarray(value))
  return np.stack(found)


@pytest.mark.parametrize("signed", [True, False])
def test_lsq_moves_the_range_as_sgd_moves_the_step(signed):
  """By the paper's quantizer of the step, over steps with momentum."""
  bits, count = jnp.int32(3), 40
  steps_ = 4 if signed else 7
  x = RANDOM.normal(size=(3, 40)).astype(np.float32)
  g = RANDOM.normal(size=(3, 40)).astype(np.float32)
  step = jnp.float32(0.3)
  range_ = step * steps_
  own = optax.sgd(RATE, 0.9)
  ours = LSQ.optimizer(RATE)
  own_state, state = own.init(step), ours.init(range_)
  for x_, g_ in zip(x, g, strict=True):
    y, vjp = jax.vjp(
      lambda s, x_=x_: paper_rules.lsq_quantize(x_, s, bits, signed, count),
      step,
    )
    update, own_state = own.update(vjp(g_)[0], own_state)
    found, vjp = jax.vjp(
      lambda r, x_=x_: LSQ.quantize(x_, r, bits, signed, count),
      range_,
    )
    close(found, y)
    moved, state = ours.update(vjp(g_)[0], state, range_)
    step, range_ = step + update, range_ + moved
    assert float(range_) == pytest.approx(steps_ * float(step), rel=1e-5)
  assert abs(float(step) - 0.3) > 0.01  # it did move


def test_tqt_moves_log2_by_the_golden_normalized_gradients():
  """Step k has k times the gradient, as in the recorded ones."""
  c, bits = case(QUANTLIB, "tqt_wt_2"), jnp.int32(2)
  start = np.exp2(c["log_t"])
  gradient = jax.grad(
    lambda r: jnp.vdot(TQT.quantize(c["x"], r, bits, True, 1), c["g"])
  )
  # In log2 the gradient is ln 2 times range times that of the range; the range
  # moves meanwhile, so what is fed is scaled to be k times the first.
  first = gradient(jnp.asarray(start)) * start
  transform = TQT.optimizer(RATE)
  state, value, velocity = transform.init(jnp.asarray(start)), start, 0.0
  for k, expected in enumerate(c["grad_logt_3steps"], 1):
    update, state = transform.update(k * first / value, state, value)
    velocity = 0.9 * velocity + expected  # of SGD with momentum
    moved = np.log2(value + update) - np.log2(value)
    np.testing.assert_allclose(moved, -RATE * velocity, rtol=2e-5, atol=1e-6)
    value = value + update


@pytest.mark.parametrize(
  "kind, bits, signed", [("act", 4, False), ("wt", 4, 1)]
)
def test_pact_is_the_golden_gradient_with_decay(kind, bits, signed):
  name = f"pact_{kind}_{bits}" + "_round" * (kind == "act")
  c = case(QUANTLIB, name)
  range_ = jnp.asarray(-c["lo"] if signed else c["hi"])
  _, vjp = jax.vjp(
    lambda x, r: PACT.quantize(x, r, jnp.int32(bits), signed, 1),
    c["x"],
    range_,
  )
  dx, gradient = vjp(c["g"])
  close(dx, c["grad_x"])
  if not signed:
    close(gradient, c["grad_hi"])
  (moved,) = updates(PACT, [gradient], range_)
  share = qat_rules.PACT_DECAY
  close(moved, range_ - RATE * (gradient + share * range_))


@settings(max_examples=25, deadline=None)
@given(
  rule=st.sampled_from(LEARNED),
  start=st.floats(2**-26, 64, width=32),
  gradients=st.lists(
    st.one_of(st.floats(-1e6, 1e6, width=32), st.just(1e30), st.just(-1e30)),
    min_size=1,
    max_size=6,
  ),
)
def test_ranges_stay_positive_under_any_gradient(rule, start, gradients):
  found = updates(rule, gradients, jnp.float32(start))
  assert (found > 0).all() and np.isfinite(found).all()


@settings(max_examples=20, deadline=None)
@given(rule=st.sampled_from(LEARNED), bits=st.sampled_from([2, 3, 8]))
def test_at_most_2_to_the_b_codes(rule, bits):
  x = 3 * RANDOM.normal(size=999).astype(np.float32)
  for signed in (True, False):
    y = rule.quantize(x, jnp.float32(1.7), jnp.int32(bits), signed, 9)
    assert 2 < len(np.unique(y)) <= 2**bits
    assert signed or np.min(y) == 0


def test_starts_are_those_of_the_papers():
  """Of two columns, against formulas; the rules' own tests have the rest."""
  x = RANDOM.normal(size=(4000, 2)).astype(np.float32) * np.float32([1, 3])
  start = {
    rule.name: [rule.start(x, 4, signed) for signed in (True, False)]
    for rule in RULES
  }
  positive = np.maximum(x, 0)
  largest = np.abs(x).max(0), positive.max(0)
  for name in ("tqt", "min_max"):
    np.testing.assert_allclose(start[name], largest, rtol=1e-6)
  expected = [
    2 * np.abs(x).mean(0) / np.sqrt(7) * 8,
    2 * positive.mean(0) / np.sqrt(15) * 15,
  ]
  np.testing.assert_allclose(start["lsq"], expected, rtol=1e-5)
  best = np.array([calibration.best_range(x[:, i], 4, True) for i in (0, 1)])
  np.testing.assert_array_equal(start["pact"][0], best)
  share = (x > start["pact"][1]).mean(0)
  np.testing.assert_allclose(share, 1 - qat_rules.PACT_PERCENT / 100, atol=5e-4)
  errors = {}
  for rule in LEARNED:
    range_ = jnp.asarray(start[rule.name][0])
    y = rule.quantize(x, range_, jnp.int32(4), True, 1)
    errors[rule.name] = float(np.square(y - x).mean())
  assert errors["log_lsq"] == errors["pact"] == min(errors.values())


# ---- the scheme --------------------------------------------------------------


def test_what_is_no_rule_and_forms_that_no_rule_learns_are_refused():
  with pytest.raises(ValueError, match="rule is 'lsq', expected a .*[.]Rule"):
    Fixed("lsq")
  with pytest.raises(ValueError, match="form.weights is 'odd'"):
    Fixed(MIN_MAX, Form("odd"))
  with pytest.raises(ValueError, match="use the rule 'min_max'"):
    Fixed(LSQ, Form("affine"))
  with pytest.raises(ValueError, match="decay is 1"):
    Fixed(MIN_MAX, decay=1)


CASES = {
  "per layer": Fixed(LSQ, Form(per_channel=False)),
  "affine": Fixed(MIN_MAX, Form("affine", "affine", per_channel=False)),
  "restricted": Fixed(MIN_MAX, Form("restricted")),
  "weights": Fixed(MIN_MAX, Form("affine", quantizes="weights")),
  "activations": Fixed(PACT, Form(quantizes="activations")),
}
KINDS = ("params", "batch_stats")
START = {kind: calibrated()[kind] for kind in KINDS}


@functools.cache
def exact():
  return jax.jit(lambda v: Model(NET).apply(v, IMAGES, False))(START)


def ranges_of(scheme):
  """Variables of calibrated ranges, as far as the scheme has them."""
  kinds = {"weights": "weight", "activations": "out"}
  kind = kinds.get(scheme.form.quantizes, "")
  found = {s: r for s, r in calibrated()["ranges"].items() if s.endswith(kind)}
  if scheme.learns_ranges:
    if not scheme.form.per_channel:
      found = {site: jnp.max(range_) for site, range_ in found.items()}
    return {"ranges": found}
  if "a.out" in found:  # an adder's other operand, of averages of its own
    found["c.out"] = found["a.out"] / 255 * 128
  ends = {
    site: jnp.stack([-range_ if NET.is_signed[site] else 0 * range_, range_])
    for site, range_ in found.items()
    if site.endswith("out")
  }
  return {"averages": ends} if ends else {}


@pytest.mark.parametrize("name", CASES)
def test_every_form_is_one_trace_of_all_bits_and_close_to_float_at_8(name):
  model, traces = Model(NET, CASES[name]), []
  start = {**START, **ranges_of(CASES[name])}

  @jax.jit
  def run(bits):
    traces.append(1)
    y, made = model.apply(
      start, IMAGES, False, bits, mutable=["ranges", "averages"]
    )
    assert jax.tree.structure(made) == jax.tree.structure(
      ranges_of(CASES[name])
    )
    return y

  scale = np.abs(exact()).max()
  found = {}
  for b in (2, 4, 8):
    bits = precision.to_array(NET, precision.uniform(NET, b))
    found[b] = np.abs(run(jnp.asarray(bits)) - exact()).max() / scale
  assert len(traces) == 1
  assert found[8] < 0.05 and 2 * found[8] < found[4] < found[2]


def test_averages_follow_the_batches_and_stand_still_in_evaluation():
  decay = 0.75
  model = Model(NET, Fixed(MIN_MAX, Form(activations="affine"), decay))
  bits = jnp.asarray(precision.to_array(NET, precision.uniform(NET, 8)))
  start = steps.complete(model, START, bits)
  kinds = ["averages", "batch_stats", "intermediates"]
  moves = jax.jit(
    lambda v, train: model.apply(v, IMAGES, train, bits, mutable=kinds)[1],
    static_argnums=1,
  )
  seen = moves(start, True)
  for site, ends in seen["averages"].items():
    tensor = np.asarray(seen["intermediates"][site.split(".")[0]][0])
    low = min(tensor.min(), 0) if NET.is_signed[site] else 0.0
    expected = decay * np.float32([0, 6]) + (1 - decay) * np.float32(
      [low, max(tensor.max(), 0)]
    )
    np.testing.assert_allclose(ends, expected, rtol=1e-6)
  assert seen["averages"].keys() == {
    site for site in NET.is_signed if site != "input.out"
  }
  still = moves(start, False)["averages"]
  assert all(ends.tolist() == [0, 6] for ends in still.values())
