"""A network on ranges of targets, and on one within all that is assumed of it.

  python main.py --config=configs/design_space.py --workdir=runs/space
  python main.py --config=configs/design_space.py:mobilenet_v1,target=xpulp_v2 \
    --workdir=runs/space_v2

  python main.py --config=configs/design_space.py:ds_cnn,target=gap9_ne16 \
    --workdir=runs/space_ne16

1,024 designs: 16 sizes of L1, 32 of L2, two widths of the DMA. For each the
exact best assignment nowhere below 4 bits, and the exact front of a proxy of
accuracy. Then 200 draws of all that is assumed of the target, each within its
range (hwsim/pulp/doubt.py, hwsim/ne16/doubt.py).

Other ranges: --config.fields="{'l1_bytes': (64000, 128000), 'conv_library':
('XpulpV2', 'XpulpNN')}". Harms measured on a trained network as the proxy:
--config.sensitivities=runs/digits_exact/sensitivities.json with the same net.
The order of a run's points within the doubts:
--config.precisions=runs/digits_free_bits/precision.
"""

from ml_collections import ConfigDict

from configs.profile_pulp import NETS
from fbq.config import chosen, configured


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), target="xpulpnn_v1")
  on_ne16 = found["target"] == "gap9_ne16"
  least_l1, least_l2 = (20_000, 120_000) if on_ne16 else (48_000, 464_000)
  return configured(
    "design_space",
    net=dict(builder=found["net"], arguments=NETS[found["net"]]),
    target=found["target"],
    fields=dict(
      l1_bytes=tuple(least_l1 + 8_000 * i for i in range(16)),
      l2_bytes=tuple(least_l2 + 8_000 * i for i in range(32)),
      dma_bytes_per_cycle=(4, 8),
    ),
  )
