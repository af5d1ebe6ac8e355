"""How much of a network's accuracy quantization-aware training keeps.

  python main.py --config=configs/digits_qat.py --workdir=runs/digits_qat
  python main.py --workdir=runs/digits_qat_lsq4 \
    --config=configs/digits_qat.py:method=lsq,bits=4
  python main.py --workdir=runs/rules \
    --config=configs/digits_qat.py:bits=4,compare=all,net=resnet8

Rules: log_lsq, lsq, tqt, pact, min_max (fbq/quantizers/qat_rules.py says what
each does); bits and activation_bits: 2, 4 or 8; compare=all adds the others.
A minute of processor time for the float training of each seed, 15 s for each
rule and seed. Expected: 8 bits lose at most 0.5 points, 4 bits at most 2.

Obtained on 2026-11-21 (jax 0.10.2), MobileNetV1-0.25, 200 steps at the rates
below, test accuracy in %, means and standard errors of three seeds, on the
float networks of configs/digits_search_shootout.py (96.39 %); mixed is
the recommended assignment of configs/digits_free_bits.py:

             8/8            4/4            2/2            mixed
  log_lsq    96.39 +-0.21   94.56 +-0.26   33.15 +-2.08   95.49 +-0.42
  pact       96.04 +-0.38   94.26 +-0.48   12.48 +-0.55   95.23 +-0.47
  tqt        96.04 +-0.25   94.40 +-0.49   10.32 +-0.36   95.14 +-0.38
  min_max    96.32 +-0.31   93.24 +-0.51   diverged       94.91 +-0.61
  lsq        96.39 +-0.25   91.53 +-0.55   diverged       93.45 +-0.40

At 2/2 lsq is at chance for seed 0 and diverges for seed 1, min_max diverges for
seed 0. Rates of other rules than log_lsq were not tuned: at 0.1 lsq gives 94.44
instead of 92.57 at 4/4 (seed 0) and chance at 2/2, tqt chance at both. log_lsq
stays the default of all pipelines: no rule is better by more than a standard
error, and at 2 bits none comes near. The first command itself ended with
94.56 +-0.56, 1.83 +-0.58 points below float, from 84.56 before training.
"""

from ml_collections import ConfigDict

from configs import digits_free_bits

RULES = ("log_lsq", "lsq", "tqt", "pact", "min_max")
NETS = {
  **digits_free_bits.NETS,
  "mobilenet_v2": dict(
    width=0.25, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
}


def get_config(arguments: str = "") -> ConfigDict:
  """Values only; see fbq/experiments/qat.py for what they do."""
  chosen = dict(
    method=RULES[0],
    bits="4",
    activation_bits="",
    compare="",
    net="mobilenet_v1",
  )
  for part in filter(None, arguments.split(",")):
    key, _, value = part.partition("=")
    if key not in chosen or not value:
      raise ValueError(
        f"{part!r}: expected some of {list(chosen)}, as key=value"
      )
    chosen[key] = value
  if chosen["net"] not in NETS:
    raise ValueError(f"net is {chosen['net']!r}, expected one of {list(NETS)}")
  if chosen["compare"] not in ("", "all"):
    raise ValueError(f"compare is {chosen['compare']!r}, expected 'all'")
  others = [rule for rule in RULES if rule != chosen["method"]]
  base = digits_free_bits.get_config().to_dict()
  tuning = dict(base["fine_tuning"])
  del tuning["range_learning_rate"]
  return ConfigDict(
    dict(
      experiment="qat",
      seeds=(0, 1, 2),
      net=dict(builder=chosen["net"], arguments=NETS[chosen["net"]]),
      data=base["data"],
      bits=int(chosen["bits"]),  # of weights
      activation_bits=int(chosen["activation_bits"] or chosen["bits"]),
      compare=tuple(others) if chosen["compare"] else (),
      start="float",  # or "scratch": all steps quantized
      float_training=base["float_training"],
      calibration_images=256,
      fine_tuning=tuning,
      range_learning_rates=dict.fromkeys(RULES, 1e-2),
      qat=dict(
        base["qat"],
        method=chosen["method"],
        weights="symmetric",  # "restricted", "affine": by min_max alone
        activations="symmetric",  # "affine": by min_max alone
        per_channel=True,
        quantizes="both",  # "weights", "activations"
        average_decay=0.99,  # of min_max's ranges of activations
        batch_norm="absorb",  # or "correct_then_freeze"
        freeze_share=0.5,  # of the steps, after which batch norms stand still
      ),
      checkpoint_every=200,
      log_every=25,
    )
  )
