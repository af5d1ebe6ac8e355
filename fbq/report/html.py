"""The page: one self-contained file that answers the question of a run.

The layout is in `report.html`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

from fbq.report import page, records, tables
from fbq.report.records import Change, LayerRow, Point


@dataclasses.dataclass(frozen=True)
class Report:
  """All that the page shows.

  Attributes:
    network, target: names for the reader.
    points: every assignment with its results.
    test_count: test images behind every accuracy.
    picture: PNG of `plots.front_png`.
    layers: rows of the layers, by name of the point; points may be missing.
    changes: what the Free Bits pass raised, by name of the point.
    float_accuracy: of the network before quantization, 0 to 1.
    reference, tolerance: see `records.recommend`.
    clock_hertz: of the target, to state times next to cycles, or None.
    facts: about the run: versions, date, machine, seeds.
    stages: wall time in seconds of each stage.
    config: resolved; has to be writable as JSON.
    assumptions: sentences about what the numbers rest on.
  """

  network: str
  target: str
  points: Sequence[Point]
  test_count: int
  picture: bytes
  layers: Mapping[str, Sequence[LayerRow]] = dataclasses.field(
    default_factory=dict
  )
  changes: Mapping[str, Sequence[Change]] = dataclasses.field(
    default_factory=dict
  )
  float_accuracy: float | None = None
  reference: str = "8/8"
  tolerance: float = 0.005
  clock_hertz: float | None = None
  facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
  stages: Mapping[str, float] = dataclasses.field(default_factory=dict)
  config: Mapping[str, object] = dataclasses.field(default_factory=dict)
  assumptions: Sequence[str] = ()

  def __post_init__(self):
    by_name = records.check(self.points)
    for field in ("layers", "changes"):
      unknown = sorted(set(getattr(self, field)) - set(by_name))
      if unknown:
        raise ValueError(
          f"report: {field} has entries for {unknown}, which are not points; "
          f"expected names among {list(by_name)}"
        )
    if not self.picture.startswith(b"\x89PNG"):
      raise ValueError(
        "report: picture is not a PNG; pass what plots.front_png returns"
      )
    records.whole(self.test_count, "test_count", 1)
    if self.float_accuracy is not None:
      records.fraction(self.float_accuracy, "float_accuracy")
    if self.clock_hertz is not None and not self.clock_hertz > 0:
      raise ValueError(
        f"report: clock_hertz is {self.clock_hertz}, expected > 0"
      )


def write(path: str | os.PathLike, report: Report) -> None:
  """Writes the page to `path`, whole or not at all."""
  tables.write_atomically(path, render(report).encode())


def render(report: Report) -> str:
  """The page as HTML; every text that comes from a record is escaped.

  Raises:
    ValueError: there is no reference point to compare with.
  """
  best = records.recommend(report.points, report.reference, report.tolerance)
  fronts = records.on_front(report.points)
  fronts = dict(zip(map(id, report.points), fronts, strict=True))
  reference_rows = report.layers.get(best.reference.name, ())

  def error(point):
    return records.standard_error(point.accuracy, report.test_count)

  return page.render(
    "report.html",
    report=report,
    best=best,
    answer=tables.sentence(best, report.network, report.target),
    bits=tables.bits_in_words(best.point.precision),
    points=tables.by_cycles(report.points),
    front=lambda point: fronts[id(point)],
    error=error,
    reference_cycles={row.layer: row.cycles for row in reference_rows},
    picture=report.picture,
  )
