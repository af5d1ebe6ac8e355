"""Prices of block formats, worked by hand; BitQ's grids, wrong input."""

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
from hwsim.workload import Layer


def conv(channels, kernel=3, op="conv"):
  out = channels if op == "depthwise" else 5
  return Layer("l", op, channels, out, 9, 9, kernel, kernel)


def test_bits_are_those_of_equation_6_where_blocks_divide_the_channels():
  form = bitq_format(16, 7, 48)
  assert form.activation_bits((3, 5, 96)) == 9 + Fraction(7, 48)  # 9.146
  assert form.weight_bits(conv(96)) == 9 + Fraction(7, 432)  # 9.016
  assert round(float(bitq_format(8, 6, 48).activation_bits((1, 1, 48))), 3) == (
    2.125
  )
  assert round(float(bitq_format(8, 6, 48).weight_bits(conv(48))), 3) == 2.014
  assert bitq_format(16, 2, 1).activation_bits((2, 2, 7)) == 16


def test_blocks_that_are_cut_short_have_whole_exponents():
  """Eight channels in blocks of 48 are one block; fifty are two."""
  form = bitq_format(8, 6, 48)
  assert form.activation_bits((4, 4, 8)) == 2 + Fraction(6, 8)
  assert form.activation_bits((4, 4, 50)) == 2 + Fraction(2 * 6, 50)
  assert form.weight_bits(conv(8)) == 2 + Fraction(6, 8 * 9)
  assert form.weight_bits(conv(50, 1)) == 2 + Fraction(2 * 6, 50)
  assert form.weight_bits(Layer("l", "linear", 50, 7)) == 2 + Fraction(12, 50)


def test_blocks_of_a_depthwise_kernel_run_along_its_channels():
  form = bitq_format(8, 6, 48)
  assert form.weight_bits(conv(50, op="depthwise")) == 2 + Fraction(12, 50 * 9)
  single = block_format(4, 8, 16, spans_kernel=False)
  assert single.weight_bits(conv(50, op="depthwise")) == 4 + Fraction(32, 50)


def test_windows_are_cut_at_the_edge_of_an_image():
  """FlexBlock's 3 x 3: an image of 4 x 7 has 2 x 3 of them; HBFP's has one."""
  flex = block_format(5, 8, 24, window=3)
  assert flex.activation_bits((4, 7, 25)) == 5 + Fraction(
    8 * 2 * 3 * 2, 4 * 7 * 25
  )
  hbfp = block_format(9, 10, 0, window=0)
  assert hbfp.activation_bits((4, 7, 25)) == 9 + Fraction(10, 4 * 7 * 25)


def test_grids_are_those_of_the_paper():
  """48 and 40 formats; distinct prices as counted in the reference data."""
  wide = (1, 1, 96)  # which every block size divides
  for word, count, activations, weights in ((16, 48, 38, 48), (8, 40, 33, 40)):
    grid = bitq_grid(word)
    assert len(set(grid)) == count
    assert len({f.activation_bits(wide) for f in grid}) == activations
    assert len({f.weight_bits(conv(96)) for f in grid}) == weights
    assert len({f.weight_bits(conv(96, 1)) for f in grid}) == activations


def test_published_formats_have_their_bits():
  """MSFP-12, MXINT8 and FlexBlock count blocks of single weights."""
  msfp = block_format(4, 8, 16, spans_kernel=False)
  assert msfp.activation_bits((3, 3, 32)) == Fraction(9, 2)
  assert msfp.weight_bits(conv(32)) == Fraction(9, 2)
  mxint = block_format(8, 8, 32, spans_kernel=False)
  assert mxint.weight_bits(conv(64, 5)) == Fraction(33, 4)
  assert FP32.activation_bits((3, 3, 5)) == FP32.weight_bits(conv(5)) == 32


def test_prices_are_exact_in_their_unit():
  grid = bitq_grid(16)
  prices = [f.weight_bits(conv(96)) for f in grid]
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
    (lambda: bitq_format(16, 4, -1), "block_size is -1.*at least 0 .all chan"),
    (lambda: block_format(4, 8, 16, window=-1), "window is -1.*0 .all pixels"),
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
