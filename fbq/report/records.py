"""What a page of points is made of, and which point it recommends.

Numbers are checked where a record is made: ValueError names the field, what was
given and what was expected.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
  BeforeValidator,
  Field,
  NonNegativeFloat,
  NonNegativeInt,
  PositiveFloat,
  PositiveInt,
)
from pydantic.dataclasses import dataclass

from fbq.search import pareto

Fraction = Annotated[float, Field(ge=0, le=1)]
Confidence = Annotated[float, Field(ge=0.5, lt=1)]
Bits = tuple[int, int | None, int | None]
Cost = Literal["cycles", "weight_bytes", "peak_activation_bytes"]
Precision = Annotated[dict[str, PositiveInt], Field(min_length=1)]


@dataclass(frozen=True)
class Score:
  """How well networks do on one split, and what they lose to a reference.

  Attributes:
    accuracy: mean over seeds, of classifiers; else their metric.
    error: its standard error, clustered by source image and seed.
    loss: accuracy that the reference has more, on the same images.
    loss_error: standard error of that difference.
    freedom: degrees of freedom of the errors.
    sources: source images, each of which may have several renders.
    renders: images, of all seeds together, for one source.
  """

  accuracy: Fraction
  error: NonNegativeFloat
  loss: Annotated[float, Field(ge=-1, le=1)]
  loss_error: NonNegativeFloat
  freedom: PositiveInt
  sources: PositiveInt
  renders: PositiveFloat = 1.0

  def largest_loss(self, confidence: float) -> float:
    """The loss that is not exceeded with this confidence.

    By Student's t, which is too narrow where few images differ: so no less than
    by their count (Garwood's upper limit of a Poisson number, of those that
    lose, less those that gain, as loss and error tell them), nor than what none
    of so many sources can exclude, -log(1 - confidence) / sources: where no
    image differs the error is 0, and yet a loss is possible. All is the most.
    Of a metric that is no share of images, the count is that of as many right
    and wrong images as would have this error.
    """
    from scipy import special

    t = float(special.stdtrit(self.freedom, confidence))
    by_error = self.loss + t * self.loss_error

    images = self.sources * self.renders
    differ, net = (self.loss_error * images) ** 2, self.loss * images
    lose, gain = max(0.0, differ + net) / 2, max(0.0, differ - net) / 2
    by_count = float(special.gammaincinv(lose + 1, confidence)) - gain
    unseen = -math.log1p(-confidence) / self.sources
    return min(1.0, max(by_error, by_count / images, unseen))


@dataclass(frozen=True)
class SeedPoint:
  """What one seed made of a point; see `Point`."""

  seed: NonNegativeInt
  precision: Precision
  cycles: PositiveInt
  validation: Score
  test: Score


@dataclass(frozen=True)
class Point:
  """An assignment of each seed: what it asks for and how well it classifies.

  Costs are means over seeds, as seeds may find different assignments.

  Attributes:
    name: unique among its points.
    kind: 'search', 'free_bits' or 'baseline'.
    parent: the point that a free_bits point was made from, else None.
    precision: bits of every site (tensor that has a precision), of the first
      seed.
    cycles: per image.
    validation: what everything is chosen by.
    test: what is reported.
    bops: bit operations per image.
    weight_bytes: bytes of all weights.
    peak_activation_bytes: most that live at one time.
    detail: what else to say about it, e.g. {"gates": "locked"}.
    aliases: names of other searches that found the same assignments.
    by_seed: what each seed made of it.
  """

  name: Annotated[str, Field(pattern=r"\S")]
  kind: Literal["search", "free_bits", "baseline"]
  parent: str | None
  precision: Precision
  cycles: PositiveInt
  validation: Score
  test: Score
  bops: NonNegativeInt
  weight_bytes: NonNegativeInt
  peak_activation_bytes: NonNegativeInt
  detail: dict[str, Annotated[str, BeforeValidator(str)]] = Field(
    default_factory=dict
  )
  aliases: tuple[Annotated[str, Field(pattern=r"^\S+$")], ...] = ()
  by_seed: tuple[SeedPoint, ...] = ()

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
    confidence: with which no more is lost, however many points were tried.
    each: confidence with which the loss of each faster point is judged, so that
      all of them together keep `confidence` (Bonferroni).
    others: number of points that were considered beside the reference.
    nearest: of the points that are faster than the one recommended, that of
      which least is missing; None where there is none.
    cost: what "faster" and "fastest" are about, a field of points.
  """

  point: Point
  reference: Point
  tolerance: Fraction
  confidence: Confidence
  each: Confidence
  others: int
  nearest: Point | None = None
  cost: Cost = "cycles"

  @property
  def is_reference(self) -> bool:
    return self.point == self.reference

  @property
  def is_accurate(self) -> bool:
    """Whether it loses no more than the tolerance, with confidence."""
    return self.is_reference or _is_accurate(
      self.point, self.tolerance, self.each
    )

  @property
  def saved(self) -> float:
    """Fraction of what the reference costs."""
    return 1 - cost_of(self.point, self.cost) / cost_of(
      self.reference, self.cost
    )

  @property
  def cycles_saved(self) -> float:
    """Fraction of the cycles of the reference."""
    return 1 - self.point.cycles / self.reference.cycles

  @property
  def speedup(self) -> float:
    return self.reference.cycles / self.point.cycles


def recommend(
  points: Sequence[Point],
  reference: str = "8/8",
  tolerance: float = 0.005,
  confidence: float = 0.8,
  cost: Cost = "cycles",
) -> Recommendation:
  """The fastest point that loses at most `tolerance`, with confidence.

  What counts is the upper end of its loss to the reference in validation. The
  fastest of many is taken, so each of those that are faster than the reference
  is judged with more confidence, 1 - (1 - confidence) / their number. Of
  equally fast points the one that loses less wins, then the one with fewer
  bytes of weights, then the reference, then the first in alphabetical order.
  The reference is a candidate too and wins if no faster point qualifies. What
  breaks demands is no candidate; if the reference does and no candidate is
  accurate enough, the most accurate one is recommended. With another `cost`
  the same holds of the smallest.

  Raises:
    ValueError: no point is called `reference`, or the tolerance or the
      confidence is impossible.
  """
  found = [point for point in points if point.name == reference]
  if not found:
    raise ValueError(
      f"no point is called {reference!r}, expected the uniform 8-bit baseline "
      f"among {[point.name for point in points]}"
    )
  sound = [point for point in points if not point.breaks] or found
  others = len([point for point in sound if point.name != reference])
  whole = cost_of(found[0], cost)
  faster = sum(cost_of(point, cost) < whole for point in sound)
  each = 1 - (1 - confidence) / max(1, faster)

  def rank(p):
    last = p.weight_bytes, p.name != reference, p.name
    own = cost_of(p, cost)
    if p.name == reference or _is_accurate(p, tolerance, each):
      return 0, own, p.validation.loss, *last
    return 1, -p.validation.accuracy, own, *last

  best = min(sound, key=rank)
  return Recommendation(
    point=best,
    reference=found[0],
    tolerance=tolerance,
    confidence=confidence,
    each=each,
    others=others,
    nearest=min(
      (p for p in sound if cost_of(p, cost) < cost_of(best, cost)),
      key=lambda p: p.validation.largest_loss(each),
      default=None,
    ),
    cost=cost,
  )


def cost_of(point: Point, cost: Cost) -> int:
  """What a point costs."""
  return getattr(point, cost)


def _is_accurate(point: Point, tolerance: float, each: float) -> bool:
  # 0.52 - 0.05 must not refuse 0.47 for the last bit of a float.
  return point.validation.largest_loss(each) <= tolerance + 1e-9


def by_cycles(points: Sequence[Point]) -> list[Point]:
  """The points, fastest first, of equally fast ones the most accurate."""
  return sorted(points, key=lambda p: (p.cycles, p.validation.loss, p.name))


def front(points: Sequence[Point]) -> set[str]:
  """Names of the points on the front of cycles and validation accuracy."""
  kept = pareto.front(
    [p.cycles for p in points], [p.validation.accuracy for p in points]
  )
  return {p.name for p, keep in zip(points, kept, strict=True) if keep}
