"""Networks trained by one rule or several, and what they say of the rules."""

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fbq.report.means import Mean, mean


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
  """A network trained at given bits, and its test accuracies, 0 to 1.

  Attributes:
    method: name of the rule of training.
    seed: seed of everything that was drawn.
    float_accuracy: accuracy of the float network of the same seed.
    before: accuracy quantized, before training.
    after: accuracy after training.
  """

  method: str
  seed: int
  float_accuracy: float
  before: float
  after: float


class RuleMeans(NamedTuple):
  """A rule over its seeds.

  Attributes:
    method: name of the rule.
    before, after: accuracies before and after training.
    lost: accuracy that the float network has more, within seeds.
    behind: accuracy that the chosen rule has more, within seeds.
  """

  method: str
  before: Mean
  after: Mean
  lost: Mean
  behind: Mean


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
    return {
      "verdict": self.verdict,
      "float_accuracy": statistics.fmean(
        network.float_accuracy for network in self.trained
      ),
      "rules": {
        row.method: {
          name: {
            "mean": found.value,
            # JSON knows no NaN
            "standard_error": None if math.isnan(found.error) else found.error,
          }
          for name, found in row._asdict().items()
          if isinstance(found, Mean)
        }
        for row in self.means
      },
    }

  @property
  def words(self) -> str:
    """The precision, for people."""
    weights = f"{self.bits}-bit weights"
    activations = f"{self.activation_bits}-bit activations"
    if self.quantizes == "weights":
      return f"{weights} and float activations"
    if self.quantizes == "activations":
      return f"float weights and {activations}"
    return f"{weights} and {activations}"

  @property
  def float_mean(self) -> Mean:
    """Accuracy of the float networks."""
    by_seed = {n.seed: n.float_accuracy for n in self.trained}
    return mean([*by_seed.values()])

  @property
  def means(self) -> list[RuleMeans]:
    """Every rule, the chosen one first, then by mean accuracy.

    Raises:
      ValueError: a rule lacks a seed that another one has.
    """
    of_rule: dict[str, dict[int, TrainedNetwork]] = {}
    for network in self.trained:
      of_rule.setdefault(network.method, {})[network.seed] = network
    chosen = next(iter(self.rules))
    reference, rows = of_rule[chosen], []
    for method, of_seed in of_rule.items():
      if of_seed.keys() != reference.keys():
        raise ValueError(
          f"{method} has seeds {sorted(of_seed)}, expected {sorted(reference)}"
        )
      found = of_seed.values()
      rows.append(
        RuleMeans(
          method,
          mean([n.before for n in found]),
          mean([n.after for n in found]),
          mean([n.float_accuracy - n.after for n in found]),
          mean([reference[n.seed].after - n.after for n in found]),
        )
      )
    return sorted(rows, key=lambda r: (r.method != chosen, -r.after.value))

  @property
  def verdict(self) -> str:
    """What the chosen rule keeps, and whether another one does better."""
    chosen, *others = self.means
    seeds = chosen.after.count
    text = (
      f"{self.words} by {chosen.method}: {chosen.after} % of the test images, "
      f"{chosen.lost} points below the float network"
    )
    text += f" (mean of {seeds} seeds)." if seeds > 1 else " (one seed)."
    if not others:
      return text

    best = min(others, key=lambda row: row.behind.value)
    if best.behind.value >= 0:
      return f"{text} No other rule tried is better."
    gain = best.behind._replace(value=-best.behind.value)
    text += f" {best.method} is {gain} points better"
    if not math.isnan(gain.error) and gain.value < 2 * gain.error:
      text += ", less than two standard errors"
    return f"{text}."
