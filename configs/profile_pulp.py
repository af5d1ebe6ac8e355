"""What a network costs on a PULP cluster at every precision, and why.

  python main.py --config=configs/profile_pulp.py --workdir=runs/profile
  python main.py --config=configs/profile_pulp.py:resnet8,target=xpulp_v2 \
    --workdir=runs/resnet8

  python main.py --config=configs/profile_pulp.py:ds_cnn,target=gap9_ne16 \
    --workdir=runs/ne16

Takes 20 s of processor time, half of it to compile the simulator. Expected for
the default, from the slides of Free Bits: 4 bits -32.3 %, 4 bits with Free Bits
-37.1 % against 8 bits. Obtained: -32.3 % and -37.0 %, on the plateau of 348 to
352 kB of L2.

Other widths and sizes: --config.net.arguments.width=0.5. Other hardware: any
field of hwsim.pulp.Target, as --config.target_overrides="{'l1_bytes': 256000}",
which VGG-9 needs; ResNet-18 and -50 need more L2 as well, for their additions.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured

NETS = {
  "mobilenet_v1": dict(width=0.75, resolution=224, classes=1000),
  "ds_cnn": dict(width=1.0, frames=49, coefficients=10, classes=12),
  "mobilenet_v2": dict(width=1.0, resolution=224, classes=1000),
  "resnet8": dict(width=1.0, resolution=32, classes=10),
  "resnet18": dict(width=1.0, resolution=224, classes=1000),
  "resnet50": dict(width=1.0, resolution=224, classes=1000),
  "vgg9": dict(width=1.0, resolution=32, classes=10),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), target="xpulpnn_v1")
  return configured(
    "profile",
    net=dict(builder=found["net"], arguments=NETS[found["net"]]),
    target=found["target"],
  )
