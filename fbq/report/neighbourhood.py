"""Which part of a picture of points is shown large: that of the front."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fbq.report.assignments import Assignments
from fbq.report.records import Point

_TIMES = 3.5  # of what holds the better half: no more is shown
_GAP = 2.0  # a point that makes it so many times as high is left out


class Window(NamedTuple):
  """Limits of the axes.

  Attributes:
    cycles: (least, most), in millions.
    accuracy: (least, most), in percent.
  """

  cycles: tuple[float, float]
  accuracy: tuple[float, float]

  def holds(self, point: Point) -> bool:
    """Whether a point lies within."""
    return (
      self.cycles[0] <= point.cycles / 1e6 <= self.cycles[1]
      and self.accuracy[0]
      <= 100 * point.validation.accuracy
      <= self.accuracy[1]
    )


def around_front(results: Assignments) -> Window:
  """The part in which the answer lies, and where points are told apart.

  It always holds the recommended point and the reference. Of what is less
  accurate it goes down as long as no gap is wider than what is above it, and
  the better half of the points has a good part of it; of what is slower
  likewise. What it leaves out is to be shown elsewhere.
  """
  best = results.best
  kept = [best.point, best.reference]
  kept += [p for p in results.points if best.point.parent == p.name]
  points = results.points

  # Accuracy, as a distance below the highest
  top = max(
    100 * results.float_validation.accuracy,
    *(100 * (p.validation.accuracy + p.validation.error) for p in points),
  )
  error = 100 * statistics.median(p.validation.error for p in points)
  down = _reach(
    [top - 100 * p.validation.accuracy for p in points],
    max(top - 100 * (p.validation.accuracy - p.validation.error) for p in kept),
    6 * error,
  )
  seen = [p for p in points if top - 100 * p.validation.accuracy <= down]
  bottom = min(
    100 * (p.validation.accuracy - p.validation.error) for p in seen + kept
  )
  margin = 0.06 * (top - bottom) + 0.05

  # Cycles, as a distance from the fastest of those
  cycles = [p.cycles / 1e6 for p in seen + kept]
  first = min(cycles)
  right = first + _reach(
    [c - first for c in cycles],
    max(p.cycles / 1e6 for p in kept) - first,
    0.02 * first,
  )
  last = max(c for c in cycles if c <= right)
  side = 0.05 * (last - first) or 0.1 * last
  return Window(
    (first - side, last + side),
    (bottom - margin, min(top + margin, 101)),
  )


def _reach(distances: Sequence[float], least: float, floor: float) -> float:
  """How far to go, at least `least`.

  Args:
    distances: of all points from the end that matters.
    least: distance of what must be shown.
    floor: distances up to this are no gap.
  """
  near = max(statistics.median(distances), least, floor)
  most, reach = _TIMES * near, max(least, floor)
  for distance in sorted(distances):
    if distance > min(most, _GAP * reach):
      break
    reach = max(reach, distance)
  return max(reach, least)
