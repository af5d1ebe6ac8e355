"""Strategies against each other: equal training and points, several seeds.

Every strategy is judged by its own assignments and the uniform 8-bit network,
which everyone has. Within a budget that assignment counts which is best in
validation, with its accuracy on the test images. Differences between strategies
are taken within a seed, and tests are corrected by Holm: against the leader,
which the same areas pick, for all pairs of strategies; against the control,
which is set before, for its own.
"""

import collections
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import pydantic

from fbq.experiments.shootout.significance import holm, of_pairs, paired
from fbq.report import means
from fbq.report.means import Mean
from fbq.report.records import Fraction

BASELINE = "uniform"
CONTROL = "by-macs"
LEVEL = 0.05  # of a test


@pydantic.dataclasses.dataclass(frozen=True)
class Tuned:
  """One assignment that a strategy found, fine-tuned.

  Attributes:
    strategy: name of the strategy that found it.
    seed: seed of training, search and fine-tuning.
    setting: what the strategy was asked for, e.g. "84% of cycles".
    cycles: per image.
    accuracy: on the test set, 0 to 1.
    error: standard error of that, clustered by source image.
    validation: accuracy by which it is chosen among others.
    precision: bits of every site.
    rank: Spearman's correlation between the multiply-accumulates of tensors and
      the bits that were chosen for them, before the hardware pass; None where
      all bits are equal.
    otherwise: what outputs timed the other way would change, see
      `fbq.lab.costs.Costs`.
  """

  strategy: str
  seed: int
  setting: str
  cycles: pydantic.PositiveInt
  accuracy: Fraction
  error: pydantic.NonNegativeFloat
  validation: Fraction
  precision: Mapping[str, int]
  rank: float | None = None
  otherwise: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Standing:
  """How a strategy did.

  Attributes:
    strategy: its name.
    best: per budget, the accuracy of the assignment within it that is best in
      validation; None where no seed has any that fast.
    area: see `area`.
    behind: area of the leader minus its own, within seeds.
    chance: p of a paired t-test of that difference, corrected by Holm for all
      pairs of strategies; NaN for the leader and for one seed.
    over_control: its own area minus that of `CONTROL`, None without it.
    control_chance: p of that difference, corrected for all of the control's.
    search_steps: cost of all its searches in steps of float training.
    assignments: different ones it found, over all seeds.
    rank: mean of `Tuned.rank`.
  """

  strategy: str
  best: tuple[Mean | None, ...]
  area: Mean
  behind: Mean
  chance: float
  over_control: Mean | None
  control_chance: float
  search_steps: float
  assignments: int
  rank: float | None

  @property
  def is_level(self) -> bool:
    """Whether no test tells it from the leader."""
    return not self.chance < LEVEL

  @property
  def beats_control(self) -> bool:
    """Whether a test tells it from ranking by size, on the better side."""
    return (
      self.over_control is not None
      and self.over_control.value > 0
      and self.control_chance < LEVEL
    )


def area(
  tuned: Sequence[Tuned], reference_cycles: int, least_accuracy: float
) -> float:
  """Share of a rectangle that lies below the accuracies of what is deployed.

  The rectangle reaches from no cycles to `reference_cycles` and from
  `least_accuracy` to 1. At every number of cycles that network is deployed
  which is best in validation among those that fast, of equals the fastest; its
  accuracy on the test images counts, whether or not a faster one has more.
  """
  total, deployed = 0.0, None
  order = sorted(tuned, key=lambda one: (one.cycles, -one.validation))
  ends = [one.cycles for one in order[1:]] + [reference_cycles]
  for one, end in zip(order, ends, strict=True):
    if deployed is None or one.validation > deployed.validation:
      deployed = one
    width = min(end, reference_cycles) - min(one.cycles, reference_cycles)
    total += width * max(deployed.accuracy - least_accuracy, 0.0)
  return total / (reference_cycles * (1.0 - least_accuracy))


def standings(
  outcomes: Sequence[Tuned],
  budgets: Sequence[float],
  least_accuracy: float,
  search_steps: Mapping[str, float],
) -> list[Standing]:
  """Every strategy, the largest mean area first.

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
  areas: dict[str, list[float]] = {}
  rows = {}
  for name, of_seed in by_strategy.items():
    both = {s: [reference[s], *of_seed[s]] for s in seeds}
    areas[name] = [
      area(both[s], reference[s].cycles, least_accuracy) for s in seeds
    ]
    rows[name] = tuple(_best(both, reference, share) for share in budgets)
  order = sorted(areas, key=lambda n: -statistics.fmean(areas[n]))

  pairs, control_chances = of_pairs(areas), _to_control(areas)

  def difference(first, second):
    pairs = zip(areas[first], areas[second], strict=True)
    return means.mean([a - b for a, b in pairs])

  def rank(name):
    found = [
      o.rank
      for group in by_strategy[name].values()
      for o in group
      if o.rank is not None
    ]
    return statistics.fmean(found) if found else None

  return [
    Standing(
      strategy=name,
      best=rows[name],
      area=means.mean(areas[name]),
      behind=difference(order[0], name),
      chance=pairs.get(frozenset({order[0], name}), math.nan),
      over_control=difference(name, CONTROL) if CONTROL in areas else None,
      control_chance=control_chances[name],
      search_steps=search_steps.get(name, 0.0),
      assignments=len(
        {
          (o.seed, tuple(sorted(o.precision.items())))
          for group in by_strategy[name].values()
          for o in group
        }
      ),
      rank=rank(name),
    )
    for name in order
  ]


def _to_control(areas) -> dict[str, float]:
  """{strategy: corrected p} of its difference to the control; NaN for that."""
  names = [n for n in areas if n != CONTROL]
  if CONTROL not in areas:
    return dict.fromkeys(areas, math.nan)
  tested = holm([paired(areas[n], areas[CONTROL]) for n in names])
  return {CONTROL: math.nan, **dict(zip(names, tested, strict=True))}


def _best(by_seed, reference, share) -> Mean | None:
  """Mean over seeds of the accuracy of what is best in validation."""
  found = []
  for seed, tuned in by_seed.items():
    most = share * reference[seed].cycles
    if fast := [t for t in tuned if t.cycles <= most]:
      best = max(fast, key=lambda t: (t.validation, -t.cycles))
      found.append(best.accuracy)
  return means.mean(found) if found else None


def verdict(standings_: Sequence[Standing], seeds: int) -> str:
  """Who wins, in plain words, and who cannot be told from the winner."""
  best, *others = standings_
  if not round(100 * best.area.value, 2) > 0:
    return (
      "No strategy covers any area: none of their networks is more accurate "
      "than the least that counts, so nothing is told of them."
    )
  text = (
    f"{best.strategy} covers the largest area, {best.area} % of the rectangle"
  )
  if seeds == 1:
    return f"{text}; one seed tells nothing about how sure that is."
  text += f" (mean of {seeds} seeds)"
  level = [s.strategy for s in others if s.is_level]
  pairs = math.comb(len(standings_), 2)
  tests = f"paired t-tests at 95 %, corrected for all {pairs} pairs"
  if not level:
    return f"{text}; every other strategy is behind, by {tests}."
  return f"{text}; {tests}, do not tell it from {', '.join(level)}."


def about_control(standings_: Sequence[Standing], seeds: int) -> str:
  """Who does better than ranking tensors by size; "" without that control."""
  if seeds == 1 or not any(s.strategy == CONTROL for s in standings_):
    return ""
  better = [s.strategy for s in standings_ if s.beats_control]
  text = "Lowering the tensors of most multiply-accumulates first, "
  if not better:
    return text + "without any search, is told from no strategy above it."
  return text + f"without any search, is told from {', '.join(better)} alone."
