"""What the exact choice can be set to, and its checks before any training."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.experiments import fine_tuning, settings, stage_settings, task
from fbq.experiments.stage_settings import STAGE, Demand
from fbq.search import constraints, exact, problem
from hwsim import latency_io
from hwsim.latency_table import LatencyTable
from hwsim.pulp import Target, get_target, latency_table

SETTINGS = {
  **stage_settings.SETTINGS,
  "seed": int,
  "target": str,
  "measured_latency": str,
  "value": str,
  "budgets": list,
  "limits": dict,
  "bounds": list,
  "ties": list,
  "fine_tuning": {**STAGE, "range_learning_rate": float},
  "qat": fine_tuning.SETTINGS,
  "uniform_baselines": list,
  "tolerance": float,
}
LIMITS = (problem.SIZE, problem.PEAK)
HARMS = ("kl", "loss", "mse")  # attributes of `sensitivity.OutputChange`


class Setup(NamedTuple):
  """What a sound configuration stands for.

  Attributes:
    net, task, target: of the experiment.
    table: of the latency of `net` on `target`.
    problem: a function {site: {bits: value}} -> `problem.Problem`.
    eight_cycles: of uniform 8 bits.
  """

  net: nets.Net
  task: task.Task
  target: Target
  table: LatencyTable
  problem: Callable[[Any], problem.Problem]
  eight_cycles: int


def check(config: ConfigDict) -> Setup:
  """The setup of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault; of limits that cannot be met, what
      could be.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  stages = ("float_training", "fine_tuning")
  stage_settings.require(config, stage_settings.demands(config, stages))
  stage_settings.require(config, _demands(config))
  stage_settings.require(config, fine_tuning.demands(config.qat))
  net = stage_settings.build_net(config)
  data = task.build(config, net)
  try:
    target = get_target(config.target)
    table = latency_table(net.workload, target)
    if config.measured_latency:
      table = latency_io.merge(table, config.measured_latency, 8)
    cycles = table.for_output_bits(8)
  except (ValueError, OSError) as error:
    raise settings.ConfigError(str(error)) from error
  ties = [tie if isinstance(tie, str) else list(tie) for tie in config.ties]
  groups = _named("ties", constraints.tie, net.workload, ties)
  _named(
    "bounds", constraints.allowed_bits, net.workload, groups, config.bounds
  )

  def make(value):
    return problem.make(
      net.workload,
      {"cycles": cycles},
      value,
      bounds=config.bounds,
      ties=ties,
      limits=config.limits.to_dict(),
    )

  start = make(None)
  eight = problem.evaluate(start, precision.uniform(net, 8))
  eight_cycles = int(eight.costs["cycles"][0])
  share = min(config.budgets)
  _named(
    f"budgets of {share:g} x {eight_cycles} cycles, under config.limits, "
    "bounds and ties",
    exact.best_value,
    start,
    [int(share * eight_cycles)],
  )
  return Setup(net, data, target, table, make, eight_cycles)


def _named(setting: str, function: Callable, *arguments):
  """What the function gives, or its ValueError with the setting's name."""
  try:
    return function(*arguments)
  except ValueError as error:
    raise settings.ConfigError(f"config.{setting}: {error}") from error


def _demands(config: ConfigDict) -> Iterator[Demand]:
  yield "seed", stage_settings.is_seed(config.seed), "0 to 2^32 - 1"
  yield "value", config.value in HARMS, "'kl', 'loss' or 'mse'"
  shares = [
    b for b in config.budgets if stage_settings.is_number(b) and 0 < b <= 1
  ]
  sound = 0 < len(shares) == len(config.budgets)
  sound = sound and len({f"{b:.0%}" for b in shares}) == len(shares)
  expected = "shares of the cycles at 8 bits, in (0, 1], 1 % apart"
  yield "budgets", sound, expected
  limits = config.limits.to_dict()
  known = all(
    name in LIMITS and type(n) is int and n > 0 for name, n in limits.items()
  )
  yield "limits", known, f"whole bytes of {' or '.join(LIMITS)}"
  bounds = all(
    isinstance(b, (list, tuple)) and list(map(type, b)) == [str, int, int]
    for b in config.bounds
  )
  yield "bounds", bounds, "triples (regular expression, least bits, most bits)"
  ties = all(
    isinstance(tie, str)
    or (isinstance(tie, (list, tuple)) and all(isinstance(s, str) for s in tie))
    for tie in config.ties
  )
  yield "ties", ties, "regular expressions, or lists of tensors"
  yield from stage_settings.demands_of_baselines(config)
