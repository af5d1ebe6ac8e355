"""Which way to choose precisions wins, at equal fine-tuning and as many points?

  python main.py --config=configs/digits_search_shootout.py --workdir=runs/shoot
  python main.py --config=configs/digits_search_shootout.py:quick --workdir=...
  python main.py ... --config.fine_tuning.start=search  keeps searched weights

All strategies on the digits and two controls, three seeds (`:quick`: one), one
table and one picture. Every strategy has one assignment for each budget, to
which its strength is led by bisection: some 45 searches and 60 fine-tunings of
200 steps for each seed. Estimated from the processor time of these steps: 25
minutes for a seed on two cores, an hour for three. It has not been run in full.
"""

from ml_collections import ConfigDict

from configs import digits_free_bits
from fbq.config import chosen, configured

BUDGETS = (0.78, 0.84, 0.9)


def get_config(words: str = "") -> ConfigDict:
  """Values that differ from the defaults; --settings lists all."""
  size = chosen(words, size=("full", "quick"))["size"]
  base = digits_free_bits.get_config().to_dict()
  shared = ("net", "data", "float_training", "fine_tuning", "qat")

  # The brackets hold the strengths of budgets from 75 to 95 % of the cycles.
  def gated(low, high):
    return dict(bracket=(low, high), gate_learning_rate=0.05)

  return configured(
    "shootout",
    **{name: base[name] for name in shared},
    seeds=(0, 1, 2) if size == "full" else (0,),
    strategies={
      "free-bits": gated(1e-3, 1.0),
      "free-bits-tensors": gated(1e-4, 1.0),
      "free-bits-locked": gated(1e-3, 1.0),
      "bayesian-bits": gated(1e-3, 1.0),
      "bb-deterministic": gated(1e-4, 0.1),
      "bb-post-training": gated(1e-3, 1.0),
      "latency": gated(0.1, 1e3),
      "latency-budget": {},
      "softmax": gated(0.1, 1e2),
      "gumbel": gated(0.01, 1e2),
      "fractional": gated(0.1, 1e3),
      "fractional-budget": {},
      "loss-exact": {},
      "kl-exact": {},
      "hessian-exact": {},
      "gates-exact": {},
      "by-macs": {},
      "random": {},
    },
    calibration_images=512,
    search=dict(
      steps=200,
      batch_size=32,
      learning_rate=5e-3,
      range_learning_rate=1e-2,
      temperature=(1.0, 0.1),
      budget_strength=10.0,
      searches=5,
      tolerance=0.02,
    ),
    budgets=BUDGETS,
    least_accuracy=0.9,
  )
