"""Block formats from start to end in seconds, for tests.

python main.py --config=tests/configs/tiny_bitq.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from configs import digits_bitq
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT
from tests.configs import tiny


def get_config() -> ConfigDict:
  """The keys of configs/digits_bitq.py for a tiny network."""
  config, base = digits_bitq.get_config(), tiny.get_config()
  for key in ("data", "float_training"):
    config[key] = base[key]
  config.net = dict(builder="tests.configs.tiny_bitq:residual", arguments={})
  config.words = dict(
    Long=dict(bits=16, exponent_bits=(2, 6), block_sizes=(1, 8)),
    Short=dict(bits=8, exponent_bits=(2, 4, 6), block_sizes=(1, 8)),
  )
  config.published = ("BSFP",)
  config.alphas, config.alpha = (0.0, 0.2, 3.0), 0.2
  config.memory_bytes = 512
  config.validation_images = 360
  config.losses = dict(
    noise_images=8, measured_formats=3, held_out=6, assignments=4
  )
  config.qat.steps, config.qat.batch_size = 4, 8
  config.qat.distillation = 0.5
  config.sweep = dict(
    builder="tests.configs.tiny_bitq:residual",
    arguments={},
    memory_kilobytes=(0.5, 4),
  )
  config.checkpoint_every, config.log_every = 4, 2
  return config


def residual() -> Net:
  """A convolution that is added to what it reads, stem and classifier."""
  conv = dict(norm=True, activation="relu")
  nodes = (
    Node("stem", "conv", (INPUT,), 8, (3, 3), 2, 1, **conv),
    Node("conv", "conv", ("stem",), 8, **conv),
    Node("add", "add", ("conv", "stem")),
    Node("pool", "avg_pool", ("add",), kernel=None),
    Node("classifier", "linear", ("pool",), 10, bias=True, is_output=True),
  )
  return Net("residual", (8, 8, 1), nodes)
