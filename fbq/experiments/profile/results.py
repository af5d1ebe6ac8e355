"""The record of a profile: costs of layers, whole networks, causes.

Cycles are of one image; bits of weights are None where a layer has none, bits
of an output that is not quantized are 32. Networks are called by the bits of
their activations and weights, "8/8", "4/4" and "2/2", on hardware of 8-bit
activations "8/8", "8/4" and "8/2"; with "+FB" after the Free Bits pass.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fbq.experiments.profile.costs import Cost, Gain, Whole, short
from fbq.experiments.profile.plateaus import plateaus
from fbq.experiments.profile.published import Variant
from fbq.lab.intervals import Interval
from fbq.report.sentences import counted, more_or_less


@dataclasses.dataclass(frozen=True)
class Profile:
  """The record of a profile.

  Attributes:
    network, target: names for the reader.
    costs: every layer at every precision on every target.
    networks: target -> name of a network -> its layers in the order they run.
    wholes: networks, target by target.
    gains: layers faster at a higher precision, on `target`.
    uniform: names of the uniform networks, the most precise first.
    activations, weights: bits that tensors may have on these targets.
    variants: ways to the published figures, see `published`; none of other
      networks.
    budgets: bytes of L2 left to tensors -> cycles of every network by name;
      none where a layer does not fit.
    l2_bytes: what is left to tensors everywhere else.
    peaks: MAC/cycle of inner loops by "conv" or "depthwise", then by name of a
      uniform network.
    constants: fields of the target.
    intervals: networks in draws of what is assumed of the target; none where no
      ranges are told of it.
    why_outside: why its own cycles may lie outside of them, in words.
  """

  network: str
  target: str
  costs: tuple[Cost, ...]
  networks: dict[str, dict[str, tuple[Cost, ...]]]
  wholes: tuple[Whole, ...]
  gains: tuple[Gain, ...]
  uniform: tuple[str, ...]
  activations: tuple[int, ...]
  weights: tuple[int, ...]
  variants: tuple[Variant, ...]
  budgets: dict[int, dict[str, int]]
  l2_bytes: int
  peaks: dict[str, dict[str, float]]
  constants: dict[str, int | float | str]
  intervals: tuple[Interval, ...] = ()
  why_outside: str = ""

  @functools.cached_property
  def at_8(self) -> Mapping[tuple, Cost]:
    """(target, layer, input, weight bits) -> cost with an output of 8 bits.

    Of 32 where it is not quantized.
    """
    return {
      (c.target, c.layer, *c.both): c for c in self.costs if c.out_bits >= 8
    }

  @property
  def has_engine(self) -> bool:
    """Whether layers run on an accelerator, and not on cores alone."""
    return any(cost.engine for cost in self.costs)

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
      "intervals": [each._asdict() for each in self.intervals],
      "published": [variant._asdict() for variant in self.variants],
      "l2_budgets": [
        {"bytes": size, "is_default": size == self.l2_bytes, **cycles}
        for size, cycles in self.budgets.items()
      ],
    }


# ---- What a profile says in words


def answer(profile: Profile) -> str:
  """The profile in two or three sentences."""
  low = profile.uniform[1]
  eight, four, free = map(profile.whole, ("8/8", low, f"{low}+FB"))
  clock = profile.constant("frequency_hz")
  macs = sum(c.macs for c in profile.own["8/8"])
  own = [w for w in profile.wholes if w.target == profile.target]
  best = min(own, key=lambda w: w.cycles)
  sentence = (
    f"At 8 bits everywhere an image takes {eight.cycles:,} cycles on "
    f"{short(profile.target)}: {eight.cycles / clock * 1e3:,.1f} ms at "
    f"{clock / 1e6:g} MHz, {macs / eight.cycles:.2f} MAC/cycle. "
    f"{low} takes {more_or_less(four.change)}, and "
    f"{more_or_less(free.change)} than 8 bits once Free Bits has raised "
    f"{counted(free.raised, 'layer')}."
  )
  if best.name not in (low, f"{low}+FB"):
    sentence += f" Fastest is {best.name}: {more_or_less(best.change)}."
  sentence += _holds(profile)
  within = [i for i in profile.intervals if i.name == f"{low}+FB"]
  for found in within:
    sentence += (
      f" Within all that is assumed of the hardware {found.name} changes 8 "
      f"bits by {found.change_median:+.1%} ({found.change_low:+.1%} to "
      f"{found.change_high:+.1%}) in the middle (90 %) of draws."
    )
  return sentence


def _holds(profile: Profile) -> str:
  """Over which sizes of L2 the answer holds, and what it is beside them."""
  low = f"{profile.uniform[1]}+FB"
  rows = plateaus(profile.budgets)
  place = next((i for i, p in enumerate(rows) if p.has(profile.l2_bytes)), None)
  if place is None or len(rows) < 2:
    return ""
  here = rows[place]
  every = [row.changes[low] for row in rows if row.changes]
  beside = [
    f"{rows[i].changes[low]:+.1%} with {'less' if i < place else 'more'}"
    for i in (place - 1, place + 1)
    if 0 <= i < len(rows) and rows[i].changes
  ]
  return (
    f" That holds to half a point from {here.first / 1e3:g} to "
    f"{here.last / 1e3:g} kB of L2 for tensors"
    + (f"; it is {', '.join(beside)}" if beside else "")
    + f", and {min(every):+.1%} to {max(every):+.1%} over all sizes tried."
  )


def statements(profile: Profile) -> list[tuple[str, str, dict[str, float]]]:
  """Claims of the hardware's papers, and what this profile says to each.

  Of PULP clusters three of the Free Bits slides, of NE16 three of its facts.

  Each is (claim, finding, its numbers by name: change of cycles of a kind of
  layers at 8/4, of its speed at 4/4, and what is faster at more bits).
  """

  if profile.has_engine:
    return _of_ne16(profile)

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
  return [narrow, depthwise, _raises(profile)]


def _raises(profile: Profile) -> tuple[str, str, dict[str, float]]:
  """What is faster at more bits."""
  numbers, parts = {}, []
  for start in profile.uniform[1:]:
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
  return "Some layers run faster at higher precision", said, numbers


def _of_ne16(profile: Profile) -> list[tuple[str, str, dict[str, float]]]:
  """What is said of NE16 (docs/facts/ne16.md 0 and 1)."""
  least, most = profile.uniform[-1], profile.uniform[0]
  pairs = list(zip(profile.own[most], profile.own[least], strict=True))

  def of(part, *engines):
    """{engine: part of the layers at the fewest bits over that at 8}."""
    found = {}
    for engine in engines:
      sums = [
        sum(
          getattr(pair[i], part) for pair in pairs if pair[0].engine == engine
        )
        for i in (0, 1)
      ]
      if sums[0]:
        found[f"{engine} {part}"] = round(sums[1] / sums[0], 4)
    return found

  bits = least.partition("/")[2]
  scaled = of("compute", "NE16 3x3", "NE16 depthwise", "NE16 linear")
  at_once = of("compute", "NE16 1x1") | of("cycles", "NE16 1x1")
  on_cores = of("cycles", "cores")
  eight = profile.own[most]
  share = sum(c.cycles for c in eight if c.engine == "cores")
  share /= sum(c.cycles for c in eight)

  def told(numbers, nothing):
    if not numbers:
      return nothing
    parts = ", ".join(f"{name} {ratio:.2f}" for name, ratio in numbers.items())
    return f"With {bits}-bit weights over 8-bit ones: {parts}."

  return [
    (
      "3x3, depthwise and linear jobs get shorter with every bit of weights",
      told(scaled, "This network has no such layers."),
      scaled,
    ),
    (
      "1x1 jobs read all bits of a weight at once",
      told(at_once, "This network has no such layers.")
      + " Fewer bits save their transfers alone." * bool(at_once),
      at_once,
    ),
    (
      "What NE16 cannot run falls back to the cores, at 8 bits",
      f"{share:.1%} of the cycles at 8/8 are the cores'.",
      on_cores | {"share of 8/8": round(share, 4)},
    ),
    _raises(profile),
  ]
