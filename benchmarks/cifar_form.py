"""Free Bits on files of CIFAR-10's form, for `benchmarks/accelerator.py`.

Pictures are generated, 60,000 of them; 16, 4 and 4 epochs, 6 searches.
`:tiny` is a run of seconds.
"""

from ml_collections import ConfigDict

from configs import cifar_free_bits


def get_config(size: str = "full") -> ConfigDict:
  """Values only; see fbq/experiments/free_bits/ for what they do."""
  if size == "tiny":
    config = cifar_free_bits.get_config("smoke")
    config.net = dict(
      builder="tests.configs.tiny:separable",
      arguments=dict(channels=4, resolution=32, colours=3, classes=10),
    )
    for stage in ("float_training", "search", "fine_tuning"):
      config[stage].steps = "3 epochs"
    config.data.update(generated=dict(classes=10, train=8, test=10))
    return config
  config = cifar_free_bits.get_config("resnet8,cifar10")
  for stage, epochs in (
    ("float_training", 16),
    ("search", 4),
    ("fine_tuning", 4),
  ):
    config[stage].update(steps=f"{epochs} epochs", batch_size=128)
  config.data.update(generated=dict(classes=10, train=10_000, test=10_000))
  # Those of configs/fashion_free_bits.py, all of a kind in one program
  config.search.update(
    strengths=(0.02, 0.06, 0.2), gate_learning_rate=0.03, locked=(True, False)
  )
  return config
