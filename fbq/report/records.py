"""What a page of points is made of, and which point it recommends.

Numbers are checked where a record is made: ValueError names the field, what was
given and what was expected.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from fbq.search import pareto

Fraction = Annotated[float, Field(ge=0, le=1)]
Bits = tuple[int, int | None, int | None]


@dataclass(frozen=True)
class Point:
  """One assignment: what it asks of the hardware and how well it classifies.

  Attributes:
    name: unique among its points.
    kind: 'search', 'free_bits' or 'baseline'.
    parent: the point that a free_bits point was made from, else None.
    precision: bits of every site (tensor that has a precision).
    cycles: per image.
    accuracy: on the test set.
    bops: bit operations per image.
    weight_bytes: bytes of all weights.
    peak_activation_bytes: most that live at one time.
    detail: what else to say about it, e.g. {"gates": "locked"}.
    aliases: names of other searches that found the same assignment.
  """

  name: Annotated[str, Field(pattern=r"\S")]
  kind: Literal["search", "free_bits", "baseline"]
  parent: str | None
  precision: Annotated[dict[str, PositiveInt], Field(min_length=1)]
  cycles: PositiveInt
  accuracy: Fraction
  bops: NonNegativeInt
  weight_bytes: NonNegativeInt
  peak_activation_bytes: NonNegativeInt
  detail: dict[str, Annotated[str, BeforeValidator(str)]] = Field(
    default_factory=dict
  )
  aliases: tuple[Annotated[str, Field(pattern=r"^\S+$")], ...] = ()

  def __post_init__(self):
    if (self.parent is not None) != (self.kind == "free_bits"):
      raise ValueError(
        f"point {self.name!r}: parent is {self.parent!r}, expected the name of "
        "a point for kind 'free_bits' and None for the others"
      )

  @property
  def breaks(self) -> str:
    """Demands that it does not meet, a detail; then it is not recommended."""
    return self.detail.get("breaks", "")


@dataclass(frozen=True)
class LayerRow:
  """One layer under one assignment.

  Attributes:
    in_bits: bits of its input; of the wider one where there are two.
    weight_bits: None where it has no weights.
    out_bits: None where its output is not quantized (accumulators).
    cycles: per image.
    share: part of the cycles of the network.
  """

  layer: str
  op: str
  in_bits: int
  weight_bits: int | None
  out_bits: int | None
  macs: NonNegativeInt
  cycles: NonNegativeInt
  share: Fraction


@dataclass(frozen=True)
class Change:
  """A rise in precision by the Free Bits pass, and what it won.

  Attributes:
    sites: tensors whose bits were raised.
    layer: what the rise makes faster.
    from_bits, to_bits: (input, weight, output) bits of the layer; None where
      it has no such tensor.
    cycles_before, cycles_after: cycles of the layer, per image.
    reason: one sentence for the reader.
  """

  sites: tuple[str, ...]
  layer: str
  from_bits: Bits
  to_bits: Bits
  cycles_before: NonNegativeInt
  cycles_after: NonNegativeInt
  reason: str


@dataclass(frozen=True)
class Recommendation:
  """The fastest point that is accurate enough, next to the reference.

  Attributes:
    point: recommended; the reference itself if nothing else is faster.
    reference: the uniform 8-bit baseline.
    tolerance: accuracy that may be lost against the reference.
    others: number of points that were considered beside the reference.
  """

  point: Point
  reference: Point
  tolerance: Fraction
  others: int

  @property
  def is_reference(self) -> bool:
    return self.point == self.reference

  @property
  def is_accurate(self) -> bool:
    """Whether it loses no more than the tolerance."""
    # 0.52 - 0.05 must not refuse 0.47 for the last bit of a float.
    least = self.reference.accuracy - self.tolerance - 1e-9
    return self.point.accuracy >= least

  @property
  def cycles_saved(self) -> float:
    """Fraction of the cycles of the reference."""
    return 1 - self.point.cycles / self.reference.cycles

  @property
  def speedup(self) -> float:
    return self.reference.cycles / self.point.cycles


def recommend(
  points: Sequence[Point], reference: str = "8/8", tolerance: float = 0.005
) -> Recommendation:
  """The fastest point at most `tolerance` less accurate than the reference.

  Of equally fast points the more accurate wins, then the one with fewer bytes
  of weights, then the reference, then the first in alphabetical order. The
  reference is a candidate too and wins if no faster point qualifies. What
  breaks demands is no candidate; if the reference does and no candidate is
  accurate enough, the most accurate one is recommended.

  Raises:
    ValueError: no point is called `reference`, or the tolerance is impossible.
  """
  found = [point for point in points if point.name == reference]
  if not found:
    raise ValueError(
      f"no point is called {reference!r}, expected the uniform 8-bit baseline "
      f"among {[point.name for point in points]}"
    )
  sound = [point for point in points if not point.breaks] or found
  others = len([point for point in sound if point.name != reference])

  def rank(best):
    p = best.point
    last = p.weight_bytes, p.name != reference, p.name
    if best.is_accurate:
      return 0, p.cycles, -p.accuracy, *last
    return 1, -p.accuracy, p.cycles, *last

  candidates = (
    Recommendation(
      point=point, reference=found[0], tolerance=tolerance, others=others
    )
    for point in sound
  )
  return min(candidates, key=rank)


def by_cycles(points: Sequence[Point]) -> list[Point]:
  """The points, fastest first, of equally fast ones the most accurate."""
  return sorted(points, key=lambda p: (p.cycles, -p.accuracy, p.name))


def front(points: Sequence[Point]) -> set[str]:
  """Names of the points on the front of cycles and accuracy."""
  cycles, accuracies = [p.cycles for p in points], [p.accuracy for p in points]
  kept = pareto.front(cycles, accuracies)
  return {p.name for p, keep in zip(points, kept, strict=True) if keep}


def standard_error(accuracy: float, test_count: int) -> float:
  """Binomial standard error of an accuracy measured on `test_count` images."""
  return math.sqrt(accuracy * (1 - accuracy) / test_count)
