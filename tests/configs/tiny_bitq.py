"""Block formats from start to end in seconds, for tests.

python main.py --config=tests/configs/tiny_bitq.py --workdir=runs/tiny

`:cycles` chooses among elements of OCP MX, by cycles of a cluster.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT

WORDS = dict(
  movement=dict(
    Long=dict(bits=16, exponent_bits=(2, 6), block_sizes=(1, 8)),
    Short=dict(bits=8, exponent_bits=(2, 4, 6), block_sizes=(1, 8)),
  ),
  cycles=dict(
    MX=dict(
      bits=8,
      exponent_bits=(8,),
      block_sizes=(8,),
      elements=("E4M3", "E5M2", "E2M3", "E2M1"),
    )
  ),
)


def get_config(words: str = "") -> ConfigDict:
  """Values for a tiny network."""
  found = chosen(words, cost=("movement", "cycles"))
  net = dict(builder="tests.configs.tiny_bitq:residual", arguments={})
  stage = dict(batch_size=8, learning_rate=1e-2)
  return configured(
    "bitq",
    net=net,
    data=dict(
      name="digits",
      renders_per_test_image=1,
      difficulty=dict(fragments=0),
    ),
    words=WORDS[found["cost"]],
    cost=found["cost"],
    published=("BSFP",),
    alphas=(0.0, 0.2, 3.0),
    memory_bytes=512,
    float_training=dict(stage, steps=12, weight_decay=1e-4),
    losses=dict(noise_images=8, measured_formats=3, held_out=6, assignments=4),
    qat=dict(stage, steps=4, distillation=0.5),
    checkpoint_every=4,
    log_every=2,
  )


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
