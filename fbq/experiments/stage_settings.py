"""What experiments that train on the digits can be set to, and its checks."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.data import canvas, digits
from fbq.experiments import settings

STAGE = {
  "steps": int,
  "batch_size": int,
  "learning_rate": float,
  "weight_decay": float,
}

SETTINGS: dict[str, Any] = {
  "experiment": str,
  "net": {"builder": str, "arguments": dict},
  "data": {
    "name": str,
    "split_seed": int,
    "test_seed": int,
    "renders_per_test_image": int,
    "difficulty": dict,
  },
  "float_training": STAGE,
  "calibration_images": int,
  "checkpoint_every": int,
  "log_every": int,
}

Demand = tuple[str, bool, str]  # setting, whether it is met, what is expected


def require(config: ConfigDict, demands: Iterable[Demand]) -> None:
  """Raises ConfigError that names the first demand not met."""
  for name, is_met, expected in demands:
    value = config
    for part in name.split("."):
      value = value[part]
    if isinstance(value, ConfigDict):
      value = value.to_dict()
    settings.require(is_met, name, value, expected)


def demands(config: ConfigDict, stages: Sequence[str]) -> Iterator[Demand]:
  """What can be said of `SETTINGS` and of stages without the network."""
  yield "data.name", config.data.name == "digits", "'digits'"
  for name, seed in (
    ("data.split_seed", config.data.split_seed),
    ("data.test_seed", config.data.test_seed),
  ):
    yield name, is_seed(seed), "0 to 2^32 - 1"
  for name, count in (
    ("data.renders_per_test_image", config.data.renders_per_test_image),
    ("calibration_images", config.calibration_images),
    ("checkpoint_every", config.checkpoint_every),
    ("log_every", config.log_every),
  ):
    yield name, count >= 1, "at least 1"
  is_multiple = config.checkpoint_every % config.log_every == 0
  expected = f"a multiple of log_every, {config.log_every}"
  yield "checkpoint_every", is_multiple, expected
  for stage in stages:
    plan = config[stage]
    yield f"{stage}.steps", plan.steps >= 1, "at least 1"
    yield f"{stage}.batch_size", plan.batch_size >= 2, "at least 2"
    for key, rate in plan.items():
      if key == "learning_rate":
        yield f"{stage}.{key}", 0 < rate < math.inf, "a positive number"
      elif key.endswith("learning_rate") or key == "weight_decay":
        yield f"{stage}.{key}", 0 <= rate < math.inf, "at least 0"


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
  """The network of `config.net`, which reads and tells apart the digits."""
  try:
    net = nets.build(config.net.builder, **config.net.arguments)
  except (ValueError, AttributeError, ImportError) as error:
    raise settings.ConfigError(str(error)) from error
  is_net = isinstance(net, nets.Net)
  require(config, [("net.builder", is_net, "a function that gives a Net")])
  require(config, _demands_of_net(net))
  return net


def build_difficulty(config: ConfigDict) -> digits.Difficulty:
  """The difficulty of `config.data`."""
  try:
    return digits.Difficulty.from_config(config.data.difficulty)
  except ValueError as error:
    raise settings.ConfigError(str(error)) from error


def _demands_of_net(net: nets.Net) -> Iterator[Demand]:
  """What the data ask of the network."""
  height, width, channels = net.input_shape
  wrong = [node.name for node in net.nodes if type(node.features) is not int]
  expected = f"whole numbers of features, which layers {wrong} do not have"
  yield "net.arguments", not wrong, expected
  expected = (
    f"a network that reads square grey images of {canvas.SOURCE} pixels or more"
    f" (in_channels=1); it reads {height}x{width}x{channels}"
  )
  is_square = height == width and channels == 1 and height >= canvas.SOURCE
  yield "net.arguments", is_square, expected
  classes = net.shapes[net.nodes[-1].name][2]
  expected = f"{digits.CLASSES} classes, the digits; it tells {classes} apart"
  yield "net.arguments", classes == digits.CLASSES, expected


def is_seed(value) -> bool:
  return is_number(value) and 0 <= value < 2**32


def is_number(value) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)
