"""The whitepaper's tables 2 to 6 (arXiv 1806.08342) on the digits.

  python main.py --config=configs/digits_whitepaper.py --workdir=runs/wp_v1
  python main.py --config=configs/digits_whitepaper.py:resnet8 --workdir=...

Also `:mobilenet_v2` and `:inception_v3`, a small one. All networks in one table
each: python -m fbq.report.whitepaper_collect runs/wp_v1 ...
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import digits_free_bits

_SMALL = dict(resolution=32, classes=10, in_channels=1)


class _Case(NamedTuple):
  """A network, and what makes its run one of minutes."""

  arguments: dict[str, Any]
  float_steps: int = 2000
  qat_steps: int = 100
  widths: tuple[float, ...] = ()


NETS = {
  "mobilenet_v1": _Case(
    dict(width=0.25, stem_stride=1), widths=(0.0625, 0.125, 0.25)
  ),
  "mobilenet_v2": _Case(dict(width=0.25, stem_stride=1)),
  "resnet8": _Case(dict(width=0.5), 1000, 150),
  "inception_v3": _Case(
    dict(width=0.25, blocks=(1, 1, 1), large_stem=False), 500, 60
  ),
}


def get_config(net: str = "mobilenet_v1") -> ConfigDict:
  """Values only; see fbq/experiments/whitepaper.py for what they do."""
  if net not in NETS:
    raise ValueError(f"the network is {net!r}, expected one of {list(NETS)}")
  case = NETS[net]
  base = digits_free_bits.get_config()
  return ConfigDict(
    dict(
      experiment="whitepaper",
      seeds=(0, 1, 2),  # of start, batches, calibration images
      net=dict(builder=net, arguments={**_SMALL, **case.arguments}),
      data=base.data.to_dict(),
      float_training=dict(
        steps=case.float_steps,
        batch_size=32,
        learning_rate=0.05,
        weight_decay=1e-4,
      ),
      calibration_images=512,
      qat=dict(
        steps=case.qat_steps,
        batch_size=32,
        learning_rate=5e-3,
        weight_decay=0.0,
        freeze_share=0.7,  # of the steps, after which batch norms stand still
      ),
      widths=case.widths,  # of networks at 8 and 4 bits
      checkpoint_every=500,
      log_every=25,
    )
  )
