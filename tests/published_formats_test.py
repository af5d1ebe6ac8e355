"""Published formats: what each is trained in, and what it is priced at."""

from fractions import Fraction

import numpy as np
import pytest
from model_cases import NET

from fbq.schemes import published_formats
from hwsim.bfp.formats import FP32

SITES = NET.workload.sites


def candidates(zeroed=lambda bits, size: 0.0):
  def shares(rows):
    found = np.array([zeroed(bits, size) for bits, _, size in rows])
    return dict.fromkeys(SITES, found)

  found = published_formats.published(NET, published_formats.NAMES, shares)
  return {candidate.name: candidate for candidate in found}


@pytest.mark.parametrize(
  "name, activation, weight_3x3, weight_1x1",
  [
    ("FP32", 32, 32, 32),
    ("FlexBlock FB24", "17+8/54", "17+8/54", "17+8/6"),
    ("FlexBlock FB12", "5+8/216", "5+8/216", "5+8/24"),
    ("FAST high", "5+3/16", "5+3/16", "5+3/16"),
    ("MSFP-12", "4+8/16", "4+8/16", "4+8/16"),
    ("MXINT8", "8+8/32", "8+8/32", "8+8/32"),
    ("HBFP8", "9+10/36", "9+10/576", "9+10/576"),
    ("BSFP", "8+8/16", "4+16/16", "4+16/16"),
  ],
)
def test_prices_are_bits_and_a_share_of_the_exponent(
  name, activation, weight_3x3, weight_1x1
):
  def bits(text):
    return sum(Fraction(part) for part in str(text).split("+"))

  formats = candidates()[name].formats
  assert list(formats) == list(SITES)
  assert formats["a.out"].activation_bits == bits(activation)  # 3 x 3 x 4
  assert formats["a.weight"].weight_bits(9) == bits(weight_3x3)
  assert formats["c.weight"].weight_bits(1) == bits(weight_1x1)


def test_what_is_trained_fits_its_scheme():
  schemes = published_formats.schemes((1, 16))
  found = candidates()
  assert set(found) == {"FP32", *published_formats.NAMES}
  for candidate in found.values():
    assert candidate.rows.shape == (len(SITES), 3)
    if candidate.scheme != published_formats.NOT_TRAINED:
      sizes = schemes[candidate.scheme].sizes
      assert set(candidate.rows[:, 2]) <= set(sizes), candidate.name
      for row, site in zip(candidate.rows, SITES, strict=True):
        format_ = candidate.formats[site]
        assert row[0] == (25 if format_ == FP32 else format_.element_bits)
  assert found["BSFP"].scheme == published_formats.NOT_TRAINED
  assert schemes[published_formats.GRID].sizes == (1, 16)


def test_dbps_takes_the_cheapest_that_keeps_enough():
  rows = candidates(lambda bits, size: 0.0)["DBPS"].rows
  assert set(map(tuple, rows)) == {(5, 8, 24)}
  rows = candidates(lambda bits, size: 0.5 * (bits < 9))["DBPS"].rows
  assert set(map(tuple, rows)) == {(9, 8, 24)}
  smaller = lambda bits, size: 0.2 if size > 6 else 0.1
  assert set(map(tuple, candidates(smaller)["DBPS"].rows)) == {(5, 8, 6)}
  none = candidates(lambda bits, size: 1.0)["DBPS"].rows
  assert set(map(tuple, none)) == {(17, 8, 6)}
