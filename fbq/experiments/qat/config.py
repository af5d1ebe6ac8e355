"""What training at uniform bits can be set to, and its checks."""

from typing import Literal

from fbq import precision
from fbq.config import NotNegative, Share, require
from fbq.lab import fine_tuning
from fbq.lab.fine_tuning import Recipe
from fbq.lab.lab import Lab
from fbq.lab.settings import BelowOne, Bits, FineTuning, Qat, Seeds, Training
from fbq.nets.graph import Net
from fbq.schemes.fixed import Form


class Rule(Qat):
  """How a network is trained quantized, with the form of its grids."""

  weights: Literal["symmetric", "restricted", "affine"] = "symmetric"
  "Grids of weights; others than symmetric ones by min_max alone."
  activations: Literal["symmetric", "affine"] = "symmetric"
  "Grids of signed activations; affine ones by min_max alone."
  per_channel: bool = True
  "A range for every output channel of a kernel, or one for all."
  quantizes: Literal["both", "weights", "activations"] = "both"
  "What is quantized; the other stays in floating point."
  average_decay: BelowOne = 0.99
  "Decay, per step, of min_max's averages of activations' ends."
  batch_norm: Literal["absorb", "correct_then_freeze"] = "absorb"
  "How batch norms are trained, see fbq/norms.py."
  freeze_share: Share = 0.5
  "Share of the steps after which batch norms of correct_then_freeze stand \
  still."


class UniformTraining(Training):
  """Quantization-aware training at the same bits everywhere."""

  seeds: Seeds = (0, 1, 2)
  "Seeds of everything that is drawn; a network for each."
  bits: Bits = 4
  "Bits of weights."
  activation_bits: Bits = 4
  "Bits of activations."
  compare: tuple[str, ...] = ()
  "Rules that are trained too, beside qat.method."
  start: Literal["float", "scratch"] = "float"
  "Where training starts; from scratch it takes the steps of float training \
  and of fine-tuning."
  fine_tuning: FineTuning = FineTuning()
  "Training by every rule."
  range_learning_rates: dict[str, NotNegative] = {}
  "Rates of the ranges by rule, where they are not that of fine_tuning."
  qat: Rule = Rule()
  "The rule that the others are compared with; all share its form."


def check(settings: UniformTraining, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  require(
    len({settings.qat.method, *settings.compare}) == 1 + len(settings.compare),
    "compare",
    settings.compare,
    "different rules beside config.qat.method",
  )
  require(
    settings.start == "float" or not settings.qat.distillation,
    "qat.distillation",
    settings.qat.distillation,
    "0 where training starts from scratch",
  )
  recipes(settings)
  _ = lab.task


def recipes(settings: UniformTraining) -> dict[str, Recipe]:
  """{rule: how it trains}, the chosen one first; ConfigError if one cannot."""
  qat = settings.qat
  form = Form(qat.weights, qat.activations, qat.per_channel, qat.quantizes)
  for name in settings.compare:
    fine_tuning.rule_of(name, "compare")
  return {
    name: Recipe(
      fine_tuning.scheme_of(name, form, qat.average_decay),
      qat.batch_norm,
      qat.freeze_share,
      **fine_tuning.options_of(qat),
    )
    for name in (qat.method, *settings.compare)
  }


def assignment(settings: UniformTraining, net: Net) -> dict[str, int]:
  """{site: bits}: weights, activations, and what the network fixes."""
  weights = {
    f"{node.name}.weight": settings.bits
    for node in net.nodes
    if node.has_weights
  }
  activations = precision.uniform(net, settings.activation_bits)
  return {**activations, **weights, **net.fixed_bits}
