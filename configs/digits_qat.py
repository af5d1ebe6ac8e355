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
from fbq.config import chosen, configured

RULES = ("log_lsq", "lsq", "tqt", "pact", "min_max")
NETS = {
  **digits_free_bits.NETS,
  "mobilenet_v2": dict(
    width=0.25, resolution=32, classes=10, in_channels=1, stem_stride=1
  ),
}


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  given = chosen(
    words,
    net=tuple(NETS),
    method=RULES,
    bits=("4", "2", "8"),
    activation_bits=("same", "2", "4", "8"),
    compare=("none", "all"),
  )
  bits, activation_bits = given["bits"], given["activation_bits"]
  others = tuple(rule for rule in RULES if rule != given["method"])
  base = digits_free_bits.get_config()
  return configured(
    "qat",
    seeds=(0, 1, 2),
    net=dict(builder=given["net"], arguments=NETS[given["net"]]),
    data=base.data.to_dict(),
    bits=int(bits),
    activation_bits=int(bits if activation_bits == "same" else activation_bits),
    compare=others if given["compare"] == "all" else (),
    float_training=base.float_training.to_dict(),
    fine_tuning=dict(steps=200, batch_size=32, learning_rate=1e-2),
    range_learning_rates=dict.fromkeys(RULES, 1e-2),
    qat=dict(method=given["method"]),
  )
