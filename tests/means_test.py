"""When a mean over seeds is told from zero."""

import math

import pytest

from fbq.report.means import Mean, mean


@pytest.mark.parametrize(
  ("seeds", "errors"),  # a table of Student's t at 97.5 %
  [(2, 12.706), (3, 4.303), (5, 2.776), (30, 2.045)],
)
def test_few_seeds_need_many_errors(seeds, errors):
  assert Mean(1.001 * errors, 1.0, seeds).is_told_from_zero
  assert Mean(-1.001 * errors, 1.0, seeds).is_told_from_zero
  assert not Mean(0.999 * errors, 1.0, seeds).is_told_from_zero


def test_one_seed_is_told_by_the_error_of_its_images():
  assert Mean(2.1, 1.0, 1).is_told_from_zero
  assert not Mean(1.9, 1.0, 1).is_told_from_zero
  assert math.isnan(mean([3.0]).error)
  assert not mean([3.0]).is_told_from_zero
