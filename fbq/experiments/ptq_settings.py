"""What post-training quantization can be set to, and every check of it."""

import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from fbq import nets
from fbq.experiments import ptq_studies, settings, stage_settings, task
from fbq.experiments.stage_settings import Demand

SETTINGS = {
  **stage_settings.SETTINGS,
  "seeds": list,
  "studies": list,
  "calibration_batch": int,
  "validation_images": int,
  "percent": float,
  "decay": float,
  "correction_batches": int,
  "rounding": {
    "steps": int,
    "batch_size": int,
    "learning_rate": float,
    "strength": float,
  },
  "tolerance": float,
}


def check(config: ConfigDict) -> tuple[nets.Net, task.Task]:
  """The network and the task of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  stage_settings.require(
    config, stage_settings.demands(config, ("float_training",))
  )
  stage_settings.require(config, _demands(config))
  net = stage_settings.build_net(config)
  return net, task.build(config, net)


def _demands(config: ConfigDict) -> Iterator[Demand]:
  seeds = config.seeds
  whole = all(isinstance(s, int) and stage_settings.is_seed(s) for s in seeds)
  different = bool(seeds) and len(set(seeds)) == len(seeds)
  yield "seeds", whole and different, "different whole numbers, 0 to 2^32 - 1"
  names = ptq_studies.NAMES
  known = set(config.studies) <= {*names} and "widths" in config.studies
  known = known and len(set(config.studies)) == len(config.studies)
  expected = f"some of {names}, 'widths' among them, each once"
  yield "studies", known, expected
  batch = config.calibration_batch
  yield "calibration_batch", batch >= 1, "at least 1"
  is_multiple = config.calibration_images % batch == 0
  expected = f"a multiple of calibration_batch, {batch}"
  yield "calibration_images", is_multiple, expected
  batches = config.calibration_images // batch
  few = config.correction_batches
  expected = f"1 to {batches}, the batches of calibration"
  yield "correction_batches", 1 <= few <= batches, expected
  expected = "at least 1"
  yield "validation_images", config.validation_images >= 1, expected
  yield "percent", 50 < config.percent <= 100, "above 50, up to 100"
  yield "decay", 0 <= config.decay < 1, "in [0, 1)"
  yield "tolerance", 0 <= config.tolerance < 1, "in [0, 1)"
  rounding = config.rounding
  expected = "at least 0, for no AdaRound"
  yield "rounding.steps", rounding.steps >= 0, expected
  images = few * batch
  expected = f"1 to {images}, the images of correction_batches"
  yield "rounding.batch_size", 1 <= rounding.batch_size <= images, expected
  rate = rounding.learning_rate
  yield "rounding.learning_rate", 0 < rate < math.inf, "a positive number"
  strength = rounding.strength
  yield "rounding.strength", 0 <= strength < math.inf, "at least 0"
