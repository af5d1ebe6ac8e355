"""BitQ on real handwritten digits: which block format for each tensor?

  python main.py --config=configs/digits_bitq.py --workdir=runs/digits_bitq
  python main.py --config=configs/digits_bitq.py:resnet18 --workdir=runs/bitq18

`:resnet8,mx` chooses an element of OCP MX for every tensor, by loss and cycles
of a cluster whose unit multiplies them (vmxdotp); `--config.cost=movement` or
`--config.cycle_target=mxdotp` changes that. Seed 0 alone; not run in full.

Also `:googlenet`, `:eca_mobilenet_v2` and `:convnext`, all at small size. The
page shows table 3 of the paper beside. Seeds 0, 1, 2; for one alone add
`--config.seeds="(0,)"`. Runs of other seeds and networks are put together by

  python -m fbq.experiments.bitq.collect runs/digits_bitq runs/bitq18

A seed of ResNet-8 takes 6 minutes of processor time, 1 of them to compile.
Expected: 16 bits cost no accuracy, so alpha decides nothing there; at 8 bits
mixed formats are above uniform ones of equal traffic. Obtained on 2026-11-26
(jax 0.10.2), means of three seeds with their standard errors: DRAM traffic of
an image in KiB, test accuracy in %, and what FP32 has more on the same images.
At prices of what is stored, chosen by validation; docs/results.md has the rest.

  ResNet-8                 KiB  accuracy        below FP32
  FP32                     982  97.89 +- 0.08
  BitQ16, recommended      192  97.94 +- 0.08  -0.05 +- 0.05
  MXINT8                   175  97.94 +- 0.08  -0.05 +- 0.08
  FAST, m = 4               98  97.92 +- 0.18  -0.02 +- 0.20
  MSFP-12                   89  97.31 +- 0.18   0.58 +- 0.19
  8 bits <4, 16>            80  97.13 +- 0.15   0.76 +- 0.21
  BitQ8, recommended        70  97.13 +- 0.05   0.76 +- 0.11
  8 bits <5, 16>            64  92.96 +- 0.54   4.93 +- 0.60
  FAST, m = 2               61  93.84 +- 0.13   4.05 +- 0.18

So 8-bit BitQ moves 12 % less than uniform words of the same accuracy.
Other networks have not been run at these prices, the MX
formats and NVFP4 not at all.
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


# Chosen among elements in place of <SE, BS>; MXINT8 has no unit either
_MX = dict(
  seeds=(0,),
  cost="cycles",
  words=dict(
    MX=dict(
      bits=8,
      exponent_bits=(8,),
      block_sizes=(32,),
      elements=("E4M3", "E5M2", "E2M3", "E3M2", "E2M1"),
    )
  ),
)


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), formats=("bfp", "mx"))
  case = NETS[found["net"]]
  more = _MX if found["formats"] == "mx" else dict(seeds=(0, 1, 2))
  return configured(
    "bitq",
    **more,
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
