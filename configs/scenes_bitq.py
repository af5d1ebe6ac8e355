"""BitQ on scenes: which block format for each tensor of a dense network?

  python main.py --config=configs/scenes_bitq.py:unet --workdir=runs/unet
  python main.py --config=configs/scenes_bitq.py:yolov8n --workdir=runs/yolo
  python main.py --config=configs/scenes_bitq.py:vit --workdir=runs/vit

Scenes are several handwritten digits on textured canvases of 64x64 pixels
(fbq/data/scenes.py); nothing is downloaded. `yolov8n`, at half the width of the
published one, is judged by COCO's box AP, `yolov8n_seg` by its mask AP, `unet`
and `vit` by mean IoU. Runs of several networks are put together by

  python -m fbq.experiments.bitq.collect --page=table3.html runs/unet runs/vit

Full: seeds 0 and 1, meant for a GPU; not run. `:unet,short`: one seed and
shorter training; `:unet,smoke`: every stage for a few steps, minutes. On two
CPU cores, beside each other: `:yolov8n,short` with 1,200 float steps of 16
scenes ends at AP50 82.2 % in 16 minutes of processor time, `:unet,short` with
4,000 of 32 has a float network of mIoU 82.5 % (docs/results.md has the rest).
"""

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq.config import chosen, configured

_SMALL = dict(resolution=64, in_channels=1)


class _Case(NamedTuple):
  """A network, and how it is trained."""

  builder: str
  arguments: dict[str, Any]
  float_training: dict[str, Any]
  qat: dict[str, Any]


NETS = {
  "unet": _Case(
    "unet",
    dict(width=8, levels=3, classes=11),
    # By momentum it tells nothing but the background after 64,000 scenes.
    dict(learning_rate=1e-2, weight_decay=1e-3, optimizer="adamw"),
    dict(learning_rate=1e-3, optimizer="adamw"),
  ),
  "yolov8n": _Case(
    "yolov8",
    dict(width=0.125, classes=10),
    dict(learning_rate=0.05, weight_decay=5e-4),
    dict(learning_rate=5e-3),
  ),
  "yolov8n_seg": _Case(
    "yolov8",
    dict(width=0.125, classes=10, masks=True),
    dict(learning_rate=0.05, weight_decay=5e-4),
    dict(learning_rate=5e-3),
  ),
  "vit": _Case(
    "vit_segmenter",
    dict(width=64, depth=4, heads=2, patch=4, classes=11),
    dict(learning_rate=2e-3, weight_decay=0.01, optimizer="adamw"),
    dict(learning_rate=2e-4, optimizer="adamw"),
  ),
}
# Seeds; steps and images of a step of float training and at given formats
SIZES = {
  "full": ((0, 1), (3000, 64), (100, 32)),
  "short": ((0,), (2000, 32), (40, 32)),
  "smoke": ((0,), (6, 4), (2, 4)),
}
# Those of table 3, and what has come since
FORMATS = (
  *("FlexBlock FB16", "DBPS", "FAST high", "BSFP", "MSFP-12", "MXINT8"),
  *("MXFP8 E4M3", "MXFP6 E2M3", "MXFP4", "NVFP4"),
)


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), size=tuple(SIZES))
  case, size = NETS[found["net"]], found["size"]
  seeds, trained, tuned = SIZES[size]
  smoke = size == "smoke"

  def stage(length, more):
    return dict(steps=length[0], batch_size=length[1], warmup=0.1, **more)

  return configured(
    "bitq",
    seeds=seeds,
    net=dict(builder=case.builder, arguments={**_SMALL, **case.arguments}),
    data=dict(name="scenes", renders_per_test_group=1 if smoke else 4),
    published=("BSFP", "MXFP4") if smoke else FORMATS,
    alphas=(0.015, 0.05, 0.15, 0.2, 0.25, 1.5, 3.0),
    alpha=0.2,
    # Small beside the tensors of networks of this size, as in digits_bitq.py
    memory_bytes=8192,
    register_bytes=512,
    calibration_images=48 if smoke else 96,
    losses=dict(
      noise_images=4 if smoke else 16,
      measured_formats=2 if smoke else 4,
      held_out=4 if smoke else 48,
      assignments=2 if smoke else 24,
    ),
    float_training=stage(trained, case.float_training),
    qat=stage(tuned, case.qat),
    checkpoint_every=2 if smoke else 500,
    log_every=2 if smoke else 100,
  )
