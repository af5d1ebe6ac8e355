"""Free Bits on scenes: which precision for each tensor of a dense network?

  python main.py --config=configs/scenes_free_bits.py --workdir=runs/fcn
  python main.py --config=configs/scenes_free_bits.py:ssd,short --workdir=...

Scenes are several handwritten digits on textured canvases of 64x64 pixels
(fbq/data/scenes.py); nothing is downloaded. `fcn` maps their classes and is
judged by mean IoU, `ssd` finds boxes and is judged by COCO's box AP. Both are
made of convolutions and sums alone (fbq/nets/one_way.py), which is what PULP
clusters and NE16 have kernels for: of the networks of configs/scenes_bitq.py,
YOLOv8 concatenates and enlarges, U-Net too, the transformer multiplies
activations, so that those have cycles only where a board was measured
(`--config.target= --config.measured_latency=FILE`).

Full: three seeds, meant for a GPU. `:short`: one seed. `:smoke`: every stage
for a few steps, minutes; it alone has been run (fcn, to the end), so what the
others reach is not known. configs/scenes_exact.py has the same words.
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq.config import chosen, configured

_SMALL = dict(resolution=64, in_channels=1)


class _Case(NamedTuple):
  """A network, and how it is trained.

  Attributes:
    arguments: of its builder, whose name it has.
    rate: peak learning rate of float training; a tenth afterwards.
  """

  arguments: dict[str, Any]
  rate: float


NETS = {
  "fcn": _Case(dict(width=16, stride=4, classes=11), 5e-3),
  "ssd": _Case(dict(width=8, classes=10), 5e-3),
}
# Seeds; steps of float training, of a search, of a fine-tuning; images of each
SIZES = {
  "full": ((0, 1, 2), (20_000, 2000, 1000), 64),
  "short": ((0,), (2000, 300, 100), 32),
  "smoke": ((0,), (12, 6, 6), 4),
}


def shared(words: str) -> dict[str, Any]:
  """What does not depend on how precisions are found."""
  found = chosen(words, net=tuple(NETS), size=tuple(SIZES))
  case, smoke = NETS[found["net"]], found["size"] == "smoke"
  seeds, (trained, _, tuned), batch = SIZES[found["size"]]
  stage = dict(batch_size=batch, optimizer="adamw")
  return dict(
    seeds=seeds,
    net=dict(builder=found["net"], arguments={**_SMALL, **case.arguments}),
    data=dict(name="scenes", renders_per_test_group=1 if smoke else 4),
    float_training=dict(
      stage, steps=trained, learning_rate=case.rate, weight_decay=1e-3
    ),
    calibration_images=48 if smoke else 256,
    fine_tuning=dict(stage, steps=tuned, learning_rate=case.rate / 10),
    # Points of mean IoU or of box AP
    tolerance=0.01,
    checkpoint_every=6 if smoke else 500,
    log_every=3 if smoke else 100,
  )


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), size=tuple(SIZES))
  case = NETS[found["net"]]
  _, (_, searched, _), batch = SIZES[found["size"]]
  return configured(
    "free_bits",
    **shared(words),
    search=dict(
      steps=searched,
      batch_size=batch,
      learning_rate=case.rate / 10,
      optimizer="adamw",
      # Losses of tasks differ in size, and so do the strengths for a target
      aim=dict(
        cost="bops",
        targets=(0.4, 0.6),
        bracket=(1e-3, 1e2),
        searches=1 if found["size"] == "smoke" else 4,
        tolerance=0.05,
      ),
      locked=(True, False) if found["size"] == "full" else (False,),
    ),
  )
