"""Quantization-aware training in seconds, for tests.

python main.py --config=tests/configs/tiny_qat.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_qat
from tests.configs import tiny


def get_config(arguments: str = "") -> ConfigDict:
  """The keys of configs/digits_qat.py for a tiny network."""
  config, base = digits_qat.get_config(arguments), tiny.get_config()
  for key in ("net", "data", "float_training", "calibration_images"):
    config[key] = base[key]
  config.fine_tuning.steps, config.fine_tuning.batch_size = 8, 8
  config.seeds = (0, 3)
  config.checkpoint_every, config.log_every = 4, 2
  return config
