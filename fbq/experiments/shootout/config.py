"""What a shootout can be set to, and its checks before any training."""

from typing import Annotated

from pydantic import Field

from fbq import doors, precision
from fbq.config import Check, Positive, Settings, brought, require
from fbq.lab import fine_tuning
from fbq.lab.lab import Lab
from fbq.lab.settings import (
  BelowOne,
  Bits,
  FineTuning,
  OnTarget,
  Qat,
  Seeds,
  Stage,
  Training,
)
from fbq.lab.strategies import Search, Strategy, Valuation
from fbq.search import problem, solve

_Whole = Annotated[int, Field(ge=1, le=10**9)]  # budgets are in steps
Budget = Annotated[float, Field(gt=0, le=1)]


class FloatTraining(Stage):
  """Training of the float network."""

  steps: _Whole = 2000
  "Steps of the stage."


class SearchStage(Stage):
  """What all searches by training share."""

  steps: _Whole = 200
  "Steps of the stage, which a strategy without a search may fine-tune more."
  range_learning_rate: Positive = 0.01
  "Rate of ranges, where a strategy learns them."
  range_bits: Bits = 4
  "Bits at which the ranges of activations are calibrated for the searches."
  temperature: tuple[Positive, Positive] = (1.0, 0.1)
  "First and last temperature of what is soft."
  budget_strength: Positive = 10.0
  "Strength of the penalty on cycles above a budget."


class Tuning(FineTuning):
  """Training of every assignment."""

  steps: _Whole = 200
  "Steps of the stage, after a search."


class Plan(Settings):
  """How a strategy is tried."""

  strategy: str = ""
  "Strategy: a short name, or 'package.module:attribute'; '': as it is called."
  settings: tuple[Positive, ...]
  "Strengths of its penalty, or budgets, as shares of the cycles at 8 bits."
  gate_learning_rate: Positive = 0.05
  "Rate of the gates, constant."


class Shootout(OnTarget, Training):
  """Strategies against each other."""

  seeds: Seeds = (0, 1, 2)
  "Seeds; all is done once for each."
  float_training: FloatTraining = FloatTraining(
    learning_rate=0.05, weight_decay=1e-4
  )
  "Training of the float network."
  search: SearchStage = SearchStage(learning_rate=5e-3)
  "Searches by training."
  strategies: Annotated[dict[str, Plan], Check(bool, "at least one strategy")]
  "What is tried, by name."
  fine_tuning: Tuning = Tuning()
  "Training of every assignment from the float network."
  qat: Qat = Qat()
  "Rule of that training."
  budgets: Annotated[
    tuple[Budget, ...],
    Check(bool, "shares of the cycles at 8 bits, above 0 to 1"),
  ] = (0.78, 0.84, 0.9)
  "Latencies at which accuracies are compared."
  least_accuracy: BelowOne = 0.9
  "Accuracy below which an assignment covers no area."


def check(settings: Shootout, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  fine_tuning.recipe_of(settings.qat)
  _, costs, workload = lab.task, lab.costs, lab.net.workload
  choice = problem.make(workload, {"cycles": costs.cycles})
  fewest = solve.least(choice).costs["cycles"][0]
  eight = costs.total(workload, precision.uniform(lab.net, 8))
  least = float(fewest / eight)
  given = strategies_of(settings)
  for name, strategy in given.items():
    where = f"strategies.{name}"
    needed = strategy.needs if isinstance(strategy, Valuation) else ""
    require(
      not needed or needed in given,
      "strategies",
      tuple(given),
      f"{needed} with {name}, which uses its gates",
    )
    values = settings.strategies[name].settings
    enough = bool(values)
    takes = "positive numbers"
    if strategy.has_budget:
      enough = enough and all(least <= share <= 1 for share in values)
      takes = f"shares of the cycles at 8 bits, {least:.1%} to 100 %"
    require(enough, f"{where}.settings", values, takes)
    labels = {label(value, strategy.has_budget) for value in values}
    require(
      len(labels) == len(values),
      f"{where}.settings",
      values,
      "settings that differ by 1 % or in six digits",
    )


def strategies_of(settings: Shootout) -> dict[str, Strategy]:
  """The strategies by name, one's own last; ConfigError for none that is."""
  known = list(doors.KNOWN["strategy"])
  own = [name for name in settings.strategies if name not in known]
  found = {}
  for name in (*known, *own):
    if name not in settings.strategies:
      continue
    plan = settings.strategies[name]
    setting = f"strategies.{name}"
    found[name] = brought("strategy", plan.strategy or name, setting)
    require(
      isinstance(found[name], (Search, Valuation)),
      f"{setting}.strategy",
      plan.strategy,
      "the name of a fbq.lab.strategies.Search or Valuation",
    )
  return found


def label(setting: float, has_budget: bool) -> str:
  """What a strategy was asked for, in words."""
  if has_budget:
    return f"{setting:.0%} of cycles"
  return f"strength {setting:g}"
