"""Strategies against each other: the same budget of training, several seeds.

Every strategy is judged by its own assignments and the uniform 8-bit network,
which everyone has; differences between strategies are taken within a seed.
"""

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import pydantic

from fbq.report import means
from fbq.report.means import Mean
from fbq.report.records import Fraction
from fbq.search import pareto

BASELINE = "uniform"


@pydantic.dataclasses.dataclass(frozen=True)
class Tuned:
  """One assignment that a strategy found, fine-tuned.

  Attributes:
    strategy: name of the strategy that found it.
    seed: seed of training, search and fine-tuning.
    setting: what the strategy was asked for, e.g. "0.006" or "80 %".
    cycles: per image.
    accuracy: on the test set, 0 to 1.
    precision: bits of every site.
    otherwise: what outputs timed the other way would change, see
      `fbq.lab.costs.Costs`.
  """

  strategy: str
  seed: int
  setting: str
  cycles: pydantic.PositiveInt
  accuracy: Fraction
  precision: Mapping[str, int]
  otherwise: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Standing:
  """How a strategy did.

  Attributes:
    strategy: its name.
    best: per budget, the best accuracy within it; None where no seed has any
      assignment that fast.
    hypervolume: see `pareto.hypervolume`.
    behind: hypervolume of the leader minus its own, within seeds.
    search_steps: cost of one search in steps of float training.
    assignments: different ones it found, over all seeds.
  """

  strategy: str
  best: tuple[Mean | None, ...]
  hypervolume: Mean
  behind: Mean
  search_steps: float
  assignments: int

  @property
  def is_level(self) -> bool:
    """Whether a t-test at 95 % on differences within seeds finds none."""
    from scipy import stats

    if self.behind.count < 2:
      return True
    quantile = stats.t.ppf(0.975, self.behind.count - 1)
    return not self.behind.value > quantile * self.behind.error


def standings(
  outcomes: Sequence[Tuned],
  budgets: Sequence[float],
  least_accuracy: float,
  search_steps: Mapping[str, float],
) -> list[Standing]:
  """Every strategy, the largest mean hypervolume first.

  Args:
    outcomes: assignments of all strategies and seeds; those of "uniform" and
      setting "8/8" are the reference.
    budgets: latencies as shares of the reference's cycles.
    least_accuracy: below it, an assignment covers no area.
    search_steps: by strategy.

  Raises:
    ValueError: a seed has no reference, or a strategy lacks a seed.
  """
  by_strategy = collections.defaultdict(lambda: collections.defaultdict(list))
  for outcome in outcomes:
    by_strategy[outcome.strategy][outcome.seed].append(outcome)
  seeds = sorted({outcome.seed for outcome in outcomes})
  reference = {
    outcome.seed: outcome
    for outcome in outcomes
    if outcome.strategy == BASELINE and outcome.setting == "8/8"
  }
  for name, of_seed in by_strategy.items():
    missing = [s for s in seeds if s not in of_seed or s not in reference]
    if missing:
      raise ValueError(
        f"strategy {name!r}: seeds {missing} lack its outcomes or the 8/8 "
        "baseline, expected both for every seed"
      )
  volumes, rows = {}, {}
  for name, of_seed in by_strategy.items():
    both = {s: [reference[s], *of_seed[s]] for s in seeds}
    volumes[name] = [
      pareto.hypervolume(
        [o.cycles for o in both[s]],
        [o.accuracy for o in both[s]],
        reference[s].cycles,
        least_accuracy,
      )
      for s in seeds
    ]
    rows[name] = tuple(_best(both, reference, share) for share in budgets)
  order = sorted(volumes, key=lambda n: -statistics.fmean(volumes[n]))
  leader = volumes[order[0]]
  return [
    Standing(
      strategy=name,
      best=rows[name],
      hypervolume=means.mean(volumes[name]),
      behind=means.mean(
        [a - b for a, b in zip(leader, volumes[name], strict=True)]
      ),
      search_steps=search_steps.get(name, 0.0),
      assignments=len(
        {
          (o.seed, tuple(sorted(o.precision.items())))
          for group in by_strategy[name].values()
          for o in group
        }
      ),
    )
    for name in order
  ]


def _best(by_seed, reference, share) -> Mean | None:
  """Mean over seeds of the best accuracy within a share of the cycles."""
  found = []
  for seed, tuned in by_seed.items():
    most = share * reference[seed].cycles
    found += (
      [max(fast)]
      if (fast := [t.accuracy for t in tuned if t.cycles <= most])
      else []
    )
  return means.mean(found) if found else None


def verdict(standings_: Sequence[Standing], seeds: int) -> str:
  """Who wins, in plain words, and who cannot be told from the winner."""
  best, *others = standings_
  level = [s.strategy for s in others if s.is_level]
  text = (
    f"{best.strategy} covers the largest area, {best.hypervolume} % of the "
    "rectangle"
  )
  if seeds == 1:
    return f"{text}; one seed tells nothing about how sure that is."
  text += f" (mean of {seeds} seeds)"
  if not level:
    return f"{text}; every other strategy is behind, by a t-test at 95 %."
  return (
    f"{text}; a t-test at 95 % on differences within seeds does not tell it "
    f"from {', '.join(level)}."
  )
