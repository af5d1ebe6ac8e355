"""Post-training quantization on real handwritten digits: which recipe?

  python main.py --config=configs/digits_ptq.py --workdir=runs/digits_ptq
  python main.py --config=configs/digits_ptq.py:mobilenet_v2 --workdir=runs/v2

The second argument is one of mobilenet_v1 (the default), mobilenet_v2, resnet8.
"""

from ml_collections import ConfigDict

NETS = {
  "mobilenet_v1": dict(
    width=0.25, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
  "mobilenet_v2": dict(
    width=0.35, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
  "resnet8": dict(width=0.5, resolution=32, classes=10, in_channels=1),
}


def get_config(net: str = "mobilenet_v1") -> ConfigDict:
  """Values only; see fbq/experiments/ptq.py for what they do."""
  if net not in NETS:
    raise ValueError(f"the network is {net!r}, expected one of {list(NETS)}")
  return ConfigDict(
    dict(
      experiment="ptq",
      seeds=(0, 1, 2),  # of the float networks and of what they are shown
      studies=(
        "granularity",
        "widths",
        "weight_rules",
        "activation_rules",
        "steps",
      ),
      net=dict(builder=net, arguments=NETS[net]),
      data=dict(
        name="digits",
        split_seed=0,
        test_seed=0,
        renders_per_test_image=4,
        difficulty=dict(size=(0.6, 0.9), fragments=2),  # fbq/data/canvas.py
      ),
      float_training=dict(
        steps=2000, batch_size=32, learning_rate=0.05, weight_decay=1e-4
      ),
      calibration_images=512,
      calibration_batch=32,
      validation_images=720,  # of the training split, to choose by
      percent=99.99,  # of the rule "percentile"
      decay=0.9,  # of the rule "moving_average", from batch to batch
      correction_batches=8,  # that bias correction and AdaRound see
      rounding=dict(  # AdaRound; steps=0 leaves it out
        steps=400, batch_size=32, learning_rate=0.03, strength=0.01
      ),
      tolerance=0.01,  # agreement with float that the recommendation may lose
      checkpoint_every=200,
      log_every=25,
    )
  )
