"""TFLite's requantization against the exact codes, sum by sum."""

import numpy as np
import pytest

from fbq.deploy import requant as rq
from fbq.deploy import tflite_requant


def one(slope, offset, low_sum, high_sum):
  arrays = (np.array([float(slope)]), np.array([float(offset)]))
  ends = (np.array([low_sum]), np.array([high_sum]))
  return rq.Affine(*arrays), rq.Range(*ends)


def differing(found, affine, reach, low, high, half_up=False):
  """Sum of the differences of codes, one accumulator after the other."""
  sums = np.arange(reach.low[0], reach.high[0] + 1)
  sign = -1 if affine.slope[0] < 0 else 1
  scaled = sign * sums * found.factor[0] + found.bias[0]
  codes = np.clip(np.floor(scaled * found.multiplier[0] + 0.5), low, high)
  exact = rq.reference_codes(sums[:, None], affine, low, high, half_up)[:, 0]
  return int(np.abs(codes - exact).sum())


def test_what_differs_is_what_is_counted():
  random = np.random.default_rng(0)
  counts = []
  for _ in range(300):
    bits = int(random.choice([2, 4, 8]))
    signed = random.random() < 0.3
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    span = int(random.choice([10, 100, 3000]))
    slope = 2**bits / span * random.uniform(0.3, 3) * random.choice([-1, 1])
    offset = random.normal(0, 2**bits / 3)
    affine, reach = one(slope, offset, -span, span)
    factor = int(random.choice([1, 3, 15, 63]))
    found = tflite_requant.fit(affine, reach, low, high, np.array([factor]))
    assert found.factor[0] in (0, factor) and found.multiplier[0] > 0
    expected = differing(found, affine, reach, low, high)
    assert found.differing[0] == expected
    counts.append((factor, expected / (high - low)))

  # Finer biases miss less: a bias is off by half a sum at most, or its share
  missed = {f: np.mean([x for g, x in counts if g == f]) for f, _ in counts}
  assert 0.05 < missed[1] < 0.5 and missed[63] < 0.03
  assert missed[63] < missed[15] < missed[3] < missed[1]


@pytest.mark.parametrize("count", [2, 4, 9, 49, 64, 144])
@pytest.mark.parametrize("low, high", [(0, 255), (0, 15), (-128, 127)])
def test_means_turn_every_tie_upwards_with_room_on_both_sides(count, low, high):
  affine, reach = one(1 / count, 0.0, low * count, high * count)
  found = tflite_requant.fit(
    affine, reach, low, high, np.array([127]), half_up=True
  )
  assert found.differing[0] == 0
  for bias in (-1, 0, 1):  # kernels that round twice are off by so much
    moved = found._replace(bias=found.bias + bias)
    assert differing(moved, affine, reach, low, high, True) == 0


def test_a_channel_of_one_code_is_what_it_is_however_steep():
  for slope, offset, code in ((1e9, -1e15, 0), (0.0, 3.4, 3), (-1e9, 1e15, 15)):
    affine, reach = one(slope, offset, -100, 100)
    found = tflite_requant.fit(affine, reach, 0, 15, np.array([1]))
    assert found.factor[0] == 0 and found.differing[0] == 0
    made = np.rint(found.bias[0] * found.multiplier[0])
    assert np.clip(made, 0, 15) == code


def test_a_steep_channel_needs_no_codes_between_its_ends():
  affine, reach = one(-3.5e6, 3.5e6 * 40.2, -100, 100)
  found = tflite_requant.fit(affine, reach, 0, 255, np.array([1]))
  assert found.factor[0] == 1 and found.multiplier[0] < 1e4
  assert found.differing[0] == differing(found, affine, reach, 0, 255) == 0


def test_constants_beyond_the_format_are_refused():
  affine, reach = one(1e-8, 100.0, -(2**29), 2**29)
  with pytest.raises(ValueError, match="lower the range of the layer's output"):
    tflite_requant.fit(affine, reach, 0, 255, np.array([1]))
