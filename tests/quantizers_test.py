"""Quantizers against the authors' own numbers, and against their definition."""

import pathlib

import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq.quantizers import bayesian_bits, gates, uniform

GOLDEN = pathlib.Path(__file__).parent / "golden"
QUANTLIB = np.load(GOLDEN / "quantlib_golden.npz")
BAYESIAN = np.load(GOLDEN / "bayesian_bits_golden.npz")


def case(archive, name):
  start = f"{name}/"
  return {
    key[len(start) :]: archive[key]
    for key in archive.files
    if key.startswith(start)
  }


def names(archive, *starts):
  found = {key.split("/")[0] for key in archive.files}
  return sorted(name for name in found if name.startswith(starts))


def close(actual, expected, rtol=1e-5):
  """Relative to the largest magnitude: gradients are sums of many terms."""
  expected = np.asarray(expected)
  np.testing.assert_allclose(
    actual, expected, rtol=rtol, atol=rtol * max(np.abs(expected).max(), 1e-6)
  )


# ---- plain b-bit quantizers -------------------------------------------------


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


def test_bits_are_data():
  """One trace serves every precision, and jit gives what eager gives."""
  chex.clear_trace_counter()
  x = jnp.linspace(-1.5, 1.5, 101)
  step = jax.jit(
    chex.assert_max_traces(
      lambda bits: uniform.quantize(x, jnp.float32(1), bits, True), n=1
    )
  )
  for bits in (2, 4, 8):
    np.testing.assert_array_equal(
      step(jnp.int32(bits)),
      uniform.quantize(x, jnp.float32(1), jnp.int32(bits), True),
    )


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


# ---- gates -------------------------------------------------------------------


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


# ---- Free Bits form ---------------------------------------------------------


def nested(c, signed, faithful, clip):
  axis = tuple(range(1, 4))

  def apply(x, phi, range_):
    logits = phi if signed else phi[:, None]
    z = gates.FREE_BITS.sample(logits, c["u"])
    if not signed:
      z = jnp.expand_dims(z, tuple(range(2, 5)))
    return bayesian_bits.nested_quantize(x, range_, z, signed, faithful)

  return jax.vjp(apply, c["x"], c["phi"], clip), axis


@pytest.mark.parametrize("name", names(QUANTLIB, "bbw_"))
def test_nested_weights_golden(name):
  c = case(QUANTLIB, name)
  (y, vjp), _ = nested(c, True, True, -c["clip_lo"])
  dx, dphi, drange = vjp(c["g"])
  close(y, c["y"])
  close(dx, c["grad_x"])
  close(dphi, c["grad_phi"])
  close(-drange, c["grad_lo"])


@pytest.mark.parametrize("name", names(QUANTLIB, "bba_"))
def test_nested_activations_golden(name):
  c = case(QUANTLIB, name)
  (y, vjp), _ = nested(c, False, True, c["clip_hi"])
  dx, dphi, drange = vjp(c["g"])
  close(y, c["y"])
  close(dx, c["grad_x"])
  close(dphi, c["grad_phi"])
  close(drange, c["grad_hi"])


@pytest.mark.parametrize("name", names(QUANTLIB, "bbw_", "bba_"))
def test_thresholded_gates_give_the_plain_quantizer_golden(name):
  c = case(QUANTLIB, name)
  signed = name.startswith("bbw")
  range_ = -c["clip_lo"] if signed else c["clip_hi"]
  bits = gates.chosen_bits(c["phi"], gates.FREE_BITS)
  close(uniform.quantize(c["x"], range_, bits, signed), c["y_test"])
  step = range_ / (2.0 ** (int(bits) - 1) if signed else 2.0 ** int(bits) - 1)
  np.testing.assert_array_equal(
    uniform.codes(c["x"], range_, bits, signed), np.rint(c["y_test"] / step)
  )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("z", [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_nested_with_hard_gates_is_uniform_in_value_and_gradient(signed, z):
  x = jax.random.normal(jax.random.key(1), (64,))
  bits = 2 if z[0] == 0 else 4 if z[1] == 0 else 8
  soft = lambda x, r: bayesian_bits.nested_quantize(
    x, r, [jnp.float32(v) for v in z], signed
  )
  hard = lambda x, r: uniform.quantize(x, r, jnp.int32(bits), signed)
  g = jax.random.normal(jax.random.key(2), (64,))
  y0, vjp0 = jax.vjp(soft, x, jnp.float32(1.3))
  y1, vjp1 = jax.vjp(hard, x, jnp.float32(1.3))
  close(y0, y1)
  for a, b in zip(vjp0(g), vjp1(g), strict=True):
    close(a, b, 2e-5)


@pytest.mark.parametrize("signed", [True, False])
def test_nested_gradients_against_automatic_differentiation(signed):
  """The closed form equals autodiff through three plain quantizers."""
  x = jax.random.normal(jax.random.key(3), (5, 7))
  z = (jnp.float32(0.7), jnp.float32(0.4))
  range_ = jnp.float32([[0.9]])

  def plain(x, r, z4, z8):
    q = [uniform.quantize(x, r, jnp.int32(b), signed) for b in (2, 4, 8)]
    return q[0] + z4 * ((q[1] - q[0]) + z8 * (q[2] - q[1]))

  g = jax.random.normal(jax.random.key(4), x.shape)
  y0, vjp0 = jax.vjp(plain, x, range_, *z)
  y1, vjp1 = jax.vjp(
    lambda x, r, *z: bayesian_bits.nested_quantize(x, r, z, signed),
    x,
    range_,
    *z,
  )
  close(y1, y0)
  for a, b in zip(vjp1(g), vjp0(g), strict=True):
    close(a, b)


# ---- original form ----------------------------------------------------------


def gates_of(c, count=5):
  z2 = np.nan_to_num(c["z_2"].astype(np.float32), nan=1.0)  # nan: no pruning
  z2 = z2.reshape(-1, *(1,) * (c["x"].ndim - 1)) if z2.size > 1 else z2
  return [jnp.asarray(z2)] + [
    jnp.asarray(c[f"z_{b}"].astype(np.float32)) for b in (4, 8, 16, 32)
  ][: count - 1]


@pytest.mark.parametrize("name", names(BAYESIAN, "A_", "B_", "C_", "D_", "E_"))
def test_residual_golden(name):
  c = case(BAYESIAN, name)
  z = gates_of(c)
  y, vjp = jax.vjp(
    lambda x, m, z: bayesian_bits.residual_quantize(x, m, z, bool(c["signed"])),
    c["x"],
    c["x_max"],
    z,
  )
  dx, dmax, _ = vjp(c["g_out"])
  tolerance = 1e-5
  close(y, c["y"], tolerance)
  if name.startswith("D_"):
    return  # evaluation rounds without a straight-through gradient
  close(dx, c["grad_x"])
  # A sum that cancels (to 0 on the symmetric tie inputs) is known to the
  # rounding of its terms, g y / max.
  terms = np.abs(c["g_out"] * c["y"]).sum() / c["x_max"]
  np.testing.assert_allclose(
    dmax, c["grad_x_max"], rtol=tolerance, atol=tolerance * float(terms[0])
  )


@pytest.mark.parametrize("name", names(BAYESIAN, "A_", "B_", "C_"))
def test_residual_gate_gradients_golden(name):
  """Through the sampled gate to its logit, where the authors still train it."""
  c = case(BAYESIAN, name)
  trained = [b for b in (4, 8, 16, 32) if f"grad_gamma_{b}" in c]
  if not trained:
    pytest.skip("all gates of this case are dead: no gradient recorded")
  noise = c.get("u", np.full(4, 0.5))  # the median draw: deterministic gates
  index = {b: i for i, b in enumerate((4, 8, 16, 32))}

  def gate(b, logit):
    return gates.BAYESIAN_BITS.sample(logit, noise[index[b]])

  def loss(logits):
    z = gates_of(c)
    for b in trained:
      z[1 + index[b]] = gate(b, logits[b])
    y = bayesian_bits.residual_quantize(
      c["x"], c["x_max"], z, bool(c["signed"])
    )
    return jnp.sum(y * c["g_out"])

  logits = {b: jnp.asarray(c[f"gamma_{b}"]) for b in trained}
  for b in trained:
    np.testing.assert_allclose(gate(b, logits[b]), c[f"z_{b}"], atol=1e-6)
  grads = jax.grad(loss)(logits)
  scale = max(np.abs(c[f"grad_gamma_{b}"]).max() for b in trained)
  for b in trained:
    np.testing.assert_allclose(
      grads[b], c[f"grad_gamma_{b}"], rtol=1e-5, atol=1e-5 * max(scale, 1e-3)
    )


@pytest.mark.parametrize("name", names(BAYESIAN, "E_"))
def test_residual_codes_on_ties_golden(name):
  """Integer codes on ties and boundaries: none differs at 2, 4 and 8 bits."""
  c = case(BAYESIAN, name)
  bits = int(name.split("_")[3][:-1])
  if bits > 8:
    pytest.skip("codes of 16 bits and more exceed float32's certainty")
  signed = bool(c["signed"])
  step = c["x_max"] * (2 if signed else 1) / (2**bits - 1)
  y = bayesian_bits.residual_quantize(c["x"], c["x_max"], gates_of(c), signed)
  np.testing.assert_array_equal(np.rint(y / step), np.rint(c["y"] / step))


# ---- regularizers -----------------------------------------------------------


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
