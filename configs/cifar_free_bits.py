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

from configs import imagenet_free_bits

NETS = {
  "resnet8": dict(width=1.0, resolution=32),
  "mobilenet_v1": dict(width=0.5, resolution=32, stem_stride=1),
}
CLASSES = {"cifar10": 10, "cifar100": 100}


def get_config(arguments: str = "resnet8,cifar10") -> ConfigDict:
  """Values only; see fbq/experiments/free_bits/ for what they do."""
  chosen = dict(net="resnet8", data="cifar10", size="full")
  choices = dict(net=NETS, data=CLASSES, size=("smoke",))
  for part in arguments.split(","):
    kinds = [kind for kind, known in choices.items() if part in known]
    if not kinds:
      raise ValueError(
        f"{part!r}: expected a net, {list(NETS)}, a data set, {list(CLASSES)}, "
        "or smoke, joined by commas"
      )
    chosen[kinds[0]] = part
  classes = CLASSES[chosen["data"]]
  config = imagenet_free_bits.get_config()
  config.net = dict(
    builder=chosen["net"], arguments={**NETS[chosen["net"]], "classes": classes}
  )
  config.data = ConfigDict(dict(name=chosen["data"], directory=chosen["data"]))
  config.float_training.update(
    steps="200 epochs", batch_size=128, weight_decay=5e-4, warmup=0.02
  )
  config.float_training.drops = ()  # a cosine
  config.checkpoint_images = ()
  config.calibration_images = 512
  config.search.update(
    steps="20 epochs", batch_size=128, strengths=(0.01, 0.03, 0.1)
  )
  config.search.gate_learning_rate = 1e-3
  config.fine_tuning.update(
    steps="20 epochs", batch_size=128, learning_rate=1e-2
  )
  config.fine_tuning.drops = config.search.drops = ()
  config.qat.method = "log_lsq"
  config.fine_tuning.range_learning_rate = 1e-2
  config.checkpoint_every, config.log_every = 2000, 100
  return smoke(config) if chosen["size"] == "smoke" else config


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
