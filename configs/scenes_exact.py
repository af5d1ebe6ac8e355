"""Precisions of a dense network without a search by training, on scenes.

  python main.py --config=configs/scenes_exact.py --workdir=runs/fcn_exact
  python main.py --config=configs/scenes_exact.py:ssd,short --workdir=...

The networks, images and words of configs/scenes_free_bits.py. What a precision
of a tensor harms is the divergence of the task: of the classes of pixels, or of
classes and sides of boxes (fbq/train/detection.py).
"""

from ml_collections import ConfigDict

from configs import scenes_free_bits
from fbq.config import configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  return configured(
    "exact",
    **scenes_free_bits.shared(words),
    # 8/8 is near the fastest there is: on xpulpnn_v1 the least latency is 82 %
    # of its cycles for fcn and 79 % for ssd, on xpulp_v2 100 and 91 %, on NE16
    # 66 and 57 %.
    budgets=(0.85, 0.9, 0.95),
  )
