"""Post-training quantization on real handwritten digits: which recipe?

  python main.py --config=configs/digits_ptq.py --workdir=runs/digits_ptq
  python main.py --config=configs/digits_ptq.py:mobilenet_v2 --workdir=runs/v2

After the colon stands mobilenet_v1 (the default), mobilenet_v2 or resnet8.

Takes nine minutes of processor time for three seeds, float training and all
recipes. Quantizing itself, from a float network to grids (folding, calibration
on 512 images, least-squares ranges), took 0.3 s, 31 s with compilation. A run
that was stopped goes on from its last checkpoint or seed. Expected: W8A8 per
channel within 1 point of float; W8 with one range for a folded layer at 10 %,
chance, where a channel is dead.

Obtained with the default network on 2026-11-21 (jax 0.10.2), test accuracy (%)
on 1,440 images, mean and standard error of seeds 0, 1, 2:

  float                                              96.39 +- 0.25
  W8A8 per channel, min/max                          96.34 +- 0.16
  W8 one range for a layer, not folded               96.41 +- 0.27
  W8 one range for a layer, folded                   38.66 +- 28.66
  W8A8 one range, folded, equalized, least squares   96.18 +- 0.17
  W4A8 per channel, least squares                    91.04 +- 1.00
  W4A8 the same, biases corrected                    95.74 +- 0.35
  W4A8 the same, AdaRound: recommended               96.41 +- 0.12
  W4A4 the same, AdaRound                            94.54 +- 0.57

The networks of seeds 0 and 2 have each one depthwise channel that is constant:
its running variance is 0, folding divides by the root of 1e-5, and its weights
are then 830 times the median channel's. Seed 1 has none and does not collapse.
"""

from ml_collections import ConfigDict

from configs import digits_free_bits
from fbq.config import chosen, configured

NETS = {
  **digits_free_bits.NETS,
  "mobilenet_v2": dict(
    width=0.35, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  net = chosen(words, net=tuple(NETS))["net"]
  base = digits_free_bits.get_config()
  return configured(
    "ptq",
    seeds=(0, 1, 2),
    net=dict(builder=net, arguments=NETS[net]),
    data=base.data.to_dict(),
    float_training=base.float_training.to_dict(),
    calibration_images=512,
    calibration_batch=32,
    validation_images=720,
    correction_batches=8,
    rounding=dict(steps=400, batch_size=32, learning_rate=0.03, strength=0.01),
    tolerance=0.01,
  )
