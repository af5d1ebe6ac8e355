"""The record of a profile: costs of layers, whole networks, causes.

Cycles are of one image; bits of weights are None where a layer has none, bits
of an output that is not quantized are 32.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

UNIFORM = ("8/8", "4/4", "2/2")
PARTS = ("compute", "waiting", "dma", "overhead", "l3")


class Cost(NamedTuple):
  """One layer at one precision on one target.

  Attributes:
    kind: "convolution", "pointwise", "depthwise", "linear", "add" or "pool".
    least_bytes: every tensor once, packed.
    cycles: the sum of `compute`, `dma`, `overhead` and `l3`.
    compute: kernels. `waiting` is the part of it that the average core waits
      for the slowest.
    dma: L2 <-> L1 transfers that no kernel hides.
    overhead: software of layers and tiles.
    l3: L3 <-> L2 transfers that nothing hides.
  """

  target: str
  layer: str
  kind: str
  in_bits: int
  weight_bits: int | None
  out_bits: int
  macs: int
  least_bytes: int
  cycles: int
  compute: int
  dma: int
  overhead: int
  l3: int
  waiting: int

  @property
  def parts(self) -> dict[str, int]:
    """Cycles by cause, `PARTS`; they add up to `cycles`."""
    parts = {name: getattr(self, name) for name in PARTS}
    return parts | {"compute": self.compute - self.waiting}

  @property
  def both(self) -> tuple[int, int | None]:
    """Input and weight bits."""
    return self.in_bits, self.weight_bits

  @property
  def bits(self) -> str:
    """The same in letters, for instance '8/4'."""
    weights = "-" if self.weight_bits is None else self.weight_bits
    return f"{self.in_bits}/{weights}"


class Whole(NamedTuple):
  """A network under one assignment on one target.

  Attributes:
    name: "8/8", "4/4", "2/2", or one of these with "+FB" after the Free Bits
      pass.
    change: of cycles against 8/8 on the same target, as a fraction.
    published: the same as published, or None.
    raised: layers that the pass changed.
  """

  target: str
  name: str
  cycles: int
  change: float
  published: float | None = None
  raised: int = 0


class Gain(NamedTuple):
  """A layer that is faster at a higher precision.

  Attributes:
    start: the uniform assignment it was raised from.
    before, after: the same layer at both precisions.
    why: where the cycles went, in words.
  """

  start: str
  before: Cost
  after: Cost
  why: str


class Budget(NamedTuple):
  """Cycles of the whole network for one part of L2 left to tensors, bytes.

  `cycles` maps the names of `Whole` to cycles; empty where a layer does not
  fit.
  """

  size: int
  cycles: dict[str, int]
  is_default: bool = False


class Statement(NamedTuple):
  """A claim of the Free Bits slides and what this profile says to it.

  Attributes:
    claim: as published, in short.
    finding: the numbers in a sentence.
    numbers: the same by name, for result.json.
  """

  claim: str
  finding: str
  numbers: dict[str, float]


def short(target: str) -> str:
  """A target's name without its overrides."""
  return target.partition(" ")[0]


@dataclasses.dataclass(frozen=True)
class Profile:
  """The record of a profile.

  Attributes:
    network, target: names for the reader.
    targets: names of all targets compared, `target` among them.
    layers: names in the order they run.
    costs: every layer at every precision on every target.
    uniform: by name of a uniform assignment, (input, weight) bits of each layer
      in that network, whose fixed tensors keep their bits.
    wholes: networks, target by target.
    gains: layers faster at a higher precision, on `target`.
    budgets: the sweep of L2, ascending.
    peaks: MAC/cycle of inner loops by target, then "conv" or "depthwise", then
      name of a uniform assignment.
    published_source: where the published figures are from, or "".
    constants: fields of the target.
    overridden: names of those that the settings set.
    answer: the profile in two or three sentences.
    statements: claims of others, and what this profile says to them.
  """

  network: str
  target: str
  targets: tuple[str, ...]
  layers: tuple[str, ...]
  costs: tuple[Cost, ...]
  uniform: dict[str, tuple[tuple[int, int | None], ...]]
  wholes: tuple[Whole, ...]
  gains: tuple[Gain, ...]
  budgets: tuple[Budget, ...]
  peaks: dict[str, dict[str, dict[str, float]]]
  published_source: str
  constants: dict[str, int | float | str]
  overridden: tuple[str, ...]
  answer: str = ""
  statements: tuple[Statement, ...] = ()

  @functools.cached_property
  def _at_8(self) -> Mapping[tuple, Cost]:
    """Costs with outputs of 8 bits, or of 32 where they are not quantized."""
    return {
      (c.target, c.layer, c.in_bits, c.weight_bits): c
      for c in self.costs
      if c.out_bits >= 8
    }

  def shown(self, target: str) -> list[Cost]:
    """Every layer at every precision of inputs and weights on a target."""
    return [c for c in self._at_8.values() if c.target == target]

  def in_uniform(self, target: str, name: str) -> list[Cost]:
    """The layers of a uniform network."""
    return [
      self._at_8[target, layer, *bits]
      for layer, bits in zip(self.layers, self.uniform[name], strict=True)
    ]

  def whole(self, name: str) -> Whole:
    """The network of that name on the profile's target."""
    return {(w.target, w.name): w for w in self.wholes}[self.target, name]

  def constant(self, name: str) -> float:
    """A number of the target."""
    return float(self.constants[name])

  def kinds(self) -> list[str]:
    """Kinds of layers with weights, in the order the network meets them."""
    return list(
      dict.fromkeys(c.kind for c in self.costs if c.weight_bits is not None)
    )

  def relative(
    self, target: str, kind: str, in_bits: int, weight_bits: int
  ) -> float:
    """Cycles of all layers of a kind, over those at 8/8."""

    def total(*bits):
      return sum(
        cost.cycles
        for cost in self.shown(target)
        if (cost.kind, cost.in_bits, cost.weight_bits) == (kind, *bits)
      )

    return total(in_bits, weight_bits) / total(8, 8)

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first; "-" for bits of no weights."""
    yield Cost._fields
    for cost in self.costs:
      yield ["-" if value is None else value for value in cost]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return {
      "network": self.network,
      "target": self.target,
      "networks": [whole._asdict() for whole in self.wholes],
      "statements": [
        {"claim": each.claim, "numbers": each.numbers}
        for each in self.statements
      ],
      "l2_budgets": [
        {"bytes": each.size, "is_default": each.is_default, **each.cycles}
        for each in self.budgets
      ],
    }
