"""Learned ranges against the authors' numbers and closed forms in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import paper_rules
import pytest
from golden_cases import QUANTLIB, case, close
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.quantizers import learned_ranges, uniform

RANDOM = np.random.default_rng(0)


# ---- TQT ---------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 8])
def test_tqt_golden_over_three_steps(bits):
  """Values, gradient of the weights, and three normalized ones of log2 t.

  Step k was driven with k times the recorded gradient of y: running_var is
  (0.1 (0.9^2 + 0.9 2^2 + 3^2) = 1.341) g^2. That of the weights is the third's.
  """
  c = case(QUANTLIB, f"tqt_wt_{bits}")
  y, vjp = jax.vjp(
    lambda x, log_t: paper_rules.tqt_quantize(x, log_t, jnp.int32(bits), True),
    c["x"],
    c["log_t"],
  )
  dx, gradient = vjp(c["g"])
  close(y, c["y"])
  close(3 * dx, c["grad_x"])
  transformation = learned_ranges.tqt_normalized()
  state = transformation.init(c["log_t"])
  for k, expected in enumerate(c["grad_logt_3steps"], 1):
    normalized, state = transformation.update(k * gradient, state)
    np.testing.assert_allclose(normalized, expected, rtol=1e-5)
  np.testing.assert_allclose(state[0].nu, c["running_var"], rtol=1e-5)
  assert 0.9 ** int(state[0].count) == pytest.approx(c["running_beta"])


def test_tqt_normalization_by_hand():
  """Of gradients that change, without tanh."""
  transformation = learned_ranges.tqt_normalized(decay=0.75, clip=False)
  state = transformation.init(jnp.float32(0))
  moment = 0.0
  for step, gradient in enumerate([2.0, -0.5, 0.0, 4.0], 1):
    moment = 0.75 * moment + 0.25 * gradient**2
    expected = gradient / (np.sqrt(moment / (1 - 0.75**step)) + 1e-5)
    found, state = transformation.update(jnp.float32(gradient), state)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_tqt_gradient_is_the_closed_form():
  x = RANDOM.normal(size=(5, 7)).astype(np.float32)
  g = RANDOM.normal(size=(5, 7)).astype(np.float32)
  log_t = np.float32([-0.7, 0.1, 0.5, 0.9, -2.3, 1.4, 3.0])
  _, vjp = jax.vjp(
    lambda t: paper_rules.tqt_quantize(x, t, jnp.int32(4), False), log_t
  )
  top = 2.0**log_t
  step = top / 15
  y = np.clip(np.rint(x / step), 0, 15) * step
  inside = (x > 0) & (x < top)
  expected = np.log(2) * (g * np.where(inside, y - x, y)).sum(0)
  close(vjp(g)[0], expected)


def test_tqt_starts_at_the_largest_magnitude():
  x = np.float32([[0.5, 0], [-4, 0]])
  np.testing.assert_allclose(
    learned_ranges.tqt_start(x), [2, np.log2(1e-8)], rtol=1e-6
  )


# ---- LSQ ---------------------------------------------------------------------


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_lsq_gradients_are_the_closed_form(bits, signed):
  """Eq. 3 and 5 of the paper, with its clipped codes written out."""
  x = RANDOM.normal(size=(40, 3)).astype(np.float32)
  g = RANDOM.normal(size=(40, 3)).astype(np.float32)
  step = np.float32([0.09, 0.31, 2.0])
  y, vjp = jax.vjp(
    lambda x, s: paper_rules.lsq_quantize(x, s, jnp.int32(bits), signed, 40),
    x,
    step,
  )
  dx, dstep = vjp(g)
  lowest = 2 ** (bits - 1) if signed else 0  # Q_N, Q_P
  highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
  v = x.astype(float) / step
  below, above = v <= -lowest, v >= highest
  slope = np.where(below, -lowest, np.where(above, highest, np.rint(v) - v))
  close(y, np.clip(np.rint(v), -lowest, highest) * step)
  close(dx, np.where(below | above, 0, g))
  close(dstep, (g * slope).sum(0) / np.sqrt(40 * highest))


def test_lsq_starts_at_twice_the_mean_magnitude_over_the_root():
  x = np.float32([[1, 0], [-3, 0], [2, 0], [-6, 0]])
  start = learned_ranges.lsq_start(x, 3, True)
  np.testing.assert_allclose(start, [2 * 3 / np.sqrt(3), 1e-8], rtol=1e-6)
  start = learned_ranges.lsq_start(x, 2, False)
  np.testing.assert_allclose(start, [2 * 0.75 / np.sqrt(3), 1e-8], rtol=1e-6)
  with pytest.raises(ValueError, match="1 bits, expected 2 or more"):
    learned_ranges.lsq_start(x, 1, True)
  with pytest.raises(ValueError, match="must be finite"):
    learned_ranges.lsq_start(np.float32([np.nan]), 4, True)


def test_lsq_finds_a_step_of_less_error_and_keeps_it_positive():
  """From three starts, one of them far too large, at a rate far too high."""
  x = jnp.asarray(np.random.default_rng(1).normal(size=(400, 3)), jnp.float32)
  start = jnp.float32(learned_ranges.lsq_start(x, 3, True)) * jnp.float32(
    [1, 4, 0.1]
  )
  optimizer = learned_ranges.keep_positive(
    optax.sgd(optax.linear_schedule(0.2, 0.0, 60))
  )

  def error(step):
    y = paper_rules.lsq_quantize(x, step, jnp.int32(3), True, 400)
    return jnp.square(y - x).sum()

  @jax.jit
  def update(step, state):
    updates, state = optimizer.update(jax.grad(error)(step), state, step)
    return optax.apply_updates(step, updates), state

  step, state, seen = start, optimizer.init(start), []
  for _ in range(60):
    step, state = update(step, state)
    seen.append(np.asarray(step))
  assert np.min(seen) > 0
  best = min(
    float(error(jnp.full(3, s, jnp.float32))) for s in np.linspace(0.2, 1, 33)
  )
  assert float(error(step)) < 1.03 * best


@settings(max_examples=30, deadline=None)
@given(
  value=st.floats(2**-26, 64, width=32),
  updates=st.lists(st.floats(-1e6, 1e6, width=32), max_size=8),
)
def test_positive_stays_positive(value, updates):
  transformation = learned_ranges.keep_positive(optax.identity())
  state, before = transformation.init(jnp.float32(0)), np.float32(value)
  for update in updates:
    found, state = transformation.update(np.float32(update), state, before)
    after = before + np.float32(found)
    assert after >= 0.4999 * before and after > 0
    if update >= -0.5 * before:
      assert found == np.float32(update) or before < 2e-8
    before = min(after, np.float32(1e4))


# ---- PACT --------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pact_decay_adds_its_share_of_the_range_to_the_golden_gradient(bits):
  c = case(QUANTLIB, f"pact_act_{bits}_round")
  gradient = jax.grad(
    lambda r: jnp.vdot(
      uniform.quantize(c["x"], r, jnp.int32(bits), False, "pact"), c["g"]
    )
  )(jnp.asarray(c["hi"]))
  optimizer = learned_ranges.keep_positive(
    optax.chain(optax.add_decayed_weights(1e-3), optax.sgd(0.1))
  )
  updates, _ = optimizer.update(gradient, optimizer.init(c["hi"]), c["hi"])
  close(updates, -0.1 * (c["grad_hi"] + 1e-3 * c["hi"]))
