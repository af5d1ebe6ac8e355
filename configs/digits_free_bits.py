"""Free Bits on real handwritten digits: which precision for each tensor?

  python main.py --config=configs/digits_free_bits.py --workdir=runs/digits
  python main.py --config=configs/digits_free_bits.py:resnet8 --workdir=runs/r8

Takes 3 to 5 minutes on two cores, compilation included. Expected: a float
network of 93-99 %, uniform 2-bit fine-tuning at least 3 points below it.
Obtained with the default network on 2026-11-21 (jax 0.10.2), test accuracy on
1,440 images:

  float 96.74 %, 8/8 97.22 %, 4/4 95.42 %, 2/2 23.82 %, one standard error 0.5;
  recommended: free gates at strength 0.006 and the Free Bits pass, 96.74 % with
  13.1 % fewer cycles than 8/8.
"""

from ml_collections import ConfigDict

NETS = {
  "mobilenet_v1": dict(
    width=0.25, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
  "resnet8": dict(width=0.5, resolution=32, classes=10, in_channels=1),
}


def get_config(net: str = "mobilenet_v1") -> ConfigDict:
  """Values only; see fbq/experiments/free_bits.py for what they do."""
  if net not in NETS:
    raise ValueError(f"the network is {net!r}, expected one of {list(NETS)}")
  return ConfigDict(
    dict(
      experiment="free_bits",
      seed=0,
      net=dict(builder=net, arguments=NETS[net]),
      data=dict(
        name="digits",
        split_seed=0,
        test_seed=0,
        renders_per_test_image=4,
        difficulty=dict(size=(0.6, 0.9), fragments=2),  # fbq/data/canvas.py
      ),
      target="xpulpnn_v1",
      measured_latency="",  # CSV or JSON of layers measured on a board
      float_training=dict(
        steps=2000, batch_size=32, learning_rate=0.05, weight_decay=1e-4
      ),
      calibration_images=256,
      search=dict(
        steps=200,
        batch_size=32,
        learning_rate=5e-3,
        weight_decay=0.0,
        strengths=(0.003, 0.006, 0.012),
        locked=(True, False),
        gate_learning_rate=0.05,
        range_bits=4,
        faithful=False,
      ),
      fine_tuning=dict(
        steps=200,
        batch_size=32,
        learning_rate=1e-2,
        weight_decay=0.0,
        range_learning_rate=1e-2,
      ),
      qat=dict(  # of fine-tuning, see fbq/quantizers/qat_rules.py
        method="log_lsq",  # range_learning_rate is what its optimizer takes
        distillation=0.0,  # share of the float network's answers in the loss
        temperature=1.0,  # that softens them
        smoothing=0.0,  # decay of averages of the weights, 0 for none
      ),
      rules=(),  # (regular expression over tensor names, bits) pairs
      uniform_baselines=(8, 4, 2),
      tolerance=0.005,  # accuracy that the recommended point may lose
      checkpoint_every=200,
      log_every=25,
    )
  )
