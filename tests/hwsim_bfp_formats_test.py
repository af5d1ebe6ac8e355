"""Prices of block formats: eq. 6 of BitQ by hand, its grids, wrong input."""

from fractions import Fraction

import pytest

from hwsim.bfp.formats import (
  FP32,
  bitq_format,
  bitq_grid,
  block_format,
  common_denominator,
  scaled,
)


def test_bits_are_those_of_equation_6():
  form = bitq_format(16, 7, 48)
  assert form.activation_bits == 9 + Fraction(7, 48)  # 9.146: the cheapest
  assert form.weight_bits(9) == 9 + Fraction(7, 432)  # 9.016
  assert round(float(bitq_format(8, 6, 48).activation_bits), 3) == 2.125
  assert round(float(bitq_format(8, 6, 48).weight_bits(9)), 3) == 2.014
  assert bitq_format(16, 2, 1).activation_bits == 16


def test_grids_are_those_of_the_paper():
  """48 and 40 formats; distinct prices as counted in the reference data."""
  for word, count, activations, weights in ((16, 48, 38, 48), (8, 40, 33, 40)):
    grid = bitq_grid(word)
    assert len(set(grid)) == count
    assert len({f.activation_bits for f in grid}) == activations
    assert len({f.weight_bits(9) for f in grid}) == weights
    assert len({f.weight_bits(1) for f in grid}) == activations


def test_published_formats_have_their_bits():
  """MSFP-12, MXINT8 and FlexBlock count blocks of single weights."""
  msfp = block_format(4, 8, 16, spans_kernel=False)
  assert msfp.activation_bits == msfp.weight_bits(9) == Fraction(9, 2)
  mxint = block_format(8, 8, 32, spans_kernel=False)
  assert mxint.weight_bits(25) == Fraction(33, 4)
  assert FP32.activation_bits == FP32.weight_bits(9) == 32


def test_prices_are_exact_in_their_unit():
  grid = bitq_grid(16)
  prices = [f.weight_bits(9) for f in grid]
  unit = common_denominator(prices)
  assert unit == 96 * 9  # lcm of the block sizes, times the kernel
  for price, whole in zip(prices, scaled(prices, unit), strict=True):
    assert Fraction(int(whole), unit) == price
  assert scaled([10.5, 8], 2).tolist() == [21, 16]


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: bitq_format(8, 7, 16), "leaves 1 of 8 bits.*give 1 to 6"),
    (lambda: bitq_format(16, 0, 16), "give 1 to 14"),
    (lambda: bitq_format(16, 4, 0), "block_size is 0.*at least 1"),
    (lambda: block_format(0, 8, 16), "element_bits is 0"),
    (lambda: block_format(4, -1, 16), "exponent_bits is -1"),
    (lambda: bitq_grid(12), r"word_bits is 12, expected one of \(16, 8\)"),
    (lambda: scaled([Fraction(1, 3)], 2), "1/3 bits.*multiple of 1/2"),
    (lambda: scaled([-1], 2), "-1 bits.*positive"),
  ],
)  # fmt: skip
def test_wrong_formats_are_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call()
