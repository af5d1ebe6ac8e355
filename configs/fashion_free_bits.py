"""Free Bits on Fashion-MNIST: 70,000 real photographs of clothes, 10 classes.

  python main.py --config=configs/fashion_free_bits.py \
    --config.data.directory=FOLDER --workdir=runs/fashion
  python main.py --config=configs/fashion_free_bits.py:mobilenet_v1,short ...

The folder holds the four files of MNIST or Fashion-MNIST, plain or gzipped; the
error for a wrong one says where to get them. 50,000 images are trained on,
10,000 are chosen by, 10,000 are the test.

Full: three seeds, a night on two cores, meant to reach 92.5 % in floating
point. `:short`: one seed in an hour, some points less. `:smoke`: every stage
for a few steps, minutes. An earlier run of ResNet-8 on the same images, 60,000
of them for training and 16 epochs of batches of 128, read 92.9 % of the test;
the gates' rate and strengths are those that searched there, with 4 epochs.
`:short` of ResNet-8 reads 91.91 % of the test in float (2026-11-26, 54 minutes
of processor time; docs/results.md has its table); the full size has not been
run.
"""

from ml_collections import ConfigDict

from fbq.config import chosen, configured

NETS = {
  "resnet8": dict(width=1.0, resolution=32, classes=10, in_channels=1),
  "mobilenet_v1": dict(
    width=0.25, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
}
# Length of float training, of a search and of a fine-tuning
SIZES = {
  "full": ("24 epochs", "4 epochs", "2 epochs"),
  "short": ("8 epochs", "2 epochs", "1 epoch"),
  "smoke": (30, 6, 6),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  found = chosen(words, net=tuple(NETS), size=tuple(SIZES))
  net, size = found["net"], found["size"]
  trained, searched, tuned = SIZES[size]
  return configured(
    "free_bits",
    seeds=(0, 1, 2) if size == "full" else (0,),
    net=dict(builder=net, arguments=NETS[net]),
    # Mirrored clothes are clothes; mirrored digits are none
    data=dict(name="idx", directory="fashion-mnist", flip=True),
    float_training=dict(
      steps=trained,
      batch_size=128,
      learning_rate=0.1,
      weight_decay=5e-4,
      warmup=0.05,
    ),
    calibration_images=512,
    search=dict(
      steps=searched,
      batch_size=128,
      learning_rate=1e-3,
      warmup=0.0,
      strengths=(0.02, 0.06, 0.2),
      locked=(True, False) if size == "full" else (False,),
      gate_learning_rate=0.03,
    ),
    fine_tuning=dict(
      steps=tuned,
      batch_size=128,
      learning_rate=1e-2,
      warmup=0.0,
      range_learning_rate=1e-2,
    ),
    checkpoint_every=500 if size != "smoke" else 6,
    log_every=50 if size != "smoke" else 3,
  )
