"""Free Bits at full size: MobileNets of 224 pixels on ImageNet.

  python main.py --config=configs/imagenet_free_bits.py:mobilenet_v1 \
    --config.data.directory=/data/imagenet --workdir=runs/imagenet_v1
  python main.py --config=configs/imagenet_free_bits.py:mobilenet_v2 \
    --config.float_checkpoint=mobilenet_v2.safetensors ...

The directory holds train/<class>/<image>.JPEG and val/<class>/<image>.JPEG, or
what `python -m fbq.data.to_array_record` makes of them, which reads faster. A
float checkpoint from PyTorch saves the 100 epochs of float training:
fbq/train/torch_weights.py says how to make one.

`:smoke`, or `:mobilenet_v2,smoke`, goes the whole way with a small network on
pictures it makes itself, in runs/smoke_images or --config.data.directory:

  python main.py --config=configs/imagenet_free_bits.py:smoke --workdir=runs/s

It takes 2 minutes of processor time, with MobileNetV2 3. Expected: a float
network near 100 %, as the hue of a picture tells its class; 8 steps of
fine-tuning may leave the others far below. Obtained on 2026-11-21: float 100 %,
8/8 100 %, the rest below 40 %; MobileNetV2 float 100 %, 8/8 38 %, before
fine-tuning 44 %, so it is this network of 80 steps that 8 bits harm.

Nobody has run the full size with this code: it takes 100 + 2 x 4 x 11 + about
20 x 11 epochs, so days on one GPU. Expected of MobileNetV1, from the paper
(arXiv 2307.02894): 69.1 % at 8/8, 65.6 % at 4/4, 66.3 % at 4/4 with the Free
Bits pass; of MobileNetV2, from quantlab: 72.0 % float, 71.4 % at 8/8.
Rates, epochs and batches are those of quantlab's configurations
(docs/facts/quantization.md 3.1, 3.2, 3.4). What differs: Nesterov's momentum,
random crops in the search too, batches of 192 in place of 190 for MobileNetV2,
whose float recipe quantlab does not give (V1's here). With search.faithful the
gates' gradients are the authors' too.
"""

from typing import Any

from ml_collections import ConfigDict

from fbq.config import chosen, configured

_TORCHVISION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Epochs after which rates fall to a tenth, as shares of all.
_DROPS_100 = (0.4, 0.7, 0.9)
_DROPS_11 = (4 / 11, 7 / 11)

# Network -> its width and fine-tuning.
NETS: dict[str, tuple[float, dict[str, Any]]] = {
  "mobilenet_v1": (
    0.75,
    dict(
      steps="11 epochs", batch_size=256, learning_rate=1e-3, weight_decay=0.0
    ),
  ),
  "mobilenet_v2": (
    1.0,
    dict(
      steps="12 epochs", batch_size=192, learning_rate=7.5e-4, weight_decay=4e-5
    ),
  ),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), size=("full", "smoke"))
  name = found["net"]
  width, fine_tuning = NETS[name]
  config = configured(
    "free_bits",
    net=dict(
      builder=name, arguments=dict(width=width, resolution=224, classes=1000)
    ),
    data=dict(name="imagenet", directory="imagenet", threads=16),
    checkpoint_images=_TORCHVISION,  # (): images from 0 to 1
    float_training=dict(
      steps="100 epochs",
      batch_size=256,
      learning_rate=0.1,
      weight_decay=4e-5,
      warmup=0.0,
      drops=_DROPS_100,
    ),
    calibration_images=128,  # their activations take 2 GB
    search=dict(
      steps="11 epochs",
      batch_size=256,
      learning_rate=1e-3,
      warmup=0.0,
      drops=_DROPS_11,
      strengths=(0.05, 0.1, 0.18, 0.36),  # the authors': 0.18
      gate_learning_rate=1e-4,
    ),
    fine_tuning=dict(
      **fine_tuning, warmup=0.0, drops=_DROPS_11, range_learning_rate=1e-3
    ),
    qat=dict(method="tqt"),
    checkpoint_every=5000,
    log_every=100,
  )
  return smoke(config) if found["size"] == "smoke" else config


def smoke(config: ConfigDict) -> ConfigDict:
  """The same way through everything in minutes: small, short, few."""
  config.net.arguments = dict(width=0.25, resolution=32, classes=4)
  config.data.update(
    directory="runs/smoke_images",
    generated=dict(classes=4, train=32, test=13),
    evaluation_batch=20,
    threads=2,
  )
  for stage, epochs in (("float_training", 10), ("fine_tuning", 1)):
    config[stage].update(steps=f"{epochs} epochs", batch_size=16)
  config.search.update(
    steps="1.5 epochs",
    batch_size=16,
    strengths=(3.0,),  # so much that gates close at all in a few steps
    gate_learning_rate=0.3,
  )
  config.calibration_images = 16
  config.uniform_baselines = (8, 2)
  config.checkpoint_every, config.log_every = 40, 4
  return config
