"""Means over seeds with their standard errors."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fbq.report.blocks import Cell


class Mean(NamedTuple):
  """A mean over seeds with its standard error; as text in percent.

  Attributes:
    value: the mean, of shares for instance.
    error: standard error; NaN for a single seed.
    count: seeds that have a number at all.
  """

  value: float
  error: float
  count: int

  def __str__(self):
    error = "" if math.isnan(self.error) else f" ±{self.error * 100:.2f}"
    return f"{self.value * 100:z.2f}{error}"

  def of(self, seeds: int) -> str:
    """The same, and for how many of the seeds, where not for all."""
    return f"{self}" + f" ({self.count}/{seeds})" * (self.count < seeds)

  @property
  def is_told_from_zero(self) -> bool:
    """Whether a test at 5 % tells it from 0: Student's, over seeds.

    Of one seed by two errors, where an error is known.
    """
    if self.count == 1:
      return abs(self.value) > 2 * self.error
    from scipy import special

    errors = special.stdtrit(self.count - 1, 0.975)
    return abs(self.value) > float(errors) * self.error

  @property
  def cell(self) -> Cell:
    """A cell of a table of percents or points."""
    return Cell(100 * self.value, error=100 * self.error)

  @property
  def signed(self) -> Cell:
    """The same with its sign, for a difference."""
    return self.cell._replace(text=f"{100 * self.value:+z.2f}")


def mean(values: Sequence[float]) -> Mean:
  """Mean and standard error of at least one number."""
  error = math.nan
  if len(values) > 1:
    error = statistics.stdev(values) / math.sqrt(len(values))
  return Mean(statistics.fmean(values), error, len(values))
