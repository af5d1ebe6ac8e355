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


def get_config(net: str = "mobilenet_v1") -> ConfigDict:
  """Values only; see fbq/experiments/exact.py for what they do."""
  base = digits_free_bits.get_config(net).to_dict()
  return ConfigDict(
    dict(
      experiment="exact",
      seed=0,
      net=base["net"],
      data=base["data"],
      target="xpulpnn_v1",
      measured_latency="",
      float_training=base["float_training"],
      calibration_images=512,
      value="kl",  # or "loss", "mse": what makes a precision harmful
      budgets=(0.75, 0.8, 0.85, 0.9, 0.95),  # of the cycles at 8 bits
      limits=dict(weight_bytes=10**9, peak_bytes=10**9),
      bounds=(),  # (regular expression over tensors, least bits, most bits)
      ties=(),  # expressions or lists: tensors that share one precision
      fine_tuning=base["fine_tuning"],
      qat=base["qat"],
      uniform_baselines=(8, 4, 2),
      tolerance=0.005,
      checkpoint_every=200,
      log_every=25,
    )
  )
