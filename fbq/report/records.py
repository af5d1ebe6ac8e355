"""What a report is made of, and which of its points it recommends."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from fbq.search import pareto

KINDS = ("search", "free_bits", "baseline")


@dataclasses.dataclass(frozen=True)
class Point:
  """One assignment: what it asks of the hardware and how well it classifies.

  Attributes:
    name: unique in its report.
    kind: 'search', 'free_bits' or 'baseline'.
    parent: the search point that a free_bits point was made from, else None.
    precision: bits of every site (tensor that has a precision).
    cycles: per image.
    accuracy: on the test set, 0 to 1.
    bops: bit operations per image.
    weight_bytes: of all weights.
    peak_activation_bytes: most that live at one time.
    detail: what else to say about it, e.g. {"gates": "locked"}.
    aliases: names of other searches that found the same assignment.

  Raises:
    ValueError: a number is impossible or not finite, or a name is missing.
  """

  name: str
  kind: str
  parent: str | None
  precision: Mapping[str, int]
  cycles: int
  accuracy: float
  bops: int
  weight_bytes: int
  peak_activation_bytes: int
  detail: Mapping[str, str] = dataclasses.field(default_factory=dict)
  aliases: tuple[str, ...] = ()

  def __post_init__(self):
    where = f"point {self.name!r}"
    if not isinstance(self.name, str) or not self.name.strip():
      raise ValueError(f"{where}: the name is empty")
    if self.kind not in KINDS:
      raise ValueError(
        f"{where}: kind is {self.kind!r}, expected one of {KINDS}"
      )
    if (self.parent is not None) != (self.kind == "free_bits"):
      raise ValueError(
        f"{where}: parent is {self.parent!r}, expected the name of a search "
        "point for kind 'free_bits' and None for the others"
      )
    for field in ("cycles", "bops", "weight_bytes", "peak_activation_bytes"):
      least = 1 if field == "cycles" else 0
      _set(self, field, whole(getattr(self, field), f"{where}: {field}", least))
    _set(self, "accuracy", fraction(self.accuracy, f"{where}: accuracy"))
    if not self.precision:
      raise ValueError(f"{where}: precision is empty, expected bits per site")
    _set(
      self,
      "precision",
      {
        site: whole(bits, f"{where}: bits of site {site!r}", 1)
        for site, bits in self.precision.items()
      },
    )
    _set(self, "detail", {k: str(v) for k, v in self.detail.items()})
    _set(self, "aliases", tuple(self.aliases))

  @property
  def breaks(self) -> str:
    """Demands that it does not meet, a detail; then it is not recommended."""
    return self.detail.get("breaks", "")


@dataclasses.dataclass(frozen=True)
class LayerRow:
  """One layer under one assignment.

  Attributes:
    in_bits: of its input; of the wider one where there are two.
    weight_bits: None where it has no weights.
    out_bits: None where its output is not quantized (accumulators).
    cycles: per image.
    share: of the cycles of the network, 0 to 1.
  """

  layer: str
  op: str
  in_bits: int
  weight_bits: int | None
  out_bits: int | None
  macs: int
  cycles: int
  share: float

  def __post_init__(self):
    where = f"layer {self.layer!r}"
    _set(self, "macs", whole(self.macs, f"{where}: macs", 0))
    _set(self, "cycles", whole(self.cycles, f"{where}: cycles", 0))
    _set(self, "share", fraction(self.share, f"{where}: share"))


@dataclasses.dataclass(frozen=True)
class Change:
  """A rise in precision by the Free Bits pass, and what it won.

  Attributes:
    sites: whose bits were raised.
    layer: that the rise makes faster.
    from_bits, to_bits: (activation, weight) bits of the layer; None for the
      weight bits of a layer without weights.
    cycles_before, cycles_after: of the layer, per image.
    reason: one sentence for the reader.
  """

  sites: tuple[str, ...]
  layer: str
  from_bits: tuple[int, int | None]
  to_bits: tuple[int, int | None]
  cycles_before: int
  cycles_after: int
  reason: str

  def __post_init__(self):
    where = f"change of layer {self.layer!r}"
    sites = (self.sites,) if isinstance(self.sites, str) else self.sites
    _set(self, "sites", tuple(sites))
    for field in ("cycles_before", "cycles_after"):
      _set(self, field, whole(getattr(self, field), f"{where}: {field}", 0))


@dataclasses.dataclass(frozen=True)
class Recommendation:
  """The fastest point that is accurate enough, next to the reference.

  Attributes:
    point: recommended; the reference itself if nothing else is faster.
    reference: the uniform 8-bit baseline.
    tolerance: accuracy that may be lost against the reference, 0 to 1.
    others: number of points that were considered beside the reference.
  """

  point: Point
  reference: Point
  tolerance: float
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
  tolerance = fraction(tolerance, "tolerance")
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

  return min(
    (Recommendation(point, found[0], tolerance, others) for point in sound),
    key=rank,
  )


def check(points: Sequence[Point]) -> dict[str, Point]:
  """Points by name and alias, once it is certain that they fit together.

  Raises:
    ValueError: a name occurs twice, a parent does not exist, or assignments are
      of different sites.
  """
  if not points:
    raise ValueError("no points, expected at least the baselines")
  names = [name for point in points for name in (point.name, *point.aliases)]
  twice = [n for n, count in collections.Counter(names).items() if count > 1]
  if twice:
    raise ValueError(f"names {twice} occur more than once among the points")
  by_name = {n: p for p in points for n in (p.name, *p.aliases)}
  for point in points:
    if point.parent is not None and point.parent not in by_name:
      raise ValueError(
        f"point {point.name!r}: parent {point.parent!r} is not a point, "
        f"expected one of {names}"
      )
    differing = set(point.precision) ^ set(points[0].precision)
    if differing:
      raise ValueError(
        f"points {points[0].name!r} and {point.name!r} are not assignments of "
        f"the same network: only one has sites {sorted(differing)[:8]}"
      )
  return by_name


def on_front(points: Sequence[Point]) -> list[bool]:
  """Whether each point is on the front of cycles and accuracy."""
  mask = pareto.front(
    [point.cycles for point in points], [point.accuracy for point in points]
  )
  return mask.tolist()


def standard_error(accuracy: float, test_count: int) -> float:
  """Binomial standard error of an accuracy measured on `test_count` images."""
  test_count = whole(test_count, "test_count", 1)
  return math.sqrt(accuracy * (1 - accuracy) / test_count)


def whole(value, what: str, least: int) -> int:
  """`value` as int, or a ValueError that starts with `what`."""
  number = _is_number(value) and math.isfinite(value)
  if not number or int(value) != value or value < least:
    raise ValueError(
      f"{what} is {value!r}, expected a whole number, at least {least}"
    )
  return int(value)


def fraction(value, what: str) -> float:
  """`value` as float in 0 .. 1, or a ValueError that starts with `what`."""
  if not _is_number(value) or not 0 <= value <= 1:
    raise ValueError(f"{what} is {value!r}, expected a number from 0 to 1")
  return float(value)


def _is_number(value):
  kinds = (int, float, np.integer, np.floating)
  return isinstance(value, kinds) and not isinstance(value, bool)


def _set(record, field, value):
  """Normalises a field of a frozen record while it is made."""
  object.__setattr__(record, field, value)
