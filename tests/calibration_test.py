"""Calibrated ranges against an oracle that spells quantization out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fbq.quantizers import calibration


def oracle_error(values, range_, bits, signed):
  """Mean squared error with the grid written out as a list of numbers."""
  count = 2**bits
  if signed:
    grid = [(k - count // 2) * range_ / (count // 2) for k in range(count)]
  else:
    grid = [k * range_ / (count - 1) for k in range(count)]
  nearest = [min(abs(x - y) for y in grid) for x in values]
  return math.fsum(d * d for d in nearest) / len(nearest)


def oracle_least(values, bits, signed):
  """Least error of 49 ranges from 4 % to 100 % of the largest magnitude.

  Signed, also of the range whose highest code is the largest magnitude.
  """
  largest = max(abs(x) for x in values)
  ranges = [largest * (0.04 + 0.02 * k) for k in range(49)]
  ranges += [largest * widest(bits)] if signed else []
  return min(oracle_error(values, r, bits, signed) for r in ranges)


def widest(bits):
  """The range of signed integers with a highest code of 1."""
  return 2 ** (bits - 1) / (2 ** (bits - 1) - 1)


tensors = hnp.arrays(
  np.float32,
  st.integers(1, 12),
  elements=st.floats(-50, 50, width=32, allow_subnormal=False),
).filter(lambda x: np.abs(x).max() > 0.01)


@settings(max_examples=60, deadline=None)
@given(x=tensors, bits=st.sampled_from([2, 4]), signed=st.booleans())
def test_range_is_as_good_as_any(x, bits, signed):
  x = x if signed else np.abs(x)
  found = float(calibration.best_range(x, bits, signed))
  values = x.astype(float).tolist()
  least = oracle_least(values, bits, signed)
  # Numbers are float32 there: errors of 2^-24 of the largest.
  slack = 1e-5 * float(np.square(x).max())
  assert oracle_error(values, found, bits, signed) <= least + slack
  most = widest(bits) if signed else 1
  assert 0.039 < found / np.abs(x).max() <= most * (1 + 1e-6)


def test_range_of_many_values_at_8_bits():
  x = np.random.default_rng(0).laplace(size=300).astype(np.float32)
  found = float(calibration.best_range(x, 8, True))
  values = x.tolist()
  got = oracle_error(values, found, 8, True)
  assert got <= oracle_least(values, 8, True) * (1 + 1e-3)
  # Fewer bits cut the tail off.
  ranges = [float(calibration.best_range(x, bits, True)) for bits in (2, 4, 8)]
  assert ranges == sorted(ranges) and ranges[0] < 0.7 * ranges[2]


@settings(max_examples=40, deadline=None)
@given(x=tensors, seed=st.integers(0, 999), signed=st.booleans())
def test_order_of_values_does_not_matter(x, seed, signed):
  # Values on a coarse grid: sums are exact in any order.
  x = np.round(x * 4) / 4
  shuffled = np.random.default_rng(seed).permutation(x)
  for bits in calibration.BITS:
    a = calibration.best_range(x, bits, signed)
    b = calibration.best_range(shuffled, bits, signed)
    assert np.isclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("bits", calibration.BITS)
def test_columns_are_independent(bits):
  x = np.random.default_rng(1).normal(size=(40, 5)).astype(np.float32)
  x *= np.float32([0, 1e-4, 1, 7, 1e5])
  together = calibration.best_range(x, bits, True)
  alone = [calibration.best_range(column, bits, True) for column in x.T]
  np.testing.assert_array_equal(together, np.stack(alone))


@pytest.mark.parametrize("bits", calibration.BITS)
@pytest.mark.parametrize("signed", [True, False])
def test_zeros_and_constants(bits, signed):
  zeros = calibration.best_range(np.zeros(9), bits, signed)
  assert zeros >= np.float32(1e-8)
  range_ = float(calibration.best_range(np.full(9, 3.0), bits, signed))
  # The highest code is exact; signed ones end one step below the range.
  assert range_ == pytest.approx(3 * (widest(bits) if signed else 1), rel=1e-6)
  assert oracle_error([3.0], range_, bits, signed) < 1e-12


@pytest.mark.parametrize(
  "x", [[], [1.0, np.nan], [np.inf], [[1.0, 2.0], [-np.inf, 1.0]]]
)
def test_values_that_are_not_finite_are_refused(x):
  with pytest.raises(ValueError, match="must be finite and not empty"):
    calibration.best_range(np.array(x), 4, True)


def test_activations_lose_what_the_relu_cuts():
  x = np.random.default_rng(2).normal(size=(4, 5, 6)).astype(np.float32)
  found = calibration.activation_ranges(
    {"relu.out": x, "linear.out": x}, {"relu.out": False, "linear.out": True}
  )
  for bits in calibration.BITS:
    positive = calibration.best_range(np.maximum(x, 0).ravel(), bits, False)
    assert found["relu.out"][bits] == positive
    whole = calibration.best_range(x.ravel(), bits, True)
    assert found["linear.out"][bits] == whole


def test_a_nan_in_activations_is_not_cut_by_the_relu():
  x = np.float32([1, np.nan, 2])
  with pytest.raises(ValueError, match="1 of them not finite"):
    calibration.activation_ranges({"a.out": x}, {"a.out": False})


def test_large_tensors_are_sampled_across_channels_and_always_the_same():
  """4,096 values of 8 channels, of which one in eight is large."""
  x = np.random.default_rng(4).uniform(size=(512, 8)).astype(np.float32)
  x[:, 1:] *= 0.01

  def ranges():
    found = calibration.activation_ranges({"a": x}, {"a": False}, samples=512)
    return found["a"]

  sampled, again = ranges(), ranges()
  for bits in calibration.BITS:
    whole = calibration.best_range(x.ravel(), bits, False)
    assert sampled[bits] == pytest.approx(whole, rel=0.15)
    assert sampled[bits] == again[bits]


def test_weights_have_a_range_per_output_channel():
  kernel = np.random.default_rng(3).normal(size=(3, 3, 2, 4))
  kernel = (kernel * [0.1, 1, 10, 0]).astype(np.float32)
  ranges = calibration.weight_ranges(kernel, True, 4)
  assert ranges.shape == (4,)
  for channel in range(4):
    values = kernel[..., channel].ravel()
    assert ranges[channel] == calibration.best_range(values, 4, True)
  whole = calibration.weight_ranges(kernel, False, 4)
  assert whole == calibration.best_range(kernel.ravel(), 4, True)


def test_a_delta_kernel_is_exact_at_2_bits():
  """Its range is twice its largest value: the code 1 is half of the range."""
  kernel = np.zeros((3, 3, 1, 1), np.float32)
  kernel[1, 1] = 0.7
  (found,) = calibration.weight_ranges(kernel, True, 2)
  np.testing.assert_allclose(found, 1.4, rtol=1e-6)
