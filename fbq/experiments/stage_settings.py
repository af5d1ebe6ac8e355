"""What experiments that train can be set to, and its checks."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.experiments import pretrained, settings

# Beside these a stage has whatever its experiment adds.
STAGE = {
  "steps": (int, str),  # or "n epochs"
  "batch_size": int,
  "learning_rate": float,
  "weight_decay": float,
  "warmup": settings.Optional(float),  # see `fbq.train.optimizer.make`
  "drops": settings.Optional(list),
}

SETTINGS: dict[str, Any] = {
  "experiment": str,
  "net": {"builder": str, "arguments": dict},
  "data": dict,  # see `fbq.experiments.task`
  "float_training": STAGE,
  "float_checkpoint": settings.Optional(str),  # see `pretrained`
  "checkpoint_images": settings.Optional(list),
  "calibration_images": int,
  "checkpoint_every": int,
  "log_every": int,
}

Demand = tuple[str, bool, str]  # setting, whether it is met, what is expected


def require(config: ConfigDict, demands: Iterable[Demand]) -> None:
  """Raises ConfigError that names the first demand not met."""
  for name, is_met, expected in demands:
    value: Any = config
    for part in name.split("."):
      value = value.get(part)  # None: it was left out
    if isinstance(value, ConfigDict):
      value = value.to_dict()
    settings.require(is_met, name, value, expected)


def demands(config: ConfigDict, stages: Sequence[str]) -> Iterator[Demand]:
  """What can be said of `SETTINGS` and of stages without the network."""
  for name, count in (
    ("calibration_images", config.calibration_images),
    ("checkpoint_every", config.checkpoint_every),
    ("log_every", config.log_every),
  ):
    yield name, count >= 1, "at least 1"
  is_multiple = config.checkpoint_every % config.log_every == 0
  expected = f"a multiple of log_every, {config.log_every}"
  yield "checkpoint_every", is_multiple, expected
  normal = config.get("checkpoint_images") or ()
  sound = len(normal) in (0, 2) and all(len(part) == 3 for part in normal)
  yield "checkpoint_images", sound, "(mean, std) of three colours, or ()"
  for stage in stages:
    plan = config[stage]
    expected = "at least 1, or 'n epochs'"
    yield f"{stage}.steps", _is_length(plan.steps), expected
    yield f"{stage}.batch_size", plan.batch_size >= 2, "at least 2"
    for key, rate in plan.items():
      if key == "learning_rate":
        yield f"{stage}.{key}", 0 < rate < math.inf, "a positive number"
      elif key.endswith("learning_rate") or key == "weight_decay":
        yield f"{stage}.{key}", 0 <= rate < math.inf, "at least 0"
    yield f"{stage}.warmup", 0 <= plan.get("warmup", 0) < 1, "in [0, 1)"
    shares = [0, *plan.get("drops", ()), 1]
    rise = all(is_number(share) for share in shares)
    rise = rise and all(a < b for a, b in itertools.pairwise(shares))
    yield f"{stage}.drops", rise, "rising shares of the steps, in (0, 1)"


def steps_of(
  length: int | str, batch_size: int, images: Callable[[], int]
) -> int:
  """Steps that a stage takes.

  Args:
    length: a number of steps, or "n epochs" with any positive number n.
    batch_size: images of a step.
    images: () -> images of an epoch; asked only where it matters.

  Raises:
    ValueError: neither a number of steps nor of epochs.
  """
  number, _, unit = str(length).strip().partition(" ")
  try:
    if not unit and int(number) >= 1:
      return int(number)
    if unit in ("epoch", "epochs") and 0 < float(number) < math.inf:
      return max(1, round(float(number) * images() / batch_size))
  except ValueError:
    pass  # said below
  raise ValueError(f"{length!r}: expected a number of steps or 'n epochs'")


def demands_of_baselines(config: ConfigDict) -> Iterator[Demand]:
  """What reports of points beside uniform networks ask."""
  bits = precision.BITS
  baselines = config.uniform_baselines
  possible = all(isinstance(b, int) and b in bits for b in baselines)
  yield "uniform_baselines", possible, f"some of {bits}"
  expected = "8 among them: the report compares with it"
  yield "uniform_baselines", 8 in baselines, expected
  yield "tolerance", 0 <= config.tolerance < 1, "in [0, 1)"


def build_net(config: ConfigDict) -> nets.Net:
  """The network of `config.net`; `task.build` asks whether it fits the data."""
  try:
    net = nets.build(config.net.builder, **config.net.arguments)
  except (ValueError, AttributeError, ImportError) as error:
    raise settings.ConfigError(str(error)) from error
  is_net = isinstance(net, nets.Net)
  require(config, [("net.builder", is_net, "a function that gives a Net")])
  wrong = [node.name for node in net.nodes if type(node.features) is not int]
  expected = f"whole numbers of features, which layers {wrong} do not have"
  require(config, [("net.arguments", not wrong, expected)])
  pretrained.check(config, net)
  return net


def _is_length(value) -> bool:
  try:
    return steps_of(value, 1, lambda: 1) >= 1
  except ValueError:
    return False


def is_seed(value) -> bool:
  return is_number(value) and 0 <= value < 2**32


def is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)
