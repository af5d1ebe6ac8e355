"""What a BitQ experiment can be set to, and its checks before training."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from fbq import nets
from fbq.experiments import (
  bfp_baselines,
  fine_tuning,
  settings,
  stage_settings,
  task,
)
from fbq.experiments.stage_settings import STAGE, Demand
from hwsim.bfp.energy import Memories
from hwsim.bfp.formats import FP32, BlockFormat, bitq_format
from hwsim.bfp.table import MovementTable, movement_table

SETTINGS = {
  **stage_settings.SETTINGS,
  "seed": int,
  "words": dict,
  "published": list,
  "alphas": list,
  "front_resolution": float,
  "alpha": float,
  "memory_bytes": int,
  "register_bytes": int,
  "losses": {
    "noise_images": int,
    "measured_formats": int,
    "held_out": int,
    "assignments": int,
  },
  "validation_images": int,
  # Blocks have no ranges to learn: of the recipes of fine-tuning, distillation.
  "qat": {
    **STAGE,
    "distillation": settings.Optional(float),
    "temperature": settings.Optional(float),
  },
  "sweep": {"builder": str, "arguments": dict, "memory_kilobytes": list},
}
_WORD = {"bits": int, "exponent_bits": list, "block_sizes": list}


class Word(NamedTuple):
  """The formats of a word length, and what they move.

  Attributes:
    name: of the setting.
    bits: q_b of eq. 6.
    grid: the formats <SE, BS>.
    table: of the network at the run's memory.
  """

  name: str
  bits: int
  grid: tuple[BlockFormat, ...]
  table: MovementTable


class Checked(NamedTuple):
  """What a sound configuration stands for."""

  net: nets.Net
  task: task.Task
  words: tuple[Word, ...]
  memories: Memories


def check(config: ConfigDict) -> Checked:
  """The network, data, formats and memories of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  for name, word in config.words.items():
    settings.check_keys(word.to_dict(), _WORD, f"config.words.{name}")
  stages = ("float_training", "qat")
  stage_settings.require(config, stage_settings.demands(config, stages))
  stage_settings.require(config, _demands(config))
  stage_settings.require(config, fine_tuning.demands(config.qat))
  net = stage_settings.build_net(config)
  data = task.build(config, net)
  stage_settings.require(config, _demands_of_batch(config, data.batch))
  memories = Memories(8 * config.memory_bytes, 8 * config.register_bytes)
  words = []
  try:
    movement_table(net.workload, (FP32,), memories.sram_bits)
    movement_table(net.workload, (FP32,), memories.register_bits)
  except ValueError as error:
    raise settings.ConfigError(
      f"config.memory_bytes is {config.memory_bytes} and "
      f"config.register_bytes is {config.register_bytes}, too small for FP32, "
      f"the baseline: {error}"
    ) from error
  for name, word in config.words.items():
    grid = _grid(name, word)
    table = movement_table(net.workload, grid, memories.sram_bits)
    words.append(Word(name, word.bits, grid, table))
  return Checked(net, data, tuple(words), memories)


def _demands_of_batch(config: ConfigDict, batch: int) -> Iterator[Demand]:
  for name in ("calibration_images", "validation_images"):
    is_multiple = config[name] > 0 and config[name] % batch == 0
    expected = f"a multiple of {batch}, the images evaluated at a time"
    yield name, is_multiple, expected


def _grid(name, word) -> tuple[BlockFormat, ...]:
  try:
    return tuple(
      bitq_format(word.bits, se, bs)
      for se in word.exponent_bits
      for bs in word.block_sizes
    )
  except ValueError as error:
    raise settings.ConfigError(f"config.words.{name}: {error}") from error


def _demands(config: ConfigDict) -> Iterator[Demand]:
  yield "seed", stage_settings.is_seed(config.seed), "0 to 2^32 - 1"
  yield "words", bool(config.words), "one word length at least"
  for name, word in config.words.items():
    where = f"words.{name}"
    yield f"{where}.bits", 3 <= word.bits <= 26, "3 .. 26"
    for key, most in (("exponent_bits", 8), ("block_sizes", 1 << 16)):
      values = word[key]
      sound = all(isinstance(v, int) and 1 <= v <= most for v in values)
      different = len(set(values)) == len(values) > 0
      expected = f"different whole numbers, 1 to {most}"
      yield f"{where}.{key}", sound and different, expected
  if config.words:
    name, word = min(config.words.items(), key=lambda item: item[1].bits)
    expected = "two or more for the shortest word, to measure what noise costs"
    enough = len(word.exponent_bits) >= 2
    yield f"words.{name}.exponent_bits", enough, expected
  known = all(name in bfp_baselines.NAMES for name in config.published)
  yield "published", known, f"some of {bfp_baselines.NAMES}"
  alphas = (*config.alphas, config.alpha)
  sound = all(stage_settings.is_number(a) and 0 <= a < math.inf for a in alphas)
  yield "alphas", sound and bool(config.alphas), "finite numbers, none negative"
  is_share = 0 < config.front_resolution < 1
  yield "front_resolution", is_share, "a share of the largest movement"
  yield "alpha", config.alpha in config.alphas, f"one of {config.alphas}"
  for name in ("memory_bytes", "register_bytes"):
    yield name, config[name] >= 1, "at least 1"
  counts = config.losses
  enough = 1 <= counts.noise_images <= config.calibration_images
  yield "losses.noise_images", enough, "1 to calibration_images"
  for name in ("measured_formats", "held_out", "assignments"):
    yield f"losses.{name}", counts[name] >= 2, "at least 2"
  sizes = config.sweep.memory_kilobytes
  sound = all(stage_settings.is_number(k) and k > 0 for k in sizes)
  yield "sweep.memory_kilobytes", sound, "positive numbers"
