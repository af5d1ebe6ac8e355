"""Range rules against the authors' numbers and oracles that spell them out."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from golden_cases import QUANTLIB, case, close
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fbq.quantizers import affine, divergence, range_rules

RULES = {
  "min_max": range_rules.min_max,
  "percentile": lambda x: range_rules.percentile(x, 90.0, False),
  "percentile_symmetric": lambda x: range_rules.percentile(x, 90.0, True),
  "least_squares": lambda x: range_rules.least_squares(x, 4, "affine"),
  "least_squares_restricted": lambda x: range_rules.least_squares(
    x, 3, "restricted"
  ),
  "sawb": lambda x: range_rules.sawb(x, 4, "symmetric"),
}
RANDOM = np.random.default_rng(0)


# ---- the authors' numbers ----------------------------------------------------


def channels_last(kernel):
  return range_rules.columns(np.moveaxis(kernel, 0, -1), True)


@pytest.mark.parametrize("bits", [2, 8])
def test_sawb_golden(bits):
  c = case(QUANTLIB, f"sawb_{bits}")
  found = range_rules.sawb(channels_last(c["x"]), bits, "symmetric")
  # One channel at 8 bits is 0.29 = 40.58 - 40.28, theirs in float32.
  close(found.high, c["alpha"])
  np.testing.assert_array_equal(found.low, -found.high)


@pytest.mark.parametrize("bits", [2, 8])
def test_least_squares_golden(bits):
  """Theirs: 100 % to 21 % of the largest magnitude, one share for all."""
  c = case(QUANTLIB, f"mse_{bits}")
  found = range_rules.least_squares(
    channels_last(c["x"]),
    bits,
    "symmetric",
    shares=1 - 0.01 * np.arange(80),
    shared=True,
  )
  grid = affine.grid(*map(jnp.asarray, found), jnp.int32(bits), "symmetric")
  np.testing.assert_allclose(found.low, c["lo"], rtol=1e-5)
  np.testing.assert_allclose(grid.top, c["hi"], rtol=1e-5)


# ---- by definition -----------------------------------------------------------


def test_min_max_and_percentiles_by_hand():
  x = np.float32([-4, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8])
  assert range_rules.min_max(x) == (-4, 8)
  assert range_rules.min_max(x + 5) == (0, 13)  # contains 0
  assert range_rules.min_max(x - 9) == (-13, 0)
  assert range_rules.percentile(x, 90.0, False) == (-1, 7)
  # Magnitudes 0 1 1 2 3 4 4 5 6 7 8.
  assert range_rules.percentile(x, 80.0, True) == (-6, 6)
  assert range_rules.percentile(x, 100.0, False) == range_rules.min_max(x)


def test_moving_average_by_hand():
  batches = [range_rules.min_max(np.float32(b)) for b in ([-1, 4], [-3, 8])]
  low, high = range_rules.moving_average(batches, decay=0.75)
  assert (low, high) == (-1.5, 5.0)
  low, high = range_rules.moving_average(batches[::-1], decay=0.75)
  assert (low, high) == (-2.5, 7.0)
  same = range_rules.moving_average(batches[:1] * 9, decay=0.9)
  np.testing.assert_allclose(same, batches[0], rtol=1e-6)


def error(x, low, high, bits, form):
  grid = affine.grid(low, high, jnp.int32(bits), form)
  return float(np.square(np.asarray(affine.quantize(x, grid)) - x).mean())


@pytest.mark.parametrize("form", affine.FORMS)
@pytest.mark.parametrize("bits", [2, 4])
def test_least_squares_is_as_good_as_any_share(form, bits):
  x = RANDOM.laplace(size=200).astype(np.float32) + np.float32(0.5)
  low, high = range_rules.least_squares(x, bits, form)
  got = error(x, low, high, bits, form)
  for share in np.linspace(0.04, 1.0, 25):
    least, most = share * x.min(), share * x.max()
    assert got <= error(x, least, most, bits, form) * (1 + 1e-5)
  assert got < error(x, x.min(), x.max(), bits, form)


def test_of_ranges_as_good_the_widest_is_taken():
  x, shares = np.float32([-1.0]), np.array([1.0, 2.0])  # exact with both
  found = range_rules.least_squares(x, 3, "symmetric", shares)
  assert found == (-2, 2)


def oracle_divergence(counts, size, codes):
  """Bin by bin, with codes for `size` bins."""
  p = [float(c) for c in counts[:size]]
  p[-1] += sum(counts[size:])
  q = [0.0] * size
  for code in range(codes):
    bins = [i for i in range(size) if i * codes // size == code]
    filled = [i for i in bins if p[i] > 0]
    for i in filled:
      q[i] = sum(counts[j] for j in bins) / len(filled)
  total_p, total_q = sum(p), sum(q)
  loss = 0.0
  for a, b in zip(p, q, strict=True):
    if a > 0:
      share = b / total_q if total_q else 0
      loss += a / total_p * math.log(a / total_p / max(share, 0.5 / total_p))
  return loss


@pytest.mark.parametrize("codes, size", [(4, 4), (4, 11), (16, 40), (3, 50)])
def test_divergence_bin_by_bin(codes, size):
  counts = RANDOM.poisson(1.5, 60)
  counts[size - 1] = 0  # filled by what lies above alone
  found = divergence.divergences(counts, codes)[size - codes]
  assert found == pytest.approx(oracle_divergence(counts, size, codes))


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("form", ["symmetric", "restricted"])
def test_sawb_is_near_the_least_error_on_a_normal_distribution(bits, form):
  """What its coefficients were fitted for."""
  x = np.random.default_rng(1).normal(size=4_000).astype(np.float32)
  fitted = range_rules.sawb(x, bits, form)
  best = range_rules.least_squares(x, bits, form)
  assert error(x, *fitted, bits, form) < 1.15 * error(x, *best, bits, form)


@pytest.mark.parametrize("form", affine.FORMS)
def test_quantized_in_numpy_is_that_of_the_quantizer(form):
  x = RANDOM.normal(size=(3, 5, 4)).astype(np.float32)
  range_ = range_rules.min_max(range_rules.columns(x, True))
  grid = affine.grid(*map(jnp.asarray, range_), jnp.int32(3), form)
  expected = affine.quantize(jnp.asarray(x), grid)
  found = range_rules.quantized(x, range_, 3, form)
  np.testing.assert_array_equal(found, expected)


# ---- what holds for all ------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=4, deadline=None)
@given(
  x=hnp.arrays(
    np.float32,
    23,
    elements=st.floats(-9, 9, width=32, allow_subnormal=False),
  ),
  seed=st.integers(0, 99),
)
def test_order_of_the_data_does_not_matter(rule, x, seed):
  shuffled = np.random.default_rng(seed).permutation(x)
  a, b = RULES[rule](x), RULES[rule](shuffled)
  np.testing.assert_array_equal(a, b)
  assert a.low <= 0 <= a.high and a.low < a.high


@pytest.mark.parametrize("rule", RULES)
def test_columns_are_independent(rule):
  x = RANDOM.normal(size=(50, 4)).astype(np.float32)
  x *= np.float32([0, 1e-3, 1, 1e4])  # one is all zeros
  together = RULES[rule](x)
  assert together.low.shape == together.high.shape == (4,)
  for c in range(4):
    alone = RULES[rule](x[:, c])
    assert (together.low[c], together.high[c]) == alone


@pytest.mark.parametrize("rule", RULES)
def test_zeros_and_constants(rule):
  low, high = RULES[rule](np.zeros(9))
  assert low <= 0 <= high and np.float32(0.9e-8) < high - low < 1e-7
  low, high = RULES[rule](np.full(9, 3.0))
  assert low <= 0 and (0.5 if rule == "sawb" else 2.7) < high < 6
  low, high = RULES[rule](np.full(9, -3.0))
  assert low <= 0 <= high and low < high


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("x", [[], [1.0, np.nan], [[1.0], [-np.inf]]])
def test_values_that_are_not_finite_are_refused(rule, x):
  with pytest.raises(ValueError, match="must be finite and not empty"):
    RULES[rule](np.array(x))


def test_sawb_of_equal_magnitudes_is_the_magnitude():
  x = np.float32([0.5, -0.5, 0.5])
  assert range_rules.sawb(x, 8, "symmetric") == (-0.5, 0.5)


def test_columns_of_a_tensor():
  x = np.arange(24).reshape(2, 3, 4)
  np.testing.assert_array_equal(
    range_rules.columns(x, True)[:, 1], x[..., 1].ravel()
  )
  assert range_rules.columns(x, False).shape == (24,)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda x: range_rules.sawb(x, 16, "symmetric"), "16 bits"),
    (lambda x: range_rules.sawb(x, 4, "affine"), "form 'affine'"),
    (lambda x: range_rules.percentile(x, 0.99, True), "expected above 50"),
    (lambda x: range_rules.moving_average([]), "0 batches"),
    (lambda x: range_rules.moving_average([x], 1.0), "decay 1.0"),
    (lambda x: range_rules.least_squares(x, 4, "asym"), "form is 'asym'"),
  ],
)
def test_mistakes_are_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(np.ones(3))
