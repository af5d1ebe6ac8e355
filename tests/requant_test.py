"""Requantization against brute force over every accumulator."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.deploy import requant as rq

GRIDS = {"u8": (0, 255), "u4": (0, 15), "u2": (0, 3), "i8": (-128, 127)}


def channels(seed, count=12, longest=2000):
  """Staircases that rise, fall, are flat, steep, or out of reach."""
  random = np.random.default_rng(seed)
  reach = rq.Range(
    -random.integers(0, longest, count), random.integers(0, longest, count)
  )
  slope = random.normal(size=count) * 10.0 ** random.uniform(-4, 1, count)
  slope[:2] = 0, 0.5
  offset = random.normal(size=count) * 100
  offset[1] = 3
  return rq.Affine(slope, offset), reach


def staircase(affine, acc, low, high, c):
  value = affine.slope[c] * acc + affine.offset[c]
  return np.clip(np.rint(value), low, high).astype(int)


@settings(max_examples=40, deadline=None)
@given(
  st.integers(0, 2**32 - 1),
  st.sampled_from(sorted(GRIDS)),
  st.sampled_from(rq.WIDTHS),
)
def test_agreement_counts_what_brute_force_counts(seed, grid, width):
  low, high = GRIDS[grid]
  affine, reach = channels(seed)
  requant = rq.fit(affine, reach, low, high, width)
  found = rq.agreement(requant, affine, reach)
  for c in range(len(affine.slope)):
    acc = np.arange(reach.low[c], reach.high[c] + 1)
    codes = (acc * requant.mul[c] + requant.add[c]) >> requant.shift
    codes = np.clip(codes, low, high)
    apart = np.abs(codes - staircase(affine, acc, low, high, c))
    assert found.reachable[c] == len(acc)
    assert found.differing[c] == np.sum(apart > 0)
    assert found.largest[c] == apart.max()
    np.testing.assert_array_equal(
      rq.reference_codes(acc, rq.Affine(*np.array(affine)[:, c]), low, high),
      staircase(affine, acc, low, high, c),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_poor_requantization_is_found_out(seed):
  """Agreement must not lean on how the constants came about."""
  affine, reach = channels(seed)
  good = rq.fit(affine, reach, 0, 255)
  poor = good._replace(add=good.add + (3 << good.shift))
  found = rq.agreement(poor, affine, reach)
  for c in range(len(affine.slope)):
    acc = np.arange(reach.low[c], reach.high[c] + 1)
    codes = np.clip((acc * poor.mul[c] + poor.add[c]) >> poor.shift, 0, 255)
    apart = np.abs(codes - staircase(affine, acc, 0, 255, c))
    assert found.differing[c] == np.sum(apart > 0)
    assert found.largest[c] == apart.max()
  assert found.largest.max() >= 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(rq.WIDTHS))
def test_constants_fit_and_a_larger_shift_would_not(seed, width):
  affine, reach = channels(seed, longest=2**20)
  found = rq.fit(affine, reach, 0, 255, width)
  assert np.abs(found.mul).max() < 2**31
  for acc in reach:
    for c, end in enumerate(acc.tolist()):
      product = end * int(found.mul[c])
      assert abs(product) < 2 ** (width - 1)
      assert abs(product + int(found.add[c])) < 2 ** (width - 1)
  varies = [
    np.ptp(staircase(affine, np.ravel(reach)[c::12], 0, 255, c)) > 0
    for c in range(12)
  ]
  scale = 2.0 ** (found.shift + 1)
  mul = np.rint(affine.slope * scale)[varies].astype(int)
  add = np.rint((affine.offset + 0.5) * scale)[varies].astype(int)
  ends = rq.Range(reach.low[varies], reach.high[varies])
  assert found.shift in (31, 40) or not rq.fits(mul, add, ends, width).all()


def test_product_and_addend_that_fit_alone_must_fit_together():
  reach = rq.Range(np.array([-1000]), np.array([1000]))
  affine = rq.Affine(np.array([-1.8765]), np.array([-1800.1]))
  found = rq.fit(affine, reach, 0, 255)
  lowest = 1000 * int(found.mul[0]) + int(found.add[0])
  assert found.mul[0] < 0 and -(2**31) <= lowest < -(2**29)
  assert rq.agreement(found, affine, reach).is_equal


def test_the_search_around_the_nearest_constants_pays():
  random = np.random.default_rng(0)
  reach = rq.Range(np.full(64, -(2**20)), np.full(64, 2**20))
  slope = np.exp(random.normal(size=64)) * 300 / 2**20
  affine = rq.Affine(slope, random.normal(size=64) * 50)
  found = rq.fit(affine, reach, 0, 255)
  scale = 2.0**found.shift
  nearest = found._replace(
    mul=np.rint(slope * scale).astype(int),
    add=np.rint((affine.offset + 0.5) * scale).astype(int),
  )
  searched, plain = (
    rq.agreement(each, affine, reach).differing.sum()
    for each in (found, nearest)
  )
  assert searched < 0.7 * plain
  wide = rq.agreement(rq.fit(affine, reach, 0, 255, 64), affine, reach)
  assert wide.differing.sum() < 1e-4 * searched


def test_halves_go_up_where_asked_and_to_even_elsewhere():
  reach = rq.Range(np.array([0]), np.array([1020]))
  affine = rq.Affine(np.array([0.25]), np.zeros(1))  # means of four
  acc = np.arange(1021)[:, None]
  up = rq.fit(affine, reach, 0, 255, half_up=True)
  assert rq.agreement(up, affine, reach, half_up=True).is_equal
  np.testing.assert_array_equal(up(acc), (acc + 2) // 4)
  ties = (acc % 4 == 2) & (acc // 4 % 2 == 0)  # 0.5, 2.5, ...
  found = rq.agreement(up, affine, reach)
  assert found.differing == ties.sum() and found.largest == 1


def test_a_channel_of_one_code_does_not_take_the_others_bits():
  """A dead channel's huge offset must not shrink the shift of its layer."""
  reach = rq.Range(np.array([-100, -100]), np.array([100, 100]))
  affine = rq.Affine(np.array([0.5, 3.0]), np.array([3.3, 1e9]))
  alone = rq.fit(
    rq.Affine(affine.slope[:1], affine.offset[:1]),
    rq.Range(reach.low[:1], reach.high[:1]),
    0,
    255,
  )
  both = rq.fit(affine, reach, 0, 255)
  assert rq.agreement(both, affine, reach).is_equal
  assert both.shift >= min(alone.shift, 22)


def test_what_cannot_be_is_refused():
  affine = rq.Affine(np.array([1e9]), np.array([0.0]))
  reach = rq.Range(np.array([-5]), np.array([5]))
  with pytest.raises(ValueError, match="no shift .* channel 0 has slope 1e"):
    rq.fit(affine, reach, 0, 255)
  with pytest.raises(ValueError, match="width is 16"):
    rq.fit(affine, reach, 0, 255, 16)
  wrong = rq.Requant(np.array([-1]), np.array([0]), 1, 0, 255)
  with pytest.raises(ValueError, match="another sign"):
    rq.agreement(wrong, affine, reach)
