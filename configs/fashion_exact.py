"""The exact choice on Fashion-MNIST: least harm under budgets of cycles.

  python main.py --config=configs/fashion_exact.py \
    --config.data.directory=FOLDER --workdir=runs/fashion_exact
  python main.py --config=configs/fashion_exact.py:mobilenet_v1,short ...

Network, data and training are those of configs/fashion_free_bits.py, which says
where the files come from; what else can be asked for stands in
configs/digits_exact.py. Full: three seeds, some hours on two cores; `:short`:
one seed, most of an hour; `:smoke`: minutes. Not run to the end with these
values.
"""

from ml_collections import ConfigDict

from configs import fashion_free_bits
from fbq.config import configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  base = fashion_free_bits.get_config(words).to_dict()
  shared = ("seeds", "net", "data", "float_training", "fine_tuning")
  shared += ("checkpoint_every", "log_every")
  return configured(
    "exact",
    **{name: base[name] for name in shared},
    budgets=(0.8, 0.85, 0.9, 0.95),  # of the cycles at 8 bits
  )
