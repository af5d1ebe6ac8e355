"""A run of seconds that goes through every stage, for tests.

python main.py --config=tests/configs/tiny.py --workdir=runs/tiny
"""

from ml_collections import ConfigDict

from fbq.nets import Net, Node
from fbq.nets.graph import INPUT


def get_config() -> ConfigDict:
  """The keys of configs/digits_free_bits.py, values for a tiny network."""
  stage = dict(steps=8, batch_size=8, learning_rate=1e-2, weight_decay=1e-4)
  return ConfigDict(
    dict(
      experiment="free_bits",
      seeds=(0,),
      net=dict(
        builder="tests.configs.tiny:separable",
        arguments=dict(channels=8),
      ),
      data=dict(
        name="digits",
        split_seed=0,
        test_seed=0,
        renders_per_test_image=1,
        difficulty=dict(fragments=0),
      ),
      target="xpulpnn_v1",
      output_bits="reader",
      measured_latency="",
      float_training=dict(stage, steps=12),
      calibration_images=16,
      search=dict(
        stage,
        strengths=(),
        aim=dict(
          targets=(0.4,),
          cost="bops",
          at_most=False,
          bracket=(0.1, 90.0),
          searches=2,
          tolerance=0.0,
        ),
        locked=(True, False),
        penalty="bops",
        gate_learning_rate=0.5,
        range_bits=4,
        faithful=False,
      ),
      fine_tuning=dict(stage, range_learning_rate=1e-2),
      qat=dict(
        method="log_lsq", distillation=0.0, temperature=1.0, smoothing=0.0
      ),
      rules=(),
      uniform_baselines=(8, 4, 2),
      tolerance=0.005,
      checkpoint_every=4,
      log_every=2,
    )
  )


def separable(
  channels: int = 8, resolution: int = 8, colours: int = 1, classes: int = 10
) -> Net:
  """One depthwise separable block between a stem and a classifier."""
  conv = dict(norm=True, activation="relu")
  nodes = (
    Node("stem", "conv", (INPUT,), channels, (3, 3), 1, 1, **conv),
    Node("dw", "depthwise", ("stem",), 0, (3, 3), 2, 1, **conv),
    Node("pw", "conv", ("dw",), 2 * channels, **conv),
    Node("pool", "avg_pool", ("pw",), kernel=None),
    Node("classifier", "linear", ("pool",), classes, bias=True, is_output=True),
  )
  shape = resolution, resolution, colours
  return Net(f"separable-{channels}", shape, nodes)
