"""Every strategy in a run of seconds, for tests.

python main.py --config=tests/configs/tiny_shootout.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_search_shootout
from tests.configs import tiny

FEW = ("free-bits", "fractional-budget", "loss-exact", "by-macs")


def get_config(size: str = "all") -> ConfigDict:
  """The keys of configs/digits_search_shootout.py for a tiny network."""
  config = digits_search_shootout.get_config()
  base = tiny.get_config()
  for key in ("net", "data", "float_training", "calibration_images"):
    config[key] = base[key]
  for stage in ("search", "fine_tuning"):
    config[stage].steps = 4
    config[stage].batch_size = 8
  config.search.searches = 1
  config.budgets = (0.99, 1.0)
  config.seeds = (0, 3)
  if size == "few":
    for name in set(config.strategies) - set(FEW):
      del config.strategies[name]
    config.seeds = (3,)
    # So strong that gates close at all in 4 steps.
    config.search.searches = 2
    config.strategies["free-bits"].update(
      bracket=(0.1, 1e3), gate_learning_rate=1.0
    )
    config.fine_tuning.start = "search"
  config.least_accuracy = 0.0
  config.checkpoint_every, config.log_every = 4, 2
  return config
