"""Free Bits on CIFAR-10 or CIFAR-100, ResNet-8 or MobileNetV1.

  python main.py --config=configs/cifar_free_bits.py:resnet8 \
    --config.data.directory=/data/cifar10 --workdir=runs/cifar
  python main.py --config=configs/cifar_free_bits.py:resnet8,cifar100 ...

The directory holds an archive of https://www.cs.toronto.edu/~kriz/cifar.html,
or the folder that it unpacks to. `:smoke` goes the whole way on files of the
same form that it makes itself, in runs/smoke_cifar or --config.data.directory:

  python main.py --config=configs/cifar_free_bits.py:smoke --workdir=runs/s

It takes a minute of processor time. Obtained on 2026-11-21: float and 8/8 100
%, locked gates with the Free Bits pass 100 % with 2.8 % fewer cycles.

Nobody has run the full size with this code; on one GPU it takes hours. Quantlab
fine-tunes ResNet-8 for 220 epochs by Adam (docs/facts/quantization.md 3.4),
where this takes SGD and fewer. MobileNetV1 has a stem of stride 1. VGG-9 needs
more L1 than the target has, see configs/profile_pulp.py.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured

NETS = {
  "resnet8": dict(width=1.0, resolution=32),
  "mobilenet_v1": dict(width=0.5, resolution=32, stem_stride=1),
}
CLASSES = {"cifar10": 10, "cifar100": 100}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(
    words, net=tuple(NETS), data=tuple(CLASSES), size=("full", "smoke")
  )
  name, data = found["net"], found["data"]
  config = configured(
    "free_bits",
    net=dict(builder=name, arguments={**NETS[name], "classes": CLASSES[data]}),
    data=dict(name=data, directory=data),
    float_training=dict(
      steps="200 epochs",
      batch_size=128,
      learning_rate=0.1,
      weight_decay=5e-4,
      warmup=0.02,
    ),
    calibration_images=512,
    search=dict(
      steps="20 epochs",
      batch_size=128,
      learning_rate=1e-3,
      warmup=0.0,
      aim=dict(
        targets=(0.8, 0.9),
        bracket=(1e-3, 1.0),
        searches=2,
        at_once=3,  # as many as four rounds of one tell apart, in two programs
      ),
      # At the authors' rates gates need 2,500 steps from 8 bits to 4.
      gate_learning_rate=0.03,
    ),
    fine_tuning=dict(
      steps="20 epochs",
      batch_size=128,
      learning_rate=1e-2,
      warmup=0.0,
      range_learning_rate=1e-2,
    ),
    checkpoint_every=2000,
    log_every=100,
  )
  return smoke(config) if found["size"] == "smoke" else config


def smoke(config: ConfigDict) -> ConfigDict:
  """The same way through everything in minutes: narrow, short, few."""
  config.net.arguments.width = 0.25
  config.data.update(
    directory=f"runs/smoke_{config.data.name}",
    generated=dict(classes=config.net.arguments.classes, train=40, test=45),
    evaluation_batch=20,
  )
  for stage, epochs in (("float_training", 8), ("fine_tuning", 1)):
    config[stage].update(steps=f"{epochs} epochs", batch_size=16)
  config.search.update(
    steps="1 epoch", batch_size=16, strengths=(3.0,), gate_learning_rate=0.3
  )
  config.calibration_images = 16
  config.uniform_baselines = (8, 2)
  config.checkpoint_every, config.log_every = 40, 4
  return config
