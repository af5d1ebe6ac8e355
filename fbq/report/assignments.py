"""The record of an experiment that ends in a front of accuracy over cycles."""

import collections
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from fbq.report import records
from fbq.report.records import (
  Change,
  Fraction,
  LayerRow,
  Point,
  Recommendation,
)

_COLUMNS = (
  *("name", "kind", "parent", "aliases", "cycles", "accuracy", "bops"),
  *("weight_bytes", "peak_activation_bytes", "on_front"),
)


@dataclass(frozen=True)
class Assignments:
  """Every assignment that an experiment found, and what it came to.

  Attributes:
    network, target: names for the reader.
    test_count: test images behind every accuracy.
    float_accuracy: test accuracy of the float network.
    points: every assignment with its results.
    layers: what each layer costs, by name of the point.
    changes: what the Free Bits pass raised, by name of the point.
    reference: name of the point that others are compared with.
    tolerance: accuracy that the recommended point may lose.
    clock_hertz: clock of the target, or None.
    assumptions: sentences about what the numbers rest on.
    warnings: sentences about what went wrong.

  Raises:
    ValueError: a number is impossible, or points do not fit together.
  """

  network: str
  target: str
  test_count: PositiveInt
  float_accuracy: Fraction
  points: Annotated[tuple[Point, ...], Field(min_length=1)]
  layers: dict[str, tuple[LayerRow, ...]]
  changes: dict[str, tuple[Change, ...]]
  reference: str
  tolerance: Fraction
  clock_hertz: PositiveFloat | None
  assumptions: tuple[str, ...]
  warnings: tuple[str, ...] = ()

  def __post_init__(self):
    names = [n for point in self.points for n in (point.name, *point.aliases)]
    twice = [n for n, count in collections.Counter(names).items() if count > 1]
    if twice:
      raise ValueError(f"names {twice} occur more than once among the points")
    parents = {p.parent for p in self.points if p.parent is not None}
    for field in ("layers", "changes", "parents"):
      unknown = sorted({*getattr(self, field, parents)} - {*names})
      if unknown:
        raise ValueError(
          f"{field} has {unknown}, which are no points; expected some of "
          f"{names}"
        )
    first = self.points[0]
    for point in self.points:
      differing = sorted({*point.precision} ^ {*first.precision})
      if differing:
        raise ValueError(
          f"points {first.name!r} and {point.name!r} are not assignments of "
          f"the same network: only one has sites {differing[:8]}"
        )

  @property
  def best(self) -> Recommendation:
    """The point to take, next to the reference."""
    return records.recommend(self.points, self.reference, self.tolerance)

  @property
  def by_name(self) -> dict[str, Point]:
    """Points by name and alias."""
    return {n: p for p in self.points for n in (p.name, *p.aliases)}

  def error(self, point: Point) -> float:
    """Standard error of the accuracy of a point, in percent."""
    return 100 * records.standard_error(point.accuracy, self.test_count)

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first; the fastest point first.

    Accuracies are written in full, aliases joined by spaces, and a detail that
    a point does not have is an empty cell.
    """
    details = dict.fromkeys(key for p in self.points for key in p.detail)
    sites = list(self.points[0].precision)
    yield [
      *_COLUMNS,
      *(f"detail:{key}" for key in details),
      *(f"bits:{site}" for site in sites),
    ]
    front = records.front(self.points)
    for point in records.by_cycles(self.points):
      row = {column: getattr(point, column, None) for column in _COLUMNS}
      row |= {
        "accuracy": repr(point.accuracy),
        "aliases": " ".join(point.aliases),
        "on_front": int(point.name in front),
      }
      yield [
        *row.values(),
        *(point.detail.get(key) for key in details),
        *(point.precision[site] for site in sites),
      ]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    best = self.best
    return {
      "recommended": best.point.name,
      "recommended_accuracy": best.point.accuracy,
      "cycles_saved": best.cycles_saved,
      "float_accuracy": self.float_accuracy,
      "points": {
        p.name: {"accuracy": p.accuracy, "cycles": p.cycles}
        for p in self.points
      },
      "warnings": list(self.warnings),
    }
