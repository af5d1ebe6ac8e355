"""What a run of the whitepaper's tables can be set to, and its checks."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from fbq import nets
from fbq.experiments import settings, stage_settings, task
from fbq.experiments.stage_settings import STAGE, Demand

SETTINGS = {
  **stage_settings.SETTINGS,
  "seeds": list,
  "qat": {**STAGE, "freeze_share": float},
  "widths": list,
}


class Setup(NamedTuple):
  """What a sound configuration stands for.

  Attributes:
    net: of the tables.
    task: of all networks.
    widths: width -> the network of that width.
  """

  net: nets.Net
  task: task.Task
  widths: dict[float, nets.Net]


def check(config: ConfigDict) -> Setup:
  """The setup of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  stages = ("float_training", "qat")
  stage_settings.require(config, stage_settings.demands(config, stages))
  stage_settings.require(config, _demands(config))
  net = _free(stage_settings.build_net(config))
  widths = {}
  for width in config.widths:
    other = config.copy_and_resolve_references()
    with other.unlocked():
      other.net.arguments.width = width
    widths[width] = _free(stage_settings.build_net(other))
  return Setup(net, task.build(config, net), widths)


def _free(net: nets.Net) -> nets.Net:
  """`net` of which the image alone has bits that no table changes."""
  return dataclasses.replace(net, fixes_adders=False)


def _demands(config: ConfigDict) -> Iterator[Demand]:
  seeds, widths = config.seeds, config.widths
  whole = all(isinstance(s, int) and stage_settings.is_seed(s) for s in seeds)
  different = bool(seeds) and len(set(seeds)) == len(seeds)
  yield "seeds", whole and different, "different whole numbers, 0 to 2^32 - 1"
  is_share = 0 <= config.qat.freeze_share <= 1
  yield "qat.freeze_share", is_share, "a share of the steps, 0 to 1"
  sound = all(stage_settings.is_number(w) and w > 0 for w in widths)
  sound = sound and len(set(widths)) == len(widths)
  yield "widths", sound, "different positive numbers"
  takes_width = not widths or "width" in config.net.arguments
  expected = "() where net.arguments has no width"
  yield "widths", takes_width, expected
