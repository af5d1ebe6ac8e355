"""Every strategy in a run of seconds, for tests.

python main.py --config=tests/configs/tiny_shootout.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_search_shootout
from tests.configs import tiny

FEW = ("fractional-budget", "loss-exact")


def get_config(size: str = "all") -> ConfigDict:
  """The keys of configs/digits_search_shootout.py for a tiny network."""
  config = digits_search_shootout.get_config()
  base = tiny.get_config()
  for key in ("net", "data", "float_training", "calibration_images"):
    config[key] = base[key]
  for stage in ("search", "fine_tuning"):
    config[stage].steps = 4
    config[stage].batch_size = 8
  for plan in config.strategies.values():
    is_budget = plan.settings == digits_search_shootout.BUDGETS
    plan.settings = (0.98, 1.0) if is_budget else plan.settings[:2]
  config.seeds = (0, 3)
  if size == "few":
    for name in set(config.strategies) - set(FEW):
      del config.strategies[name]
    config.seeds = (3,)
  config.least_accuracy = 0.0
  config.checkpoint_every, config.log_every = 4, 2
  return config
