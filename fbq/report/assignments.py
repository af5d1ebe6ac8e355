"""The record of an experiment that ends in a front of accuracy over cycles."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.report import records, tables
from fbq.report.records import Change, LayerRow, Point, Recommendation


@dataclasses.dataclass(frozen=True)
class Assignments:
  """Every assignment that an experiment found, and what it came to.

  Attributes:
    network, target: names for the reader.
    test_count: test images behind every accuracy.
    float_accuracy: test accuracy of the float network, 0 to 1.
    points: every assignment with its results.
    layers: what each layer costs, by name of the point.
    changes: what the Free Bits pass raised, by name of the point.
    reference: name of the point that others are compared with.
    tolerance: accuracy that the recommended point may lose.
    clock_hertz: clock of the target, or None.
    assumptions: sentences about what the numbers rest on.
  """

  network: str
  target: str
  test_count: int
  float_accuracy: float
  points: tuple[Point, ...]
  layers: dict[str, tuple[LayerRow, ...]]
  changes: dict[str, tuple[Change, ...]]
  reference: str
  tolerance: float
  clock_hertz: float | None
  assumptions: tuple[str, ...]

  def __post_init__(self):
    by_name = records.check(self.points)
    for field in ("layers", "changes"):
      unknown = sorted(set(getattr(self, field)) - set(by_name))
      if unknown:
        raise ValueError(
          f"{field} has entries for {unknown}, which are not points; expected "
          f"names among {list(by_name)}"
        )
    records.whole(self.test_count, "test_count", 1)
    records.fraction(self.float_accuracy, "float_accuracy")
    if self.clock_hertz is not None and not self.clock_hertz > 0:
      raise ValueError(f"clock_hertz is {self.clock_hertz}, expected > 0")

  @property
  def best(self) -> Recommendation:
    """The point to take, next to the reference."""
    return records.recommend(self.points, self.reference, self.tolerance)

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    return tables.csv_rows(self.points)

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
    }
