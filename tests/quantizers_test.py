"""Plain quantizers against the authors' numbers, and their definition."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import BAYESIAN, QUANTLIB, case, close, names

from fbq.quantizers import bayesian_bits, uniform


@pytest.mark.parametrize("signed", [False, True])
def test_32_bits_are_floats_of_a_range(signed):
  x = np.linspace(-1.2 if signed else 0.0, 1.2, 997, dtype=np.float32)
  found = uniform.quantize(x, jnp.float32(1.0), jnp.int32(32), signed)
  expected = np.clip(x, -1 if signed else 0, 1)
  np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pact_activations_golden(bits):
  c = case(QUANTLIB, f"pact_act_{bits}_round")
  y, vjp = jax.vjp(
    lambda x, r: uniform.quantize(x, r, jnp.int32(bits), False, "pact"),
    c["x"],
    c["hi"],
  )
  dx, drange = vjp(c["g"])
  step = c["hi"] / (2**bits - 1)
  np.testing.assert_array_equal(
    uniform.codes(c["x"], c["hi"], jnp.int32(bits), False),
    np.rint(c["y"] / step),
  )
  close(y, c["y"])
  close(dx, c["grad_x"])
  close(drange, c["grad_hi"])


def test_pact_weights_golden():
  c = case(QUANTLIB, "pact_wt_4")
  y, vjp = jax.vjp(
    lambda x, lo: uniform.quantize(x, -lo, jnp.int32(4), True, "pact"),
    c["x"],
    c["lo"],
  )
  dx, dlo = vjp(c["g"])
  np.testing.assert_array_equal(
    uniform.codes(c["x"], -c["lo"], jnp.int32(4), True),
    np.rint(c["y"] / (-c["lo"] / 8)),
  )
  close(y, c["y"])
  close(dx, c["grad_x"])
  close(dlo, c["grad_lo"])


@pytest.mark.parametrize("bits", [2, 8])
def test_tqt_weights_codes_golden(bits):
  c = case(QUANTLIB, f"tqt_wt_{bits}")
  np.testing.assert_array_equal(
    uniform.codes(c["x"], -c["lo"], jnp.int32(bits), True),
    np.rint(c["y"] / (-c["lo"] / 2 ** (bits - 1))),
  )


@pytest.mark.parametrize("name", names(BAYESIAN, "G_pact"))
def test_fixed_gate_quantizer_of_bayesian_bits_golden(name):
  """Their fine-tuning quantizer is the residual form with open gates."""
  c = case(BAYESIAN, name)
  bits, signed = int(name.split("_")[2]), name.endswith("s")
  count = int(np.log2(bits))
  y, vjp = jax.vjp(
    lambda x, m: bayesian_bits.residual_quantize(
      x, m, [jnp.float32(1)] * count, signed
    ),
    c["x"],
    c["x_max"],
  )
  dx, dmax = vjp(c["g_out"])
  close(y, c["y"], 1e-5)
  close(dx, c["grad_x"])
  close(dmax, c["grad_x_max"], 1e-5)


@hypothesis.given(
  x=hnp.arrays(
    np.float32, 24, elements=st.floats(-9, 9, width=32, allow_subnormal=False)
  ),
  range_=st.floats(2**-7, 8, width=32),
  bits=st.sampled_from([2, 3, 4, 8]),
  signed=st.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_uniform_properties(x, range_, bits, signed):

  def quantize(v):
    return uniform.quantize(v, jnp.float32(range_), jnp.int32(bits), signed)

  y = np.asarray(quantize(x))
  np.testing.assert_array_equal(quantize(y), y)  # idempotent
  order = np.argsort(x)
  assert (np.diff(y[order]) >= 0).all()  # monotone
  low, high = (
    (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
  )
  step = np.float32(range_) / np.float32(2 ** (bits - 1) if signed else high)
  oracle = np.clip(np.rint(x * (np.float32(1) / step)), low, high)
  np.testing.assert_array_equal(
    uniform.codes(x, jnp.float32(range_), jnp.int32(bits), signed), oracle
  )
  np.testing.assert_array_equal(y, (oracle * step).astype(np.float32))
  assert len(np.unique(oracle)) <= 2**bits


def test_lsq_gradient_of_range_is_that_of_the_straight_through_estimator():
  x = jnp.float32([-0.3, 0.2, 0.61, 0.9, 1.7])
  grad = jax.grad(lambda r: uniform.quantize(x, r, jnp.int32(2), False).sum())(
    jnp.float32(1.2)
  )
  step = 0.4  # by hand: codes 0, 0 or 1, 2, 2, 3 (clipped)
  inside = [(1, 0.2), (2, 0.61), (2, 0.9)]
  inside[0] = (round(0.2 / step), 0.2)
  dstep = sum(code - v / step for code, v in inside) + 3
  np.testing.assert_allclose(grad, dstep / 3, rtol=1e-5)
