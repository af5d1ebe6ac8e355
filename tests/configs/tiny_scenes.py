"""Block formats of a tiny segmenter from start to end in seconds, for tests.

python main.py --config=tests/configs/tiny_scenes.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from fbq.config import configured
from fbq.nets import Net, Node
from fbq.nets.graph import INPUT


def get_config() -> ConfigDict:
  """Values for a tiny network."""
  net = dict(builder="tests.configs.tiny_scenes:segmenter", arguments={})
  stage = dict(batch_size=8, learning_rate=1e-2)
  return configured(
    "bitq",
    net=net,
    data=dict(
      name="scenes",
      renders_per_test_group=1,
      difficulty=dict(objects=(1, 2), fragments=1),
    ),
    words=dict(
      Short=dict(bits=8, exponent_bits=(2, 4, 6), block_sizes=(1, 8)),
    ),
    published=("MXFP4",),
    alphas=(0.0, 0.2),
    memory_bytes=512,
    calibration_images=48,
    float_training=dict(stage, steps=12, weight_decay=1e-4, optimizer="adamw"),
    losses=dict(noise_images=8, measured_formats=2, held_out=4, assignments=2),
    qat=dict(stage, steps=4, distillation=0.5),
    checkpoint_every=4,
    log_every=2,
  )


def segmenter() -> Net:
  """A map of classes at half the size of 16x16 pixels."""
  conv = dict(norm=True, activation="relu")
  nodes = (
    Node("stem", "conv", (INPUT,), 8, (3, 3), 2, 1, **conv),
    Node("conv", "conv", ("stem",), 8, **conv),
    Node("classes", "conv", ("conv",), 11, bias=True, is_output=True),
  )
  return Net("segmenter", (16, 16, 1), nodes)
