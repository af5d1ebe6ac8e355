"""BitQ's block formats on Fashion-MNIST, ResNet-8.

  python main.py --config=configs/fashion_bitq.py \
    --config.data.directory=FOLDER --workdir=runs/fashion_bitq
  python main.py --config=configs/fashion_bitq.py:short ...

Formats and memories are those of configs/digits_bitq.py, network and data those
of configs/fashion_free_bits.py. Full: a GPU, or days on two cores; `:short`:
one seed; `:smoke`: a few steps. Not run to the end with these values.
"""

from ml_collections import ConfigDict

from configs import digits_bitq, fashion_free_bits


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  base = fashion_free_bits.get_config(words)
  config = digits_bitq.get_config()
  for name in ("net", "data", "seeds", "float_training", "checkpoint_every"):
    config[name] = base[name]
  config.log_every = base.log_every
  config.calibration_images = 500  # whole batches of evaluation
  with config.ignore_type():
    config.qat.steps = base.fine_tuning.steps
  config.qat.batch_size = base.fine_tuning.batch_size
  return config
