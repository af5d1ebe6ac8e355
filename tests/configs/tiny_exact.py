"""The exact choice in a run of seconds, for tests.

python main.py --config=tests/configs/tiny_exact.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_exact
from tests.configs import tiny


def get_config() -> ConfigDict:
  """The keys of configs/digits_exact.py, values for a tiny network."""
  config, base = digits_exact.get_config(), tiny.get_config()
  for key in ("net", "data", "float_training", "fine_tuning"):
    config[key] = base[key]
  config.calibration_images = 24
  config.budgets = (0.99, 1.0)
  config.checkpoint_every, config.log_every = 4, 2
  return config
