"""Networks trained by one rule or several, and what they say of the rules."""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fbq.report.means import Mean, mean
from fbq.report.sentences import points_below


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
  """A network trained by a rule, and its test accuracies, 0 to 1.

  Attributes:
    method: name of the rule of training.
    seed: seed of everything that was drawn.
    float_accuracy: accuracy of the float network of the same seed.
    before, after: accuracies quantized, before and after training.
  """

  method: str
  seed: int
  float_accuracy: float
  before: float
  after: float


class RuleMeans(NamedTuple):
  """Accuracies of a rule over seeds, and differences within seeds."""

  before: Mean
  after: Mean
  lost: Mean  # against float
  behind: Mean  # the chosen rule


@dataclasses.dataclass(frozen=True)
class TrainedNetworks:
  """A network trained by every rule and seed at the same bits.

  Attributes:
    network: name for the reader.
    bits, activation_bits: bits of weights and of activations.
    quantizes: "both", "weights" or "activations"; the other is in float.
    rules: {name of a rule: what it does}, the chosen one first.
    trained: every network, by seed and rule.
    assumptions: sentences about what the numbers rest on.
  """

  network: str
  bits: int
  activation_bits: int
  quantizes: str
  rules: dict[str, str]
  trained: tuple[TrainedNetwork, ...]
  assumptions: tuple[str, ...]

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first; accuracies in full."""
    names = [field.name for field in dataclasses.fields(TrainedNetwork)]
    yield *names, "bits", "activation_bits"
    for network in self.trained:
      yield *dataclasses.astuple(network), self.bits, self.activation_bits

  def summary(self) -> dict[str, Any]:
    """What result.json says."""

    def plain(mean: Mean) -> dict[str, float | None]:
      error = None if math.isnan(mean.error) else mean.error
      return {"mean": mean.value, "standard_error": error}

    return {
      "verdict": self.verdict,
      "float_accuracy": statistics.fmean(
        n.float_accuracy for n in self.trained
      ),
      "rules": {
        method: {name: plain(mean) for name, mean in row._asdict().items()}
        for method, row in self.means.items()
      },
    }

  @property
  def words(self) -> str:
    """The precision, for people."""
    weights, activations = (
      f"{bits}-bit" if self.quantizes in ("both", kind) else "float"
      for kind, bits in (
        ("weights", self.bits),
        ("activations", self.activation_bits),
      )
    )
    return f"{weights} weights and {activations} activations"

  @property
  def float_mean(self) -> Mean:
    """Accuracy of the float networks."""
    by_seed = {n.seed: n.float_accuracy for n in self.trained}
    return mean([*by_seed.values()])

  @property
  def means(self) -> dict[str, RuleMeans]:
    """Every rule, the chosen one first, then by mean accuracy."""
    chosen, rows = next(iter(self.rules)), {}
    best = {n.seed: n.after for n in self.trained if n.method == chosen}
    for method in self.rules:
      found = [n for n in self.trained if n.method == method]
      rows[method] = RuleMeans(
        mean([n.before for n in found]),
        mean([n.after for n in found]),
        mean([n.float_accuracy - n.after for n in found]),
        mean([best[n.seed] - n.after for n in found]),
      )
    order = sorted(rows, key=lambda m: (m != chosen, -rows[m].after.value))
    return {method: rows[method] for method in order}

  @property
  def verdict(self) -> str:
    """What the chosen rule keeps, and whether another one does better."""
    (method, chosen), *others = self.means.items()
    seeds = chosen.after.count
    text = (
      f"{self.words} by {method}: {chosen.after} % of the test images, "
      f"{points_below(chosen.lost)} the float network "
    )
    text += f"(mean of {seeds} seeds)." if seeds > 1 else "(one seed)."
    if not others:
      return text

    name, best = min(others, key=lambda other: other[1].behind.value)
    gain = best.behind._replace(value=-best.behind.value)
    if gain.value <= 0:
      return f"{text} No other rule tried is better."
    text += f" {name} is {gain} points better"
    if gain.count > 1 and not gain.is_told_from_zero:
      text += ", not told apart at 95 %"
    return f"{text}."
