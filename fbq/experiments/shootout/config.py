"""What a shootout can be set to, and its checks before any training."""

from typing import Annotated, Literal

from pydantic import Field

from fbq import doors, precision
from fbq.config import Check, Positive, Settings, Share, brought, require
from fbq.lab import fine_tuning
from fbq.lab.lab import Lab
from fbq.lab.settings import (
  Aim,
  BelowOne,
  Bits,
  Bracket,
  FineTuning,
  OnTarget,
  Qat,
  Seeds,
  Stage,
  Targets,
  Training,
)
from fbq.lab.strategies import Order, Search, Strategy, Valuation
from fbq.search import problem, solve

_Whole = Annotated[int, Field(ge=1, le=10**9)]  # budgets are in steps


class FloatTraining(Stage):
  """Training of the float network."""

  steps: _Whole = 2000
  "Steps of the stage."


class SearchStage(Stage):
  """What all searches by training share."""

  steps: _Whole = 200
  "Steps of one search."
  range_learning_rate: Positive = 0.01
  "Rate of ranges, where a strategy learns them."
  range_bits: Bits = 4
  "Bits at which the ranges of activations are calibrated for the searches."
  temperature: tuple[Positive, Positive] = (1.0, 0.1)
  "First and last temperature of what is soft."
  budget_strength: Positive = 10.0
  "Strength of the penalty on cycles above a budget."
  searches: int = Field(5, ge=1, le=50)
  "Most searches for a budget, where a strength leads to it."
  tolerance: Share = 0.02
  "Cycles below a budget at which it is met, as a share of those at 8 bits."


class Tuning(FineTuning):
  """Training of every assignment, the same for all strategies."""

  steps: _Whole = 200
  "Steps of the stage."
  start: Literal["float", "search"] = "float"
  "Weights and ranges that it starts from: those of the float network, or \
  those that a search trained, where there was one."


class Plan(Settings):
  """How a strategy is tried."""

  strategy: str = ""
  "Strategy: a short name, or 'package.module:attribute'; '': as it is called."
  bracket: Bracket = (1e-4, 1e2)
  "Strengths of its penalty between which those for all budgets lie."
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
  budgets: Targets = (0.78, 0.84, 0.9)
  "Latencies at which accuracies are compared, as shares of the cycles at 8 \
  bits; every strategy has one assignment for each."
  least_accuracy: BelowOne = 0.9
  "Accuracy below which an assignment covers no area."


def check(settings: Shootout, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  fine_tuning.recipe_of(settings.qat)
  require(
    settings.fine_tuning.start == "float" or not settings.qat.distillation,
    "qat.distillation",
    settings.qat.distillation,
    "0 with config.fine_tuning.start='search': the teacher is the network that "
    "training starts from",
  )
  _, costs, workload = lab.task, lab.costs, lab.net.workload
  choice = problem.make(workload, {"cycles": costs.cycles}, ladder=lab.ladder)
  fewest = solve.least(choice).costs["cycles"][0]
  eight = costs.total(workload, precision.uniform(lab.net, 8))
  least = float(fewest / eight)
  require(
    least <= min(settings.budgets),
    "budgets",
    settings.budgets,
    f"shares of the cycles at 8 bits, {least:.1%} to 100 %",
  )

  # Some look at what the searches of others came to.
  given = strategies_of(settings)
  for name, strategy in given.items():
    match strategy:
      case Valuation(needs=needed) | Order(like=needed) if needed:
        require(
          isinstance(given.get(needed), Search),
          "strategies",
          tuple(given),
          f"{needed} with {name}, which uses its gates",
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
      isinstance(found[name], (Search, Valuation, Order)),
      f"{setting}.strategy",
      plan.strategy,
      "the name of a fbq.lab.strategies.Search, Valuation or Order",
    )
  return found


def aim_of(settings: Shootout, plan: Plan) -> Aim:
  """How strengths of a strategy's penalty are found for all budgets."""
  return Aim(
    targets=settings.budgets,
    at_most=True,
    bracket=plan.bracket,
    searches=settings.search.searches,
    tolerance=settings.search.tolerance,
  )
