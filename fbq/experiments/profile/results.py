"""The record of a profile: costs of layers, whole networks, causes.

Cycles are of one image; bits of weights are None where a layer has none, bits
of an output that is not quantized are 32. Networks are called "8/8", "4/4" and
"2/2", with "+FB" after the Free Bits pass.
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
    cycles, ...: as in `hwsim.pulp.LayerCycles`.
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
    return f"{self.in_bits}/{self.weight_bits or '-'}"


class Whole(NamedTuple):
  """A network under one assignment on one target.

  Attributes:
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
    start: the uniform network it was raised from.
    before, after: the same layer at both precisions.
    why: where the cycles went, in words.
  """

  start: str
  before: Cost
  after: Cost
  why: str


def short(target: str) -> str:
  """A target's name without its overrides."""
  return target.partition(" ")[0]


@dataclasses.dataclass(frozen=True)
class Profile:
  """The record of a profile.

  Attributes:
    network, target: names for the reader.
    costs: every layer at every precision on every target.
    networks: target -> name of a network -> its layers in the order they run.
    wholes: networks, target by target.
    gains: layers faster at a higher precision, on `target`.
    budgets: bytes of L2 left to tensors -> cycles of every network by name;
      none where a layer does not fit.
    l2_bytes: what is left to tensors everywhere else.
    peaks: MAC/cycle of inner loops by "conv" or "depthwise", then by name of a
      uniform network.
    constants: fields of the target.
  """

  network: str
  target: str
  costs: tuple[Cost, ...]
  networks: dict[str, dict[str, tuple[Cost, ...]]]
  wholes: tuple[Whole, ...]
  gains: tuple[Gain, ...]
  budgets: dict[int, dict[str, int]]
  l2_bytes: int
  peaks: dict[str, dict[str, float]]
  constants: dict[str, int | float | str]

  @functools.cached_property
  def at_8(self) -> Mapping[tuple, Cost]:
    """(target, layer, input, weight bits) -> cost with an output of 8 bits.

    Of 32 where it is not quantized.
    """
    return {
      (c.target, c.layer, *c.both): c for c in self.costs if c.out_bits >= 8
    }

  @property
  def own(self) -> Mapping[str, Sequence[Cost]]:
    """The layers of every network on the profile's target."""
    return self.networks[self.target]

  def whole(self, name: str) -> Whole:
    """The network of that name on the profile's target."""
    return {(w.target, w.name): w for w in self.wholes}[self.target, name]

  def constant(self, name: str) -> float:
    """A number of the target."""
    return float(self.constants[name])

  @property
  def kinds(self) -> list[str]:
    """Kinds of layers with weights, in the order the network meets them."""
    return list(
      dict.fromkeys(c.kind for c in self.costs if c.weight_bits is not None)
    )

  def relative(self, target: str, kind: str, *bits: int) -> float:
    """Cycles of all layers of a kind at (input, weight) bits over 8/8."""

    def total(bits):
      return sum(
        cost.cycles
        for cost in self.at_8.values()
        if (cost.target, cost.kind, cost.both) == (target, kind, bits)
      )

    return total(bits) / total((8, 8))

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
        {"claim": claim, "numbers": numbers}
        for claim, _, numbers in statements(self)
      ],
      "l2_budgets": [
        {"bytes": size, "is_default": size == self.l2_bytes, **cycles}
        for size, cycles in self.budgets.items()
      ],
    }


# ---- What a profile says in words


def answer(profile: Profile) -> str:
  """The profile in two or three sentences."""
  eight, four, free = map(profile.whole, ("8/8", "4/4", "4/4+FB"))
  clock = profile.constant("frequency_hz")
  macs = sum(c.macs for c in profile.own["8/8"])
  own = [w for w in profile.wholes if w.target == profile.target]
  best = min(own, key=lambda w: w.cycles)
  sentence = (
    f"At 8 bits everywhere an image takes {eight.cycles:,} cycles on "
    f"{short(profile.target)}: {eight.cycles / clock * 1e3:,.1f} ms at "
    f"{clock / 1e6:g} MHz, {macs / eight.cycles:.2f} MAC/cycle. "
    f"4 bits change that by {four.change:+.1%}, and by {free.change:+.1%} once "
    f"Free Bits has raised {free.raised} layers."
  )
  if best.name not in ("4/4", "4/4+FB"):
    sentence += f" Fastest is {best.name}: {best.change:+.1%}."
  return sentence


def statements(profile: Profile) -> list[tuple[str, str, dict[str, float]]]:
  """Three claims of the Free Bits slides, and what this profile says to each.

  Each is (claim, finding, its numbers by name: change of cycles of a kind of
  layers at 8/4, of its speed at 4/4, and what is faster at more bits).
  """

  def ratios(ratio, *kinds):
    return {
      f"{short(target)} {kind}": round(ratio(target, kind), 4)
      for target in profile.networks
      for kind in kinds
      if kind in profile.kinds
    }

  narrow = (
    "Weights narrower than activations ruin performance on XPulpNNv1",
    "See 8/4 in the table: XPulpNNv1 unpacks such weights in software inside "
    "the inner loop, XPulpV2 all that is below 8 bits; XPulpNNv2 decodes "
    "mixtures in hardware.",
    ratios(lambda *of: profile.relative(*of, 8, 4), "convolution", "pointwise"),
  )
  claim = "Depthwise layers gain less from fewer bits"
  depthwise = claim, "This network has no depthwise layers.", {}
  if "depthwise" in profile.kinds:
    other = "pointwise" if "pointwise" in profile.kinds else "convolution"
    depthwise = (
      claim,
      "See 4/4 in the table: depthwise kernels compute at 8 bits whatever the "
      "operands, so only transfers and tiles get smaller.",
      ratios(lambda *of: 1 / profile.relative(*of, 4, 4), "depthwise", other),
    )
  numbers, parts = {}, []
  for start in UNIFORM[1:]:
    found = [gain for gain in profile.gains if gain.start == start]
    saved = sum(gain.before.cycles - gain.after.cycles for gain in found)
    share = saved / profile.whole(start).cycles
    numbers |= {
      f"{start} layers": len(found),
      f"{start} cycles saved": saved,
      f"{start} share": round(share, 4),
    }
    parts.append(
      f"{len(found)} of {len(profile.own[start])} layers at {start} are faster "
      f"at more bits, by {saved:,} cycles ({share:.1%} of the network)"
    )
  said = f"On {short(profile.target)} {', '.join(parts)}."
  higher = "Some layers run faster at higher precision", said, numbers
  return [narrow, depthwise, higher]
