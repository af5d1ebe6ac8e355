"""What a Free Bits run can be set to, and every check of it before training."""

import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from fbq import nets, precision
from fbq.data import canvas, digits
from fbq.experiments import settings
from hwsim import latency_io
from hwsim.pulp import get_target, latency_table

_STAGE = {
  "steps": int,
  "batch_size": int,
  "learning_rate": float,
  "weight_decay": float,
}

SETTINGS = {
  "experiment": str,
  "seed": int,
  "net": {"builder": str, "arguments": dict},
  "data": {
    "name": str,
    "split_seed": int,
    "test_seed": int,
    "renders_per_test_image": int,
    "difficulty": dict,
  },
  "target": str,
  "measured_latency": str,
  "float_training": _STAGE,
  "calibration_images": int,
  "search": {
    **_STAGE,
    "strengths": list,
    "locked": list,
    "gate_learning_rate": float,
    "range_bits": int,
    "faithful": bool,
  },
  "fine_tuning": {**_STAGE, "range_learning_rate": float},
  "rules": list,
  "uniform_baselines": list,
  "tolerance": float,
  "checkpoint_every": int,
  "log_every": int,
}

Demand = tuple[str, bool, str]  # setting, whether it is met, what is expected


def check(config: ConfigDict) -> tuple[nets.Net, digits.Difficulty]:
  """The network and the difficulty of the data of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  _require(config, _demands(config))
  try:
    net = nets.build(config.net.builder, **config.net.arguments)
  except (ValueError, AttributeError, ImportError) as error:
    raise settings.ConfigError(str(error)) from error
  is_net = isinstance(net, nets.Net)
  _require(config, [("net.builder", is_net, "a function that gives a Net")])
  _require(config, _demands_of_net(net))
  try:
    precision.apply_rules(net, precision.uniform(net, 8), config.rules)
    difficulty = digits.Difficulty.from_config(config.data.difficulty)
    target = get_target(config.target)
    if config.measured_latency:
      latency_io.merge(
        latency_table(net.workload, target), config.measured_latency, 8
      )
  except (ValueError, OSError) as error:
    raise settings.ConfigError(str(error)) from error
  return net, difficulty


def _require(config, demands):
  for name, is_met, expected in demands:
    value = config
    for part in name.split("."):
      value = value[part]
    if isinstance(value, ConfigDict):
      value = value.to_dict()
    settings.require(is_met, name, value, expected)


def _demands(config: ConfigDict) -> Iterator[Demand]:
  """What can be said without the network."""
  bits = precision.BITS
  yield "data.name", config.data.name == "digits", "'digits'"
  for name, seed in (
    ("seed", config.seed),
    ("data.split_seed", config.data.split_seed),
    ("data.test_seed", config.data.test_seed),
  ):
    yield name, 0 <= seed < 2**32, "0 to 2^32 - 1"
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
  for stage in ("float_training", "search", "fine_tuning"):
    plan = config[stage]
    yield f"{stage}.steps", plan.steps >= 1, "at least 1"
    yield f"{stage}.batch_size", plan.batch_size >= 2, "at least 2"
    for key, rate in plan.items():
      if key == "learning_rate":
        yield f"{stage}.{key}", 0 < rate < math.inf, "a positive number"
      elif key.endswith("learning_rate") or key == "weight_decay":
        yield f"{stage}.{key}", 0 <= rate < math.inf, "at least 0"
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
  baselines = config.uniform_baselines
  possible = all(isinstance(b, int) and b in bits for b in baselines)
  yield "uniform_baselines", possible, f"some of {bits}"
  expected = "8 among them: the report compares with it"
  yield "uniform_baselines", 8 in baselines, expected
  pairs = all(_is_rule(rule) for rule in config.rules)
  yield "rules", pairs, "pairs (regular expression, bits)"
  yield "tolerance", 0 <= config.tolerance < 1, "in [0, 1)"


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


def _is_strength(value):
  is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
  return is_number and 0 <= value < math.inf


def _is_rule(value):
  is_pair = isinstance(value, (list, tuple)) and len(value) == 2
  return is_pair and isinstance(value[0], str)
