"""Cycles of networks with their intervals over all that is assumed."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from fbq.report.blocks import number

_SHARES = 0.5, 0.05, 0.95  # of the draws: median, low, high


class Interval(NamedTuple):
  """A network in all draws.

  Attributes:
    central: cycles on the target itself.
    median: cycles that half of the draws do not exceed.
    low, high: between which 90 % of the draws are.
    change: change of `central` against 8/8, as a fraction.
    change_median: median of the changes within each draw.
    change_low, change_high: between which 90 % of these are.
  """

  name: str
  central: int
  median: int
  low: int
  high: int
  change: float
  change_median: float
  change_low: float
  change_high: float

  @property
  def holds_central(self) -> bool:
    """Whether both numbers of the target itself lie within their intervals."""
    return (
      self.low <= self.central <= self.high
      and self.change_low <= self.change <= self.change_high
    )


def interval(
  name: str,
  central: int,
  central_eight: int,
  cycles: np.ndarray,
  eight: np.ndarray,
) -> Interval:
  """The interval of a network.

  Args:
    name: name of the network.
    central, central_eight: its cycles and those of 8/8 on the target itself.
    cycles, eight: int64[H], the same in `H` draws.
  """
  median, low, high = np.quantile(cycles, _SHARES, method="inverted_cdf")
  change_median, change_low, change_high = np.quantile(
    cycles / eight - 1, _SHARES
  )
  return Interval(
    name,
    central,
    *(int(median), int(low), int(high)),
    central / central_eight - 1,
    *(float(change_median), float(change_low), float(change_high)),
  )


def columns(of: Callable[[Any], Interval] = lambda row: row) -> list[tuple]:
  """Columns of a table whose rows have intervals."""
  percent = "{:+z.1f}"
  return [
    ("network", lambda row: of(row).name),
    (number("cycles on\nthe target"), lambda row: of(row).central),
    (number("middle"), lambda row: of(row).median),
    (number("low"), lambda row: of(row).low),
    (number("high"), lambda row: of(row).high),
    (number("vs 8/8\n%", percent), lambda row: 100 * of(row).change),
    (number("middle\n%", percent), lambda row: 100 * of(row).change_median),
    (number("low\n%", percent), lambda row: 100 * of(row).change_low),
    (number("high\n%", percent), lambda row: 100 * of(row).change_high),
  ]


class Ranged(Protocol):
  """An assumption with the end of its range that the target stands at."""

  @property
  def name(self) -> str: ...
  @property
  def end(self) -> str: ...


def why_outside(
  intervals: Sequence[Interval], assumptions: Sequence[Ranged]
) -> str:
  """Why the target's own numbers need not lie in the middle, in words.

  Args:
    intervals: of all networks.
    assumptions: those that matter.
  """
  ends = [f"{each.name} (its {each.end})" for each in assumptions if each.end]
  if not ends:
    return "The target stands at no end of a range that matters."
  outside = [each.name for each in intervals if not each.holds_central]
  return (
    "A range goes from what one source says to what another does, and the "
    f"target takes one of the two for {', '.join(ends)}: draws go one way from "
    "it, and the middle of the draws is not the target. "
    + (
      f"So its own numbers lie outside of an interval for {', '.join(outside)}."
      if outside
      else "Its own numbers are all within their intervals."
    )
  )
