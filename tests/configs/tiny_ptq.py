"""Post-training quantization in a run of seconds, for tests.

python main.py --config=tests/configs/tiny_ptq.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_ptq
from tests.configs import tiny


def get_config() -> ConfigDict:
  """The keys of configs/digits_ptq.py for a tiny network."""
  config = digits_ptq.get_config()
  base = tiny.get_config()
  for key in ("net", "data", "float_training"):
    config[key] = base[key]
  config.seeds = (0, 3)
  config.studies = ("widths",)
  config.calibration_images = 16
  config.calibration_batch = 8
  config.validation_images = 9
  config.correction_batches = 2
  config.rounding.steps, config.rounding.batch_size = 3, 8
  config.checkpoint_every, config.log_every = 4, 2
  return config
