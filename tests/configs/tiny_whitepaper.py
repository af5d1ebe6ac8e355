"""Every table of the whitepaper in a run of seconds, for tests.

python main.py --config=tests/configs/tiny_whitepaper.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_whitepaper
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT
from tests.configs import tiny


def get_config() -> ConfigDict:
  """The keys of configs/digits_whitepaper.py for a tiny network."""
  config = digits_whitepaper.get_config()
  base = tiny.get_config()
  for key in ("data", "float_training", "calibration_images"):
    config[key] = base[key]
  config.net = ConfigDict(
    dict(
      builder="tests.configs.tiny_whitepaper:separable",
      arguments=dict(width=0.5),
    )
  )
  config.seeds = (0, 3)
  config.widths = (0.5,)  # its own: another one would cost 5 s
  config.qat.steps, config.qat.batch_size = 4, 8
  config.checkpoint_every, config.log_every = 4, 2
  return config


def separable(width: float) -> Net:
  """A convolution for each pixel and one for each channel."""
  relu = dict(norm=True, activation="relu")
  nodes = (
    Node("conv", "conv", (INPUT,), int(16 * width), (3, 3), 2, 1, **relu),
    Node("dw", "depthwise", ("conv",), 0, (3, 3), 2, 1, norm=True),
    Node("pool", "avg_pool", ("dw",), kernel=None),
    Node("classifier", "linear", ("pool",), 10, bias=True, is_output=True),
  )
  return Net(f"separable-{width:g}", (8, 8, 1), nodes)
