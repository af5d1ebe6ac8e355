"""Gates and regularizers against the authors' numbers, and their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import BAYESIAN, QUANTLIB, case, close, names

from fbq.quantizers import gates


def test_gate_maps_golden():
  c = case(BAYESIAN, "H")
  close(gates.BAYESIAN_BITS.probability_open(c["phi"]), c["prob_pos"])
  close(gates.BAYESIAN_BITS.mean(c["phi"]), c["hardsigmoid"])
  np.testing.assert_array_equal(
    gates.BAYESIAN_BITS.is_open(c["phi"]), c["test_gate"] > 0
  )
  c = case(QUANTLIB, "scalar")
  close(gates.FREE_BITS.probability_open(c["phi"]), c["ccdf0"])
  np.testing.assert_array_equal(
    gates.FREE_BITS.is_open(c["phi"]), c["test_on"] > 0
  )


@pytest.mark.parametrize(
  "distribution, threshold",
  [(gates.BAYESIAN_BITS, -0.9353), (gates.FREE_BITS, -0.5356)],
)
def test_gate_thresholds(distribution, threshold):
  assert distribution.threshold == pytest.approx(threshold, abs=1e-4)
  logits = jnp.float32([threshold - 1e-3, threshold + 1e-3])
  assert distribution.is_open(logits).tolist() == [False, True]


def test_gate_samples_have_the_stated_distribution():
  uniform_noise = jax.random.uniform(
    jax.random.key(0), (200_000,), minval=1e-7, maxval=1 - 1e-7
  )
  for logit in (-1.0, 0.3, 2.0):
    z = gates.FREE_BITS.sample(jnp.float32(logit), uniform_noise)
    assert 0 <= z.min() and z.max() <= 1
    expected = gates.FREE_BITS.probability_open(jnp.float32(logit))
    assert float((z > 0).mean()) == pytest.approx(float(expected), abs=4e-3)


def test_closed_gate_closes_those_above_it():
  logits = jnp.float32([[9, 9], [9, -9], [-9, 9], [-9, -9]])
  bits = gates.chosen_bits(logits, gates.FREE_BITS)
  assert bits.tolist() == [8, 4, 2, 2]


def test_bops_regularizer_golden():
  """The scale of the recorded layer is solved from its value, then checked."""
  c = case(QUANTLIB, "reg_bop")
  one = jax.value_and_grad(
    lambda w, a, s: gates.expected_bops(w[None], a[None], s), argnums=(0, 1)
  )
  value, (dw, da) = one(c["phi_w"], c["phi_a"], jnp.ones(1))
  scale = float(c["value"]) / float(value)
  assert 0 < scale <= 1
  close(scale * dw, c["grad_w"])
  close(scale * da, c["grad_a"])


@pytest.mark.parametrize("name", names(BAYESIAN, "F_reg"))
def test_bayesian_bits_prior_golden(name):
  c = case(BAYESIAN, name)
  bop = "mac_over_max" in c and int(name.split("_")[2]) not in (0, 3, 6, 9)
  weights = (
    jnp.float32([2, 4, 8, 16, 32]) * c["mac_over_max"] if bop else (jnp.ones(5))
  )
  pruning = jnp.asarray(c["gamma_2"]) if "gamma_2" in c else None
  value, grad = jax.value_and_grad(gates.bayesian_bits_prior)(
    jnp.asarray(c["gammas"]), weights, pruning
  )
  close(value, c["value"])
  close(grad, c["grad_gammas"])
