"""Networks after every recipe of the whitepaper, and what they say of it."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.experiments.whitepaper import claims
from fbq.experiments.whitepaper.cases import BY_NAME
from fbq.experiments.whitepaper.claims import Verdict
from fbq.ptq.folding import Spread


@dataclasses.dataclass(frozen=True)
class RecipeAccuracies:
  """A network after every recipe, over seeds.

  Attributes:
    net: name of the network.
    parameters: number of its parameters.
    accuracies: {name of a case: test accuracy of each seed}, float first.
    weight_bytes: {name of a case: bytes of all weights}, without biases.
    spreads: how unequal folding makes channels, for each seed.
    diverged: names of trainings that did, and count as chance.
  """

  net: str
  parameters: int
  accuracies: dict[str, tuple[float, ...]]
  weight_bytes: dict[str, int]
  spreads: tuple[tuple[Spread, ...], ...]
  diverged: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class WhitepaperTables:
  """The whitepaper's tables of one network, and its other widths.

  Attributes:
    builder: name of its builder, by which the whitepaper's is found.
    seeds: seeds behind every number.
    network: the network of the tables.
    widths: the network by width, at 8 and 4 bits.
    assumptions: sentences about what the numbers rest on.
  """

  builder: str
  seeds: tuple[int, ...]
  network: RecipeAccuracies
  widths: dict[float, RecipeAccuracies]
  assumptions: tuple[str, ...]

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first: a row for each seed and case."""
    yield (
      *("net", "case", "method", "weight_bits", "activation_bits", "form"),
      *("per_channel", "folded", "weight_bytes", "seed", "accuracy"),
    )
    rows: dict[tuple, None] = {}  # each once: a width may be the network's own
    for found in (self.network, *self.widths.values()):
      for name, accuracies in found.accuracies.items():
        case = found.net, name, *BY_NAME[name], found.weight_bytes[name]
        for seed, accuracy in zip(self.seeds, accuracies, strict=True):
          rows[(*case, seed, accuracy)] = None
    yield from rows

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return {
      "net": self.network.net,
      "builder": self.builder,
      "seeds": self.seeds,
      "parameters": self.network.parameters,
      "accuracies": self.network.accuracies,
      "diverged": self.network.diverged,
      "verdicts": {
        v.claim.title: {
          "points": 100 * v.ours.value,
          "standard_error": 100 * v.ours.error,
          "published": None if v.theirs is None else 100 * v.theirs,
          "is_above": v.is_above,
          "verdict": v.word,
        }
        for v in self.verdicts
      },
      "widths": {
        f"{w:g}": found.accuracies for w, found in self.widths.items()
      },
      "spreads": [
        [row._asdict() for row in rows] for rows in self.network.spreads
      ],
    }

  @functools.cached_property
  def verdicts(self) -> list[Verdict]:
    """Every claim of the whitepaper held against the network."""
    found = claims.verdicts(self.builder, self.network.accuracies)
    if len(self.widths) > 1:
      ends = min(self.widths), max(self.widths)
      found.append(
        claims.loses_more(
          (f"width {ends[0]:g}", f"width {ends[1]:g}"),
          (self.widths[ends[0]].accuracies, self.widths[ends[1]].accuracies),
        )
      )
    return found

  @property
  def answer(self) -> str:
    """How many findings of the whitepaper show here."""
    words, name = [v.word for v in self.verdicts if v.word], self.network.net
    agree, differ = words.count(claims.AGREES), words.count(claims.DIFFERS)
    if not words:
      return f"{name} has no counterpart in the whitepaper's tables."
    return (
      f"Of {len(words)} findings of the whitepaper, {agree} show on {name}, "
      f"{differ} do not, and the seeds do not decide "
      f"{len(words) - agree - differ}."
    )

  @property
  def why(self) -> str:
    """What one grid for a layer comes to here."""
    worst = [max(rows, key=lambda r: r.after) for rows in self.network.spreads]
    return (
      "Why one grid for a layer can fail: folding divides each channel by the "
      "root of its variance. In the worst layer of each seed the widest "
      "channel then has "
      + ", ".join(
        f"{row.after:.3g} times the range of the median one ({row.layer}, seed "
        f"{seed}: {row.before:.2g} before folding; variance {row.variance:.1g};"
        f" {row.lost:.0%} of the channels become zeros in 8 bits)"
        for seed, row in zip(self.seeds, worst, strict=True)
      )
      + "."
    )
