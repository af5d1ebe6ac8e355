"""What a shootout can be set to, and every check of it before training."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.experiments import (
  fine_tuning,
  settings,
  stage_settings,
  strategies,
  task,
)
from fbq.experiments.stage_settings import STAGE, Demand
from fbq.search import problem, solve
from hwsim.pulp import get_target, latency_table

SETTINGS = {
  **stage_settings.SETTINGS,
  "seeds": list,
  "target": str,
  "strategies": dict,
  "search": {
    **STAGE,
    "range_learning_rate": float,
    "range_bits": int,
    "temperature": list,
    "budget_strength": float,
  },
  "fine_tuning": {**STAGE, "range_learning_rate": float},
  "qat": fine_tuning.SETTINGS,
  "budgets": list,
  "least_accuracy": float,
}
_STRATEGY = {"settings": list, "gate_learning_rate": float}
_CHOICE = {"settings": list}


def check(config: ConfigDict) -> tuple[nets.Net, task.Task]:
  """The network and the task of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  stages = ("float_training", "search", "fine_tuning")
  stage_settings.require(config, stage_settings.demands(config, stages))
  stage_settings.require(config, _demands(config))
  stage_settings.require(config, fine_tuning.demands(config.qat))
  net = stage_settings.build_net(config)
  data = task.build(config, net)
  try:
    target = get_target(config.target)
    cycles = latency_table(net.workload, target).for_output_bits(8)
  except ValueError as error:
    raise settings.ConfigError(str(error)) from error
  makers = strategies.searchers(net, cycles)
  known = {name: _STRATEGY for name in makers}
  known |= {name: _CHOICE for name in strategies.VALUE_TEXTS}
  given = config.strategies.to_dict()
  template = {name: known[name] for name in given if name in known}
  settings.check_keys(given, template or known, "config.strategies")
  least = solve.least(problem.make(net.workload, {"cycles": cycles}))
  share = least.costs["cycles"][0] / cycles[:, -1, -1].sum()
  stage_settings.require(
    config, _demands_of_strategies(config, makers, float(share))
  )
  return net, data


def _demands(config: ConfigDict) -> Iterator[Demand]:
  seeds, search = config.seeds, config.search
  whole = all(isinstance(s, int) and stage_settings.is_seed(s) for s in seeds)
  different = bool(seeds) and len(set(seeds)) == len(seeds)
  yield "seeds", whole and different, "different whole numbers, 0 to 2^32 - 1"
  bits = precision.BITS
  yield "search.range_bits", search.range_bits in bits, f"one of {bits}"
  temperature = search.temperature
  pair = len(temperature) == 2 and all(_is_positive(t) for t in temperature)
  yield "search.temperature", pair, "two positive numbers, first and last"
  is_strong = _is_positive(search.budget_strength)
  yield "search.budget_strength", is_strong, "a positive number"
  for stage in ("float_training", "search", "fine_tuning"):
    is_whole = isinstance(config[stage].steps, int)  # budgets are in steps
    yield f"{stage}.steps", is_whole, "a whole number of steps"
  shares = all(_is_share(b) for b in config.budgets) and bool(config.budgets)
  yield "budgets", shares, "shares of the cycles at 8 bits, above 0, at most 1"
  yield "least_accuracy", 0 <= config.least_accuracy < 1, "in [0, 1)"


def _demands_of_strategies(config, makers, least) -> Iterator[Demand]:
  """What strategies ask; nothing takes less than a share `least` of cycles."""
  needed = strategies.GATES not in config.strategies
  needed = needed or "free-bits" in config.strategies
  yield "strategies", needed, "free-bits with gates-exact, which uses its gates"
  for name, plan in config.strategies.items():
    is_budget = name not in makers or name.endswith("-budget")
    sound = bool(plan.settings) and all(
      _is_positive(s) and (not is_budget or least <= s <= 1)
      for s in plan.settings
    )
    expected = "positive numbers"
    if is_budget:
      expected = f"shares of the cycles at 8 bits, {least:.1%} to 100 %"
    yield f"strategies.{name}.settings", sound, expected
    labels = {f"{s:.0%}" if is_budget else f"{s:g}" for s in plan.settings}
    different = len(labels) == len(plan.settings)
    expected = "settings that differ by 1 % or in six digits"
    yield f"strategies.{name}.settings", different, expected
    if name in makers:
      is_rate = _is_positive(plan.gate_learning_rate)
      rate = f"strategies.{name}.gate_learning_rate"
      yield rate, is_rate, "a positive number"


def _is_positive(value):
  return stage_settings.is_number(value) and 0 < value < float("inf")


def _is_share(value):
  return _is_positive(value) and value <= 1
