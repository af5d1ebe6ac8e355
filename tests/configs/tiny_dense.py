"""Precisions of a tiny segmenter from start to end in seconds, for tests.

python main.py --config=tests/configs/tiny_dense.py --workdir=runs/tiny
python main.py --config=tests/configs/tiny_dense.py:exact --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from fbq.config import chosen
from tests.configs import tiny, tiny_exact

NETS = {
  "segmenter": dict(
    builder="tests.configs.tiny_scenes:segmenter", arguments={}
  ),
  "detector": dict(
    builder="ssd", arguments=dict(width=4, resolution=32, in_channels=1)
  ),
}


def get_config(words: str = "") -> ConfigDict:
  """The keys of tiny.py or tiny_exact.py, for a net that tells pixels."""
  found = chosen(words, method=("free_bits", "exact"), net=tuple(NETS))
  is_exact = found["method"] == "exact"
  config = (tiny_exact if is_exact else tiny).get_config()
  config.net = NETS[found["net"]]
  config.data = dict(
    name="scenes",
    renders_per_test_group=1,
    difficulty=dict(objects=(1, 2), fragments=1),
  )
  config.float_training.optimizer = "adamw"
  if is_exact:
    config.budgets = (1.0,)
  else:
    config.search.aim.targets = (0.6,)
    config.search.locked = (False,)
  config.uniform_baselines = (8, 2)
  return config
