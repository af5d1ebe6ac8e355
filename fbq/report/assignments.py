"""The record of an experiment that ends in a front of its metric over cycles.

Fields and sentences about "accuracy" are about the metric that the record
names: box AP, mask AP or mIoU of networks that are no classifiers.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from fbq.report import records
from fbq.report.records import (
  Change,
  Confidence,
  Cost,
  Fraction,
  LayerRow,
  Point,
  Recommendation,
  Score,
  SeedPoint,
)

_COLUMNS = ("name", "kind", "parent", "aliases", "cycles")
_SCORE = ("accuracy", "error", "loss", "loss_error")
_COSTS = ("bops", "weight_bytes", "peak_activation_bytes")


@dataclass(frozen=True)
class Assignments:
  """Every assignment that an experiment found, and what it came to.

  Attributes:
    network, target: names for the reader.
    seeds: seeds of which every point is the mean.
    validation_count, validation_sources: images that everything was chosen by,
      and the sources that they were made from.
    test_count, test_sources: the same of the images that are reported.
    float_validation, float_test: scores of the float network.
    points: every assignment with its results.
    layers: what each layer costs, by name of the point, of the first seed.
    changes: what the Free Bits pass raised, by name of the point, likewise.
    reference: name of the point that others are compared with.
    tolerance: accuracy that the recommended point may lose.
    confidence: with which it loses no more than that.
    clock_hertz: clock of the target, or None.
    assumptions: sentences about what the numbers rest on.
    warnings: sentences about what went wrong.
    cost: what of the recommended point is to be least.
    metric: what networks are judged by, as tables show it.

  Raises:
    ValueError: a number is impossible, or points do not fit together.
  """

  network: str
  target: str
  seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
  validation_count: PositiveInt
  validation_sources: PositiveInt
  test_count: PositiveInt
  test_sources: PositiveInt
  float_validation: Score
  float_test: Score
  points: Annotated[tuple[Point, ...], Field(min_length=1)]
  layers: dict[str, tuple[LayerRow, ...]]
  changes: dict[str, tuple[Change, ...]]
  reference: str
  tolerance: Fraction
  confidence: Confidence
  clock_hertz: PositiveFloat | None
  assumptions: tuple[str, ...]
  warnings: tuple[str, ...] = ()
  cost: Cost = "cycles"
  metric: str = "accuracy"

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
    return records.recommend(
      self.points,
      self.reference,
      self.tolerance,
      self.confidence,
      self.cost,
    )

  @property
  def _key(self) -> str:
    """The metric as the name of a column."""
    return self.metric.replace(" ", "_")

  @property
  def by_name(self) -> dict[str, Point]:
    """Points by name and alias."""
    return {n: p for p in self.points for n in (p.name, *p.aliases)}

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first; the fastest point first.

    "accuracy", or "mIoU" and so on, and what follows it are of the test,
    "validation_accuracy" and so on what was chosen by. Numbers are written in
    full, aliases joined by spaces; a detail that a point does not have is an
    empty cell.
    """
    details = dict.fromkeys(key for p in self.points for key in p.detail)
    sites = list(self.points[0].precision)
    seeds = self.seeds if len(self.seeds) > 1 else ()
    scores = self._key, *_SCORE[1:]
    of_seed = "cycles", self._key, f"validation_{self._key}"
    yield [
      *_COLUMNS,
      *scores,
      *(f"validation_{name}" for name in scores),
      *_COSTS,
      "on_front",
      *(f"{name}:seed{s}" for s in seeds for name in of_seed),
      *(f"detail:{key}" for key in details),
      *(f"bits:{site}" for site in sites),
    ]
    front = records.front(self.points)
    for point in records.by_cycles(self.points):
      yield [
        *(point.name, point.kind, point.parent),
        *(" ".join(point.aliases), point.cycles),
        *(repr(getattr(point.test, name)) for name in _SCORE),
        *(repr(getattr(point.validation, name)) for name in _SCORE),
        *(getattr(point, name) for name in _COSTS),
        int(point.name in front),
        *(n for one in point.by_seed if seeds for n in _numbers(one)),
        *(point.detail.get(key) for key in details),
        *(point.precision[site] for site in sites),
      ]

  def summary(self) -> dict[str, Any]:
    """What result.json says; metrics are of the test, but as named."""
    best, key = self.best, self._key
    return {
      "recommended": best.point.name,
      f"recommended_{key}": best.point.test.accuracy,
      "cycles_saved": best.cycles_saved,
      f"float_{key}": self.float_test.accuracy,
      "points": {
        p.name: {
          key: p.test.accuracy,
          f"validation_{key}": p.validation.accuracy,
          "cycles": p.cycles,
        }
        for p in self.points
      },
      "warnings": list(self.warnings),
    }


def _numbers(one: SeedPoint) -> tuple[int, str, str]:
  """What a seed made of a point: cycles, and the metric in both splits."""
  test, validation = one.test.accuracy, one.validation.accuracy
  return one.cycles, repr(test), repr(validation)
