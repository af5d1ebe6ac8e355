"""What a network costs on a PULP cluster at every precision, and why.

  python main.py --config=configs/profile_pulp.py --workdir=runs/profile
  python main.py --config=configs/profile_pulp.py:net=resnet8,target=xpulp_v2 \
    --workdir=runs/resnet8

Takes 10 s on two cores, half of it for the sweep of the L2 budget. Expected for
the default, from the slides of Free Bits: 4 bits -32.3 %, 4 bits with Free Bits
-37.1 % against 8 bits. Obtained: -32.7 % and -37.1 %.

Other widths and sizes: --config.net.arguments.width=0.5. Other hardware: any
number of hwsim.pulp.Target, as --config.target_overrides.l1_bytes=256000, which
VGG-9 needs; ResNet-18 and -50 need more L2 as well, for their additions.
"""

import dataclasses

from ml_collections import ConfigDict, config_dict

from hwsim.pulp import TARGETS, Target

NETS = {
  "ds_cnn": dict(width=1.0, frames=49, coefficients=10, classes=12),
  "mobilenet_v1": dict(width=0.75, resolution=224, classes=1000),
  "mobilenet_v2": dict(width=1.0, resolution=224, classes=1000),
  "resnet8": dict(width=1.0, resolution=32, classes=10),
  "resnet18": dict(width=1.0, resolution=224, classes=1000),
  "resnet50": dict(width=1.0, resolution=224, classes=1000),
  "vgg9": dict(width=1.0, resolution=32, classes=10),
}


def get_config(arguments: str = "") -> ConfigDict:
  """Values only; see fbq/experiments/profile_pulp.py for what they do."""
  chosen = dict(net="mobilenet_v1", target="xpulpnn_v1")
  choices = dict(net=sorted(NETS), target=[target.name for target in TARGETS])
  for part in filter(None, arguments.split(",")):
    key, _, value = part.partition("=")
    if key not in choices:
      raise ValueError(
        f"{part!r} sets {key!r}, expected net=... and target=..., joined by a "
        f"comma, with {choices}"
      )
    if value not in choices[key]:
      raise ValueError(f"{key} is {value!r}, expected one of {choices[key]}")
    chosen[key] = value
  return ConfigDict(
    dict(
      experiment="profile_pulp",
      net=dict(builder=chosen["net"], arguments=NETS[chosen["net"]]),
      target=chosen["target"],
      target_overrides={  # None: as the target has it
        field.name: config_dict.placeholder(field.type)
        for field in dataclasses.fields(Target)
        if field.type in (int, float)
      },
      l2_sweep_bytes=tuple(range(-80_000, 180_000, 20_000)),  # about default
    )
  )
