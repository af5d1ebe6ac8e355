"""Histograms against numpy's, and their ranges against those of the numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.quantizers import (
  affine,
  histogram_rules,
  histograms,
  range_rules,
)
from fbq.quantizers.histograms import BINS

count = jax.jit(histograms.count)
SIZE = 60
# Tensors as networks have them, and those that a careless count gets wrong.
CASES = {
  "normal": lambda r, n: r.normal(size=n),
  "relu": lambda r, n: np.maximum(r.normal(size=n), 0),
  "outlier": lambda r, n: np.append(r.normal(size=n - 1), 300.0),
  "negative": lambda r, n: -np.abs(r.normal(size=n)) - 2,
  "constant": lambda r, n: np.full(n, 3.0),
  "powers": lambda r, n: r.choice([-4.0, -2.0, 0.5, 1.0, 4.0], size=n),
  "tiny": lambda r, n: r.normal(size=n) * 1e-33,
  "huge": lambda r, n: r.normal(size=n) * 1e36,
}


@functools.cache
def batches(case, parts=5, size=SIZE):
  """Of growing magnitudes, so that bins have to be added."""
  random = np.random.default_rng(sum(map(ord, case)))
  x = [CASES[case](random, size) * 1.7**i for i in range(parts)]
  return np.float32(x)


def histogram(x):
  return histograms.merge("x", [count(jnp.asarray(batch)) for batch in x])


@pytest.mark.parametrize("case", CASES)
def test_counts_are_those_of_numpy(case):
  x = batches(case)
  found = histogram(x)
  assert found.low == x.min() and found.high == x.max()
  np.testing.assert_array_equal(found.lows, x.min(axis=1))
  np.testing.assert_array_equal(found.highs, x.max(axis=1))
  assert found.zeros == (x == 0).sum()
  # numpy closes its last bin above; nothing lies there.
  edges = np.arange(-BINS, BINS + 1) * 2.0**found.exponent
  expected, _ = np.histogram(x[x != 0].astype(np.float64), edges)
  np.testing.assert_array_equal(found.counts, expected)
  assert found.counts.sum() + found.zeros == x.size
  largest = np.abs(x).max()
  if largest > 1e-26:  # else the least width that there is
    assert found.width <= 2 * largest / BINS


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), case=st.sampled_from(sorted(CASES)))
def test_no_order_changes_a_histogram(seed, case):
  x = batches(case)
  random = np.random.default_rng(seed)
  shuffled = random.permutation(x.reshape(-1)).reshape(x.shape)
  one, other = histogram(x), histogram(shuffled)
  np.testing.assert_array_equal(one.counts, other.counts)
  assert one[:3] == other[:3] and one.zeros == other.zeros
  for rule in set(histogram_rules.RULES) - {"moving_average"}:
    a, b = (
      histogram_rules.range_of(h, rule, 4, "affine") for h in (one, other)
    )
    assert a == b, rule


def test_as_many_doublings_as_one_likes():
  x = np.float32([[1e-30, -1e-30], [1.0, 0.5], [1e30, 0.0]])
  found = histogram(x)
  assert found.zeros == 1 and found.counts[BINS - 1] == 1
  assert found.counts[BINS] == 3 and found.counts.sum() == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_named(bad):
  for place in (0, 1, SIZE // 2, SIZE - 1):
    x = batches("normal").copy()
    x[3, place] = bad
    with pytest.raises(ValueError, match="dw1.out: values of batch 3 are not"):
      histograms.merge("dw1.out", [count(jnp.asarray(batch)) for batch in x])
  with pytest.raises(ValueError, match="x: no batches"):
    histograms.merge("x", [])


# ---- ranges ------------------------------------------------------------------


def rms(x, range_, bits, form):
  y = range_rules.quantized(x, range_, bits, form)
  return np.sqrt(np.mean(np.square(np.float64(y) - x)))


@pytest.mark.parametrize("form", affine.FORMS)
@pytest.mark.parametrize("case", ["normal", "relu", "outlier", "powers"])
def test_least_squares_is_within_a_bin_of_the_best(case, form):
  """Of a number moved by w / 2 the distance to a grid changes by w / 2."""
  x = batches(case, 4, 500)
  x = np.maximum(x, 0) if form == "unsigned" else x
  found = histogram(x)
  for bits in (2, 4, 8):
    least = range_rules.least_squares(x.reshape(-1), bits, form)
    got = histogram_rules.least_squares(found, bits, form)
    best = rms(x, least, bits, form)
    assert rms(x, got, bits, form) <= best + found.width
    # It is a share of the same ends: where the best is clear, the same one.
    ratio = got.high / least.high if least.high > 0 else got.low / least.low
    assert 0.5 < ratio < 2


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_percentiles_are_within_half_a_bin(case, symmetric):
  x = batches(case)
  found = histogram(x)
  for percent in (51.0, 90.0, 99.9, 100.0):
    exact = range_rules.percentile(x.reshape(-1), percent, symmetric)
    got = histogram_rules.percentile(found, percent, symmetric)
    for a, b in zip(exact, got, strict=True):
      # Ranges are float32.
      assert abs(float(a) - float(b)) <= found.width / 2 + abs(a) * 1e-7


def test_min_max_and_moving_average_are_exact():
  x = batches("outlier")
  found = histogram(x)
  exact = range_rules.min_max(x.reshape(-1))
  assert histogram_rules.range_of(found, "min_max", 8, "affine") == exact
  each = [range_rules.min_max(batch) for batch in x]
  expected = range_rules.moving_average(each, 0.75)
  got = histogram_rules.range_of(
    found, "moving_average", 8, "affine", decay=0.75
  )
  np.testing.assert_allclose(got, expected, rtol=1e-7)


def tensorrt(counts, codes):
  """Bins within the clip that TensorRT's procedure takes, clip by clip.

  Migacz 2017, "Entropy calibration - pseudocode": what lies above is counted in
  the last bin of the reference, not in the codes; codes are spread over their
  bins that are not empty. Of equals the widest.
  """
  best = np.inf, 0
  for size in range(codes, len(counts) + 1):
    p = counts[:size].astype(np.float64)
    p[-1] += counts[size:].sum()
    code = np.arange(size) * codes // size
    of_code = np.bincount(code, counts[:size])
    filled = np.bincount(code, p > 0)
    q = (p > 0) * (of_code / np.maximum(filled, 1))[code]
    p, q = p / p.sum(), np.maximum(q / q.sum(), 0.5 / counts.sum())
    loss = np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0]))
    best = min(best, (loss, -size))
  return -best[1]


@pytest.mark.parametrize("signed", [True, False])
def test_kullback_leibler_is_the_clip_of_tensorrt(signed):
  random = np.random.default_rng(1)
  x = np.append(random.laplace(size=4000), 40.0).astype(np.float32)
  x = x if signed else np.abs(x)
  found = histogram([x])
  low, high = histogram_rules.kullback_leibler(found, 5, signed)
  assert low == (-high if signed else 0) and 2 < high < 39
  counts, _ = np.histogram(
    np.abs(x[x != 0]), np.arange(0, BINS + 1) * found.width
  )
  counts = counts[: np.flatnonzero(counts)[-1] + 1]
  assert high == tensorrt(counts, 16 if signed else 32) * found.width


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_values_that_a_background_repeats_do_not_move_the_clip(bits):
  """A third of all numbers have one of four values: 7 bins are as full."""
  random = np.random.default_rng(2)
  x = np.abs(random.laplace(size=60_000)).astype(np.float32)
  background = np.repeat(np.float32([0.31, 0.77, 1.9, 3.3]), 7_000)
  clip = lambda x: (
    histogram_rules.kullback_leibler(histogram([x]), bits, False).high
  )
  alone, beside = clip(x), clip(np.append(x, background))
  assert 0.9 * alone < beside < 1.1 * alone


def test_only_what_is_far_above_its_neighbours_is_a_spike():
  even = np.full(200, 100)
  np.testing.assert_array_equal(histogram_rules.without_spikes(even), even)
  even[[50, 51, 180]] = 5000, 4000, 3
  found = histogram_rules.without_spikes(even)
  assert found[50] == found[51] == 100 + 4 * (10 + 1) and found[180] == 3
  few = np.zeros(300, np.int64)
  few[::40] = 4  # a tail of single numbers stays
  np.testing.assert_array_equal(histogram_rules.without_spikes(few), few)


def test_kullback_leibler_cuts_outliers_and_keeps_what_has_none():
  x = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
  clip = lambda x, bits, signed: histogram_rules.kullback_leibler(
    histogram([x]), bits, signed
  )
  far = np.append(x, np.float32([60.0, -60.0]))
  low, high = clip(far, 8, True)
  assert low == -high and 2.5 < high < 15
  assert clip(far, 8, False).low == 0
  even = np.linspace(0, 1, 20_000, dtype=np.float32)
  assert clip(even, 8, False).high > 0.97
  # The zeros of a ReLU change nothing.
  zeros = np.append(far, np.zeros(50_000, np.float32))
  assert clip(zeros, 8, True) == (low, high)
  # 2,048 bins up to the largest, as many as codes: no bin to cut off.
  assert clip(np.append(x, np.float32(32)), 11, False).high == 32


@pytest.mark.parametrize("rule", histogram_rules.RULES)
def test_zeros_and_constants(rule):
  zero = histogram(np.zeros((2, 9), np.float32))
  low, high = histogram_rules.range_of(zero, rule, 4, "unsigned")
  assert low == 0 and np.float32(0.9e-8) < high < 1e-7
  three = histogram(np.full((2, 9), 3.0, np.float32))
  low, high = histogram_rules.range_of(three, rule, 4, "unsigned")
  assert low == 0 and 2.7 < high < 3.01
  low, high = histogram_rules.range_of(
    histogram(np.full((2, 9), -3.0, np.float32)), rule, 4, "symmetric"
  )
  assert -3.5 < low < -2.7 and low < high


def test_settings_that_cannot_be_are_refused():
  found = histogram(batches("normal"))
  with pytest.raises(ValueError, match="rule is 'mse'"):
    histogram_rules.range_of(found, "mse", 4, "affine")
  with pytest.raises(ValueError, match="percentile 3"):
    histogram_rules.percentile(found, 3, True)
  with pytest.raises(ValueError, match="12 bits"):
    histogram_rules.kullback_leibler(found, 12, True)
