"""Which way to choose precisions wins, on Fashion-MNIST?

  python main.py --config=configs/fashion_shootout.py \
    --config.data.directory=FOLDER --workdir=runs/fashion_shootout
  python main.py --config=configs/fashion_shootout.py:mobilenet_v1,short ...

Network and data are those of configs/fashion_free_bits.py, strategies and
budgets those of configs/digits_search_shootout.py. Full: three seeds, on a GPU;
`:short`: one seed and the strategies that train nothing; `:smoke`: a few steps.
Not run to the end with these values.
"""

from ml_collections import ConfigDict

from configs import digits_search_shootout, fashion_free_bits

EPOCH = 391  # batches of 128 of 50,000 images
# Steps of float training, of a search and of a fine-tuning
SIZES = {
  "full": (24 * EPOCH, 2 * EPOCH, 2 * EPOCH),
  "short": (8 * EPOCH, EPOCH, EPOCH // 2),
  "smoke": (30, 6, 6),
}
TRAINS_NOTHING = ("loss-exact", "kl-exact", "by-macs", "random")


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  base = fashion_free_bits.get_config(words)
  size = next((s for s in SIZES if s in words.split(",")), "full")
  config = digits_search_shootout.get_config()
  config.net, config.data, config.seeds = base.net, base.data, base.seeds
  trained, searched, tuned = SIZES[size]
  config.float_training = base.float_training
  config.fine_tuning = base.fine_tuning
  with config.ignore_type():
    config.float_training.steps = trained
    config.fine_tuning.steps = tuned
  config.search.update(steps=searched, batch_size=128, learning_rate=1e-3)
  if size != "full":
    for plan in set(config.strategies) - set(TRAINS_NOTHING):
      del config.strategies[plan]
  for name in ("checkpoint_every", "log_every"):
    config[name] = base[name]
  return config
