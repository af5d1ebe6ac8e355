"""What training at uniform bits can be set to, and its checks."""

from typing import Literal

from fbq import precision
from fbq.config import ConfigError, NotNegative, Share, brought, require
from fbq.lab import fine_tuning
from fbq.lab.fine_tuning import Recipe
from fbq.lab.lab import Lab
from fbq.lab.settings import BelowOne, Bits, Qat, Seeds, Stage, Training
from fbq.nets.graph import Net
from fbq.schemes.fixed import Fixed, Form


class QatWithForm(Qat):
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
  fine_tuning: Stage = Stage()
  "Training by every rule."
  range_learning_rates: dict[str, NotNegative] = {}
  "Rates of the ranges by name of the rule; one that is not here has its own."
  qat: QatWithForm = QatWithForm()
  "The rule that the others are compared with; all share its form."


def check(settings: UniformTraining, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  compare, distillation = settings.compare, settings.qat.distillation
  are_different = len(recipes(settings)) == 1 + len(compare)
  expected = "different rules beside config.qat.method"
  require(are_different, "compare", compare, expected)
  is_free = settings.start == "float" or not distillation
  expected = "0 where training starts from scratch"
  require(is_free, "qat.distillation", distillation, expected)
  _ = lab.task


def recipes(settings: UniformTraining) -> dict[str, Recipe]:
  """{name of a rule: how it trains}, the chosen one first, or ConfigError."""
  qat = settings.qat
  rules = [brought("rule", qat.method, "qat.method")]
  rules += [brought("rule", name, "compare") for name in settings.compare]
  form = Form(qat.weights, qat.activations, qat.per_channel, qat.quantizes)
  try:
    return {
      rule.name: Recipe(
        Fixed(rule, form, qat.average_decay),
        qat.batch_norm,
        qat.freeze_share,
        **fine_tuning.options_of(qat),
      )
      for rule in rules
    }
  except ValueError as error:
    raise ConfigError(f"config.qat: {error}") from error


def assignment(settings: UniformTraining, net: Net) -> dict[str, int]:
  """{site: bits}: weights, activations, and what the network fixes."""
  bits = precision.uniform(net, settings.activation_bits)
  weights = [site for site in bits if site.endswith(".weight")]
  return bits | dict.fromkeys(weights, settings.bits) | net.fixed_bits
