"""The record of a design space: what each target costs, and what is in doubt.

Cycles are of one image; assignments are bits of the network's free tensors, in
the order of `Space.sites`.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fbq.lab.intervals import Interval, why_outside
from fbq.report.sentences import counted, more_or_less

SURE = 0.9  # share of draws from which a choice counts as sure


class Design(NamedTuple):
  """A target and the best that runs on it.

  Attributes:
    values: its fields, in the order of `Space.fields`.
    eight: cycles of uniform 8 bits; None where a layer does not fit.
    best: cycles of the fastest assignment that is precise enough.
    bits: that assignment.
    reach: least cycles at each of `Space.levels` of the proxy.
  """

  values: tuple[int | float | str, ...]
  eight: int | None = None
  best: int | None = None
  bits: tuple[int, ...] = ()
  reach: tuple[int | None, ...] = ()

  @property
  def fastest(self) -> int:
    """`best` of a design that runs."""
    assert self.best is not None
    return self.best

  @property
  def size(self) -> tuple[int | float, ...]:
    """Values of the fields that are numbers."""
    return tuple(v for v in self.values if not isinstance(v, str))

  @property
  def change(self) -> float:
    """Change from 8 bits to the best, as a fraction, of a design that runs."""
    assert self.eight is not None
    return self.fastest / self.eight - 1


class Front(NamedTuple):
  """The exact front of a target: ascending cycles, falling harm."""

  name: str
  cycles: tuple[int, ...]
  harm: tuple[float, ...]


class Worth(NamedTuple):
  """What an assumption is worth.

  Attributes:
    name, center, low, high, source: as `hwsim.assumption.Assumption`.
    slope: change of the best network's cycles over the range by the derivative;
      None for memories, and on NE16, whose simulator is not derived.
    swing: the same as simulated at both ends, all else being as it is.
    points: what the change against 8/8 moves by between the ends, in points.
  """

  name: str
  center: float
  low: float
  high: float
  source: str
  slope: float | None
  swing: int
  points: float

  @property
  def end(self) -> str:
    """The end of the range that the target stands at, "" if at none."""
    if self.center == self.low:
      return "low"
    return "high" if self.center == self.high else ""


class Choice(NamedTuple):
  """A tensor and its precision after the pass.

  Attributes:
    bits: on the target itself.
    before: where the pass started.
    same: share of draws in which the pass ends in the same bits.
    others: (bits, share of draws) of what it ends in otherwise.
  """

  site: str
  before: int
  bits: int
  same: float
  others: tuple[tuple[int, float], ...]


class Order(NamedTuple):
  """Two neighbours in the order of cycles, and how often they stay so."""

  faster: str
  slower: str
  same: float


class Doubt(NamedTuple):
  """The target within all that is assumed of it.

  Attributes:
    draws: how many.
    quantile: share of the careful passes.
    intervals: of the networks.
    uppers: the quantile of each.
    worths: assumptions, what is worth most first.
    choices: of every free tensor.
    orders: of networks that are neighbours by cycles.
    exact_gap: by which fraction there may be less than what the exact careful
      pass found; 0 where that is proven to be the least.
    exact_fails: why the exact careful pass gave up; "" if it did not.
  """

  draws: int
  quantile: float
  intervals: tuple[Interval, ...]
  uppers: tuple[int, ...]
  worths: tuple[Worth, ...]
  choices: tuple[Choice, ...]
  orders: tuple[Order, ...]
  exact_gap: float
  exact_fails: str

  @property
  def why_outside(self) -> str:
    """Why the target's own numbers need not lie in the middle, in words."""
    return why_outside(self.intervals, [w for w in self.worths if w.swing])

  @property
  def sure(self) -> int:
    """How many tensors have the same bits in nearly all draws."""
    return sum(choice.same >= SURE for choice in self.choices)


@dataclasses.dataclass(frozen=True)
class Space:
  """The record of a design space.

  Attributes:
    network, target: names for the reader.
    fields: what differs between designs, and its values.
    least_bits: what the best assignment is nowhere below.
    proxy: what stands for accuracy, in words.
    levels: harms at which `Design.reach` is told: of uniform bits, by name.
    sites: free tensors.
    own: the target itself.
    designs: all others, the last field fastest.
    fronts: of a few of them.
    doubt: None where nothing was drawn.
  """

  network: str
  target: str
  fields: dict[str, tuple[int | float | str, ...]]
  least_bits: int
  proxy: str
  levels: dict[str, float]
  sites: tuple[str, ...]
  own: Design
  designs: tuple[Design, ...]
  fronts: tuple[Front, ...]
  doubt: Doubt | None

  @property
  def running(self) -> list[Design]:
    """Designs on which the network runs, the fastest first."""
    found = [design for design in self.designs if design.best is not None]
    return sorted(found, key=lambda design: (design.fastest, *design.size))

  @property
  def frugal(self) -> list[Design]:
    """Designs that none with no more of any field is as fast as."""
    kept: list[Design] = []
    for design in self.running:  # what is dominated, an earlier one dominates
      if not any(_no_more(other, design) for other in kept):
        kept.append(design)
    return kept

  def differing(self, design: Design) -> int:
    """Tensors whose best precision is another than on the target itself."""
    pairs = zip(design.bits, self.own.bits, strict=True)
    return sum(a != b for a, b in pairs)

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    yield [
      *self.fields,
      *("cycles_8_8", "cycles_best", "tensors_that_differ"),
      *(f"cycles_at_harm_of_{name}" for name in self.levels),
      *(f"bits:{site}" for site in self.sites),
    ]
    for design in self.designs:
      if design.best is None:
        nothing = 3 + len(self.levels) + len(self.sites)
        yield [*design.values, *[""] * nothing]
        continue
      yield [
        *design.values,
        *(design.eight, design.best, self.differing(design)),
        *("" if cycles is None else cycles for cycles in design.reach),
        *design.bits,
      ]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    running = self.running
    doubt = self.doubt
    return {
      "network": self.network,
      "target": self.target,
      "own": {"cycles_8_8": self.own.eight, "cycles_best": self.own.best},
      "designs": len(self.designs),
      "running": len(running),
      "fastest": dict(zip(self.fields, running[0].values, strict=True))
      | {"cycles_best": running[0].best}
      if running
      else {},
      "intervals": []
      if doubt is None
      else [i._asdict() for i in doubt.intervals],
      "sure": None if doubt is None else [doubt.sure, len(doubt.choices)],
    }


def _no_more(one: Design, other: Design) -> bool:
  """Whether a design has no more of any number, and else the same."""
  return all(
    a == b if isinstance(a, str) or isinstance(b, str) else a <= b
    for a, b in zip(one.values, other.values, strict=True)
  )


def named(space: Space, design: Design) -> str:
  """A design in words: its fields that differ."""
  pairs = zip(space.fields, design.values, strict=True)
  return ", ".join(f"{name} {shown(value)}" for name, value in pairs)


def shown(value: int | float | str) -> str:
  """A value of a field for people."""
  return value if isinstance(value, str) else f"{value:,}"


def answer(space: Space) -> list[str]:
  """The answer in two or three sentences."""
  own, running = space.own, space.running
  said = [
    f"The fastest assignment of {space.network} nowhere below "
    f"{space.least_bits} bits takes {own.best:,} cycles on {space.target}, "
    f"{more_or_less(own.change)} than 8 bits."
  ]
  if running:
    first, last = running[0], running[-1]
    differ = sum(space.differing(design) > 0 for design in running)
    over = (
      f"{len(running):,} of {counted(len(space.designs), 'design')} it runs on"
    )
    spread = (
      f"It takes as many on each of the {over}"
      if first.best == last.best
      else f"Over the {over} that is {first.best:,} ({named(space, first)}) to "
      f"{last.best:,} ({named(space, last)})"
    )
    others = (
      f"other precisions are best on {differ:,}"
      if differ
      else "the same precisions are best on all"
    )
    said.append(f"{spread}; {others}.")
  if space.doubt is not None:
    best = next(i for i in space.doubt.intervals if i.name.endswith("+FB"))
    said.append(
      f"Within all that is assumed of the target, {best.name} changes 8 bits' "
      f"cycles by {best.change:+.1%} on the target itself, and by "
      f"{best.change_median:+.1%} ({best.change_low:+.1%} to "
      f"{best.change_high:+.1%}) in the middle (90 %) of "
      f"{space.doubt.draws:,} draws; "
      f"{space.doubt.sure} of {len(space.doubt.choices)} tensors have the same "
      f"precision in at least {SURE:.0%} of them."
    )
  return said
