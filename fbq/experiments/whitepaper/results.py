"""Networks after every recipe of the whitepaper, and what they say of it."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.experiments.whitepaper import claims
from fbq.experiments.whitepaper.cases import case_of
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
        case = found.net, name, *case_of(name), found.weight_bytes[name]
        for seed, accuracy in zip(self.seeds, accuracies, strict=True):
          rows[(*case, seed, accuracy)] = None
    yield from rows

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    network = self.network
    return {
      "net": network.net,
      "builder": self.builder,
      "seeds": self.seeds,
      "parameters": network.parameters,
      "accuracies": network.accuracies,
      "diverged": network.diverged,
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
      "widths": {f"{w:g}": n.accuracies for w, n in self.widths.items()},
      "spreads": [[row._asdict() for row in rows] for rows in network.spreads],
    }

  @functools.cached_property
  def verdicts(self) -> list[Verdict]:
    """Every claim of the whitepaper held against the network."""
    found = claims.verdicts(self.builder, self.network.accuracies)
    if len(self.widths) > 1:
      ends = (
        (f"width {width:g}", "", self.widths[width].accuracies)
        for width in (min(self.widths), max(self.widths))
      )
      found.append(claims.loses_more(*ends))
    return found

  @property
  def answer(self) -> str:
    """How many findings of the whitepaper show here."""
    words, name = [v.word for v in self.verdicts if v.word], self.network.net
    if not words:
      return f"{name} has no counterpart in the whitepaper's tables."
    return (
      f"Of {len(words)} findings of the whitepaper, "
      f"{words.count(claims.AGREES)} show on {name}, "
      f"{words.count(claims.DIFFERS)} do not, and the seeds do not decide "
      f"{words.count(claims.OPEN)}."
    )
