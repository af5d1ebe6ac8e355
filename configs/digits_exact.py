"""The least sum of harms under budgets, exactly, without a search by training.

  python main.py --config=configs/digits_exact.py --workdir=runs/digits_exact
  python main.py --config=configs/digits_exact.py:resnet8 --workdir=runs/exact8

Measures on 512 images how much every precision of every tensor harms the float
network, alone, then finds the assignment with the least sum of harms for each
budget of cycles, and for what else is asked. That is the best network as far as
harms add up: the page tells the rank correlation of the sum with the accuracy.

  --config.limits.weight_bytes=100000   the weights fit in flash
  --config.limits.peak_bytes=40000      the activations fit in L2, in which a
                                        board may keep weights and code too
  --config.bounds="(('dw.*weight', 4, 8),)"   none of 2 bits
  --config.ties="('[dp]w([0-9]+).weight',)"   one precision for each block

Takes 3 minutes on two cores. Obtained on 2026-11-21 with the default network,
when 287 digits more were trained on and outputs were timed at 8 bits: 96.46 %
of the test at 90 % of the cycles of 8/8, which has 96.88 %; 93.96 % at 80 %.
"""

from ml_collections import ConfigDict

from configs import digits_free_bits
from fbq.config import configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  base = digits_free_bits.get_config(words).to_dict()
  shared = ("net", "data", "float_training", "fine_tuning", "tolerance")
  return configured(
    "exact",
    **{name: base[name] for name in shared},
    value="kl",  # or "loss", "mse": what makes a precision harmful
    budgets=(0.77, 0.8, 0.85, 0.9, 0.95),  # of the cycles at 8 bits
    bounds=(),  # (regular expression over tensors, least bits, most bits)
    ties=(),  # expressions or lists: tensors that share one precision
  )
