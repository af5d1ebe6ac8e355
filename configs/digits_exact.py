"""The provably best precisions under budgets, without a search by training.

  python main.py --config=configs/digits_exact.py --workdir=runs/digits_exact
  python main.py --config=configs/digits_exact.py:resnet8 --workdir=runs/exact8

Measures on 512 images how much every precision of every tensor harms the float
network, then finds the assignment of least harm for each budget of cycles, and
for what else is asked:

  --config.limits.weight_bytes=100000   the weights fit in flash
  --config.limits.peak_bytes=40000      the activations fit in L2
  --config.bounds="(('dw.*weight', 4, 8),)"   none of 2 bits
  --config.ties="('[dp]w([0-9]+).weight',)"   one precision for each block

Takes 3 minutes on two cores. Obtained on 2026-11-21 with the default network:
96.46 % at 90 % of the cycles of 8/8, which has 96.88 %; 93.96 % at 80 %.
"""

from ml_collections import ConfigDict

from configs import digits_free_bits
from fbq.config import configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  base = digits_free_bits.get_config(words).to_dict()
  shared = ("net", "data", "float_training", "fine_tuning")
  return configured(
    "exact",
    **{name: base[name] for name in shared},
    value="kl",  # or "loss", "mse": what makes a precision harmful
    budgets=(0.75, 0.8, 0.85, 0.9, 0.95),  # of the cycles at 8 bits
    bounds=(),  # (regular expression over tensors, least bits, most bits)
    ties=(),  # expressions or lists: tensors that share one precision
  )
