"""What a Free Bits run can be set to, and every check of it before training."""

import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.experiments import fine_tuning, settings, stage_settings, task
from fbq.experiments.stage_settings import STAGE, Demand
from hwsim import latency_io
from hwsim.pulp import get_target, latency_table

SETTINGS = {
  **stage_settings.SETTINGS,
  "seed": int,
  "target": str,
  "measured_latency": str,
  "search": {
    **STAGE,
    "strengths": list,
    "locked": list,
    "gate_learning_rate": float,
    "range_bits": int,
    "faithful": bool,
  },
  "fine_tuning": {**STAGE, "range_learning_rate": float},
  "qat": fine_tuning.SETTINGS,
  "rules": list,
  "uniform_baselines": list,
  "tolerance": float,
}


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
    precision.apply_rules(net, precision.uniform(net, 8), config.rules)
    target = get_target(config.target)
    if config.measured_latency:
      latency_io.merge(
        latency_table(net.workload, target), config.measured_latency, 8
      )
  except (ValueError, OSError) as error:
    raise settings.ConfigError(str(error)) from error
  return net, data


def _demands(config: ConfigDict) -> Iterator[Demand]:
  """What is asked of this experiment's own settings."""
  bits = precision.BITS
  yield "seed", stage_settings.is_seed(config.seed), "0 to 2^32 - 1"
  search = config.search
  numbers = all(_is_strength(strength) for strength in search.strengths)
  yield "search.strengths", numbers, "numbers >= 0"
  names = {f"{strength:g}" for strength in search.strengths}
  different = len(names) == len(search.strengths)
  yield "search.strengths", different, "numbers that differ in six digits"
  switches = all(isinstance(locked, bool) for locked in search.locked)
  switches = switches and len(set(search.locked)) == len(search.locked)
  yield "search.locked", switches, "some of True and False"
  yield "search.range_bits", search.range_bits in bits, f"one of {bits}"
  pairs = all(_is_rule(rule) for rule in config.rules)
  yield "rules", pairs, "pairs (regular expression, bits)"
  yield from stage_settings.demands_of_baselines(config)


def _is_strength(value):
  return stage_settings.is_number(value) and 0 <= value < math.inf


def _is_rule(value):
  is_pair = isinstance(value, (list, tuple)) and len(value) == 2
  return is_pair and isinstance(value[0], str)
