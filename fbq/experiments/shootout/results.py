"""What a shootout came to: every assignment of every strategy, fine-tuned."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.experiments.shootout import standings
from fbq.experiments.shootout.standings import Tuned


@dataclasses.dataclass(frozen=True)
class Tried:
  """A strategy, for reports.

  Attributes:
    text: what it does.
    search_steps: cost of all its searches of a seed, in steps of float
      training.
    searches: how many searches these were, the mean over seeds.
  """

  text: str
  search_steps: float
  searches: float


@dataclasses.dataclass(frozen=True)
class Pass:
  """The hardware pass of one assignment: cycles before and after.

  Attributes:
    start: cycles before the pass.
    greedy: cycles after the greedy Free Bits pass.
    least: cycles after the exact one, which is used.
  """

  start: int
  greedy: int
  least: int


@dataclasses.dataclass(frozen=True)
class Outcomes:
  """Strategies against each other.

  Attributes:
    network, target: names for the reader.
    tuned: every assignment with its accuracy.
    tried: strategies by name.
    passes: hardware pass of every different assignment.
    seeds: seeds of the runs.
    float_accuracies: test accuracy of the float network, by seed.
    budgets: latencies at which accuracies are compared.
    least_accuracy: accuracy below which an assignment covers no area.
    assumptions: sentences about what the numbers rest on.
    warnings: sentences about searches that found nothing.
  """

  network: str
  target: str
  tuned: tuple[Tuned, ...]
  tried: dict[str, Tried]
  passes: tuple[Pass, ...]
  seeds: tuple[int, ...]
  float_accuracies: tuple[float, ...]
  budgets: tuple[float, ...]
  least_accuracy: float
  assumptions: tuple[str, ...]
  warnings: tuple[str, ...] = ()

  @property
  def standings(self) -> list[standings.Standing]:
    """Every strategy, the largest area first."""
    return standings.standings(
      self.tuned,
      self.budgets,
      self.least_accuracy,
      {name: tried.search_steps for name, tried in self.tried.items()},
    )

  def table(self) -> Iterator[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    sites = list(self.tuned[0].precision)
    columns = ["strategy", "seed", "setting", "cycles", "accuracy"]
    columns += ["error", "validation", "rank"]
    yield [*columns, *(f"bits:{site}" for site in sites)]
    for t in self.tuned:
      row = [t.strategy, t.seed, t.setting, t.cycles, repr(t.accuracy)]
      row += [repr(t.error), repr(t.validation), t.rank]
      yield [*row, *(t.precision[site] for site in sites)]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    rows = self.standings
    return {
      "verdict": standings.verdict(rows, len(self.seeds)),
      "float_accuracies": list(self.float_accuracies),
      "standings": {
        s.strategy: {
          "area": s.area._asdict(),
          "behind": s.behind._asdict(),
          "chance": s.chance,
          "control_chance": s.control_chance,
          "rank": s.rank,
          "search_steps": s.search_steps,
        }
        for s in rows
      },
      "warnings": list(self.warnings),
    }
