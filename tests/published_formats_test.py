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
    ("FlexBlock FB24", "17+8/36", "17+8/18", "17+8/4"),
    ("FlexBlock FB12", "5+8/36", "5+8/18", "5+8/4"),
    ("FAST high", "5+3/4", "5+3/2", "5+3/4"),
    ("MSFP-12", "4+8/4", "4+8/2", "4+8/4"),
    ("MXINT8", "8+8/4", "8+8/2", "8+8/4"),
    ("HBFP8", "9+10/36", "9+10/18", "9+10/4"),
    ("BSFP", "8+8/4", "4+16/2", "4+16/4"),
    ("MXFP8 E5M2", "8+8/4", "8+8/2", "8+8/4"),
    ("MXFP6 E2M3", "6+8/4", "6+8/2", "6+8/4"),
    ("NVFP4", "4+8/4", "4+8/2", "4+8/4"),
  ],
)
def test_prices_are_bits_and_the_exponents_of_the_blocks_there_are(
  name, activation, weight_3x3, weight_1x1
):
  """An activation of 3 x 3 x 4; kernels of 2 and of 4 input channels."""

  def bits(text):
    return sum(Fraction(part) for part in str(text).split("+"))

  formats, layer = candidates()[name].formats, NET.workload.layers
  assert list(formats) == list(SITES)
  assert NET.shapes["a"] == (3, 3, 4)
  assert formats["a.out"].activation_bits((3, 3, 4)) == bits(activation)
  assert formats["a.weight"].weight_bits(layer[0]) == bits(weight_3x3)
  assert formats["c.weight"].weight_bits(layer[2]) == bits(weight_1x1)


def test_what_is_trained_fits_its_scheme():
  schemes = {
    **published_formats.schemes((1, 16)),
    **published_formats.MICROSCALING_SCHEMES,
  }
  found = candidates()
  assert set(found) == {"FP32", *published_formats.NAMES}
  for candidate in found.values():
    assert candidate.rows.shape == (len(SITES), 3)
    assert (candidate.rows[:, 1] <= 8).all()  # all that a model takes
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
