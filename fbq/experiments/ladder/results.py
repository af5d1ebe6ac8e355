"""What a network loses at every bit-width, and what was chosen instead."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fbq.experiments.ladder.methods import TITLES

FLOAT = "float"


def name_of(method: str, bits: int) -> str:
  """Name of a uniform network."""
  return f"{method} W{bits}"


@dataclasses.dataclass(frozen=True)
class Numbers:
  """How a network did on the inputs that are held back.

  Attributes:
    kl: KL divergence of the float network's class probabilities, in nats.
    agreement: share of inputs of the float network's class.
    agreement_error: its standard error, clustered by photograph; None of one.
    accuracy: share of right classes; None without labels.
  """

  kl: float
  agreement: float
  agreement_error: float | None = None
  accuracy: float | None = None


@dataclasses.dataclass(frozen=True)
class Budget:
  """What bits were chosen under.

  Attributes:
    target: the hardware.
    cost: "weight_bytes" or "cycles".
    share: how much, as a share of what 8 bits cost.
  """

  target: str
  cost: str
  share: float


@dataclasses.dataclass(frozen=True)
class Row:
  """Accuracies that somebody published, in percent by bits of weights."""

  name: str
  accuracy: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Point:
  """A network at some precisions.

  Attributes:
    name: unique.
    method: how its weights were quantized.
    bits: bits of every site.
    numbers: how it did.
    weight_bytes: bytes of its weights, packed.
    cycles: {target: cycles}, of targets that have these bits.
    budget: what its bits were chosen under; None of a uniform network.
  """

  name: str
  method: str
  bits: dict[str, int]
  numbers: Numbers
  weight_bytes: int
  cycles: dict[str, int]
  budget: Budget | None = None


@dataclasses.dataclass(frozen=True)
class Rungs:
  """A float network at every bit-width, without training.

  Attributes:
    network: name for the reader.
    in_float: numbers of the float network.
    points: uniform networks of every method, and what was chosen.
    harm: {site: {bits: KL in nats with this tensor alone at them}}.
    blocks: {block format of every tensor: numbers}.
    integers: our integers beside the file's runtime, see
      `fbq.lab.imported_integers.SameIntegers`; None of a file of floats.
    published: rows of others.
    targets: names of the hardware that all is costed on.
    weight_bits: bits that were tried.
    mixed_by: method of mixed precisions.
    calibration, held_back: numbers of inputs.
    sources: photographs, or inputs, behind those that are held back.
    has_labels: whether there is accuracy.
    assumptions: sentences about what the numbers rest on.
  """

  network: str
  in_float: Numbers
  points: tuple[Point, ...]
  harm: dict[str, dict[int, float]]
  blocks: dict[str, Numbers]
  integers: dict[str, int | float | None] | None
  published: tuple[Row, ...]
  targets: tuple[str, ...]
  weight_bits: tuple[int, ...]
  mixed_by: str
  calibration: int
  held_back: int
  sources: int
  has_labels: bool
  assumptions: tuple[str, ...]

  def point(self, method: str, bits: int) -> Point:
    """A uniform network."""
    return next(p for p in self.points if p.name == name_of(method, bits))

  @property
  def methods(self) -> tuple[str, ...]:
    """Methods that were tried, in their order."""
    return tuple(dict.fromkeys(p.method for p in self.points if not p.budget))

  @property
  def chosen(self) -> tuple[Point, ...]:
    """Networks of chosen precisions."""
    return tuple(p for p in self.points if p.budget)

  def rival(self, point: Point) -> Point | None:
    """The best uniform network, of any method, within a chosen one's budget."""
    budget = point.budget
    assert budget is not None
    uniform = [p for p in self.points if not p.budget]
    eight = cost_of(self.point(self.methods[0], 8), budget)
    affordable = [
      p
      for p in uniform
      if eight is not None
      and (cost := cost_of(p, budget)) is not None
      and cost <= int(budget.share * eight)
    ]
    return min(affordable, key=lambda p: p.numbers.kl, default=None)

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    yield (
      *("name", "method", "weight_bytes", "kl", "agreement"),
      *("agreement_error", "accuracy", *self.targets),
    )
    rows: list[tuple[str, str, int | None, Numbers, Mapping[str, int]]] = [
      (FLOAT, "", None, self.in_float, {})
    ]
    rows += [
      (p.name, p.method, p.weight_bytes, p.numbers, p.cycles)
      for p in self.points
    ]
    rows += [
      (name, "block format", None, n, {}) for name, n in self.blocks.items()
    ]
    for name, method, size, n, cycles in rows:
      yield (
        *(name, method, size, n.kl, n.agreement, n.agreement_error),
        *(n.accuracy, *(cycles.get(target) for target in self.targets)),
      )

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return {
      "network": self.network,
      "answer": self.answer,
      "held_back": self.held_back,
      "float": dataclasses.asdict(self.in_float),
      "points": {
        p.name: dataclasses.asdict(p.numbers)
        | {"weight_bytes": p.weight_bytes, "cycles": p.cycles}
        for p in self.points
      },
      "blocks": {k: dataclasses.asdict(n) for k, n in self.blocks.items()},
      "integers": self.integers,
    }

  @property
  def answer(self) -> str:
    """How few bits the weights need, by which method."""
    least = min(self.weight_bits)
    best = []
    for bits in sorted(self.weight_bits, reverse=True):
      method = min(self.methods, key=lambda m: self.point(m, bits).numbers.kl)
      best.append((bits, method, self.point(method, bits).numbers))
    whole = next(n for bits, _, n in best if bits == 8)
    lost = 0.02  # of what is told
    good = lambda row: told(row[2]) >= told(whole) - lost
    kept = list(itertools.takewhile(good, best))  # from 8 bits down
    bits, method, numbers = kept[-1]
    word = {8: "only ", least: "even "}.get(bits, "")
    at = f"{word}{bits}-bit weights"
    return (
      f"{at[0].upper()}{at[1:]} by {TITLES[method]} stay within 2 points of "
      f"what 8 bits have: {self.word} {told(numbers):.1%} of {self.held_back} "
      f"inputs that were held back, where 8 bits have {told(whole):.1%}"
      + (f" and float {told(self.in_float):.1%}." * self.has_labels or ".")
    )

  @property
  def word(self) -> str:
    """What `told` is."""
    if self.has_labels:
      return "right for"
    return "the float network's class (which is not accuracy) for"


def shown(point: Point) -> str:
  """What a network is called before people."""
  if point.budget is None:
    return f"{TITLES[point.method]}, {point.name.rpartition(' ')[2]}"
  kind = "flash" if point.budget.cost == "weight_bytes" else "cycles"
  share = f"{100 * point.budget.share:.3g}%"
  return f"{share} of {kind} on {point.budget.target}"


def told(numbers: Numbers) -> float:
  """Accuracy where there are labels, else agreement."""
  return numbers.agreement if numbers.accuracy is None else numbers.accuracy


def cost_of(point: Point, budget: Budget) -> int | None:
  """What a budget limits; None where the target has not these bits."""
  if budget.cost == "weight_bytes":
    return point.weight_bytes
  return point.cycles.get(budget.target)
