"""BitQ on real handwritten digits: which block format for each tensor?

  python main.py --config=configs/digits_bitq.py --workdir=runs/digits_bitq
  python main.py --config=configs/digits_bitq.py:resnet18 --workdir=runs/bitq18

Also `:googlenet`, `:eca_mobilenet_v2` and `:convnext`, all at small size. The
page shows table 3 of the paper beside.

Expected: 16 bits cost no accuracy, so alpha decides nothing there; at 8 bits
mixed formats are above uniform ones of equal traffic. Obtained on 2026-11-21
(jax 0.10.2): minutes of processor time, compilation included, then DRAM traffic
of an image in KiB and test accuracy in % on 1,440 images. BitQ as recommended
at alpha = 0.2; one standard error is 0.4 to 0.6, 1 at 82 to 91 %.

               min      FP32      BitQ16       BitQ8     <5, 16>     <4, 16>
  resnet8        5  982 97.99  183 97.85   59 96.94   60 93.40   77 97.29
  resnet18       7 2995 96.94  822 96.94  206 95.69  278 90.83  368 95.83
  googlenet     16 1692 96.88  461 96.74  140 97.08  161 84.86  210 94.86
  convnext       7 1603 95.97  408 95.83  154 94.79  147 82.22  189 93.19

<5, 16> and <4, 16> are uniform formats of 8 bits. Others with ResNet-8: BitQ8
at alpha = 0.15 64 KiB 97.57 %, MSFP-12 83 KiB 97.36 %, FlexBlock FB12 93 KiB
97.50 %, FAST with m = 2 58 KiB 93.89 %. ResNet-18's row is of an earlier
commit. Of ECA-MobileNetV2 nothing but float training was run to its end: 97.22
% after 4,000 steps.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq.config import chosen, configured

_SMALL = dict(resolution=32, classes=10, in_channels=1)


class _Case(NamedTuple):
  """A network, and where its training differs from that of ResNet-8."""

  builder: str
  arguments: dict[str, Any]
  float_training: dict[str, Any] = {}
  qat: dict[str, Any] = {}


# Layer normalization after the patches forgets how bright one is: at 8x8
# patches of 4x4 pixels ConvNeXt reads 32 to 44 % of the test after 400 steps
# (54 to 69 % after 300 if 0.35 is taken from the pixels), at 16x16 of 2x2
# pixels 10 to 12 %, whatever the rate (0.005 to 0.1) and the layer scale (0.01
# to 1). MobileNetV2 that halves a 32x32 image at once ends at 1x1 pixels and
# stays near chance for 1,000 steps. At the others' rate of training with
# formats, ConvNeXt unlearns in FlexBlock's FB12: 87.7 % before, 17.5 % after;
# 92.4 % after training at 0.005.
NETS = {
  "resnet8": _Case("resnet8", dict(width=0.5)),
  "resnet18": _Case("resnet18", dict(width=0.25)),
  "googlenet": _Case("googlenet", dict(width=0.25)),
  "eca_mobilenet_v2": _Case(
    "mobilenet_v2",
    dict(width=0.25, stem_stride=1, attention="adaptive"),
    dict(steps=4000, learning_rate=0.03),
  ),
  "convnext": _Case(
    "convnext",
    dict(width=0.25, depths=(2, 2, 2), patch=4, layer_scale=0.1),
    dict(steps=4000),
    dict(learning_rate=5e-3),
  ),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  case = NETS[chosen(words, net=tuple(NETS))["net"]]
  return configured(
    "bitq",
    seeds=(0, 1, 2),
    net=dict(builder=case.builder, arguments={**_SMALL, **case.arguments}),
    data=dict(
      name="digits",
      difficulty=dict(size=(0.6, 0.9), fragments=2),  # fbq/data/canvas.py
    ),
    alphas=(0.015, 0.05, 0.15, 0.2, 0.25, 1.5, 3.0),
    alpha=0.2,  # for which one is recommended
    # So small that tiling matters to networks of this size, as 32 KiB do to
    # those of full size.
    memory_bytes=2048,
    register_bytes=512,
    float_training={
      **dict(steps=2000, batch_size=32, learning_rate=0.05, weight_decay=1e-4),
      **case.float_training,
    },
    qat={**dict(steps=200, batch_size=32, learning_rate=1e-2), **case.qat},
  )
