"""What quantization-aware training can be set to, and its checks."""

from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from fbq import doors, nets, norms, precision
from fbq.experiments import fine_tuning, settings, stage_settings, task
from fbq.experiments.fine_tuning import KNOWN_RULES, Recipe
from fbq.experiments.stage_settings import STAGE, Demand
from fbq.quantizers.qat_rules import Rule
from fbq.schemes.fixed import Fixed, Form

STARTS = ("float", "scratch")
SETTINGS = {
  **stage_settings.SETTINGS,
  "seeds": list,
  "bits": int,
  "activation_bits": int,
  "compare": list,
  "start": str,
  "fine_tuning": STAGE,
  "range_learning_rates": dict,  # name of a rule -> rate
  "qat": {
    **fine_tuning.SETTINGS,
    "weights": str,
    "activations": str,
    "per_channel": bool,
    "quantizes": str,
    "average_decay": float,
    "batch_norm": str,
    "freeze_share": float,
  },
}


class Setup(NamedTuple):
  """What a sound configuration stands for.

  Attributes:
    net, task: of the experiment.
    recipes: rule -> how it trains, the chosen one first.
    assignment: bits of every site.
    words: the precision, for people.
  """

  net: nets.Net
  task: task.Task
  recipes: dict[str, Recipe]
  assignment: dict[str, int]
  words: str


def check(config: ConfigDict) -> Setup:
  """The setup of a sound configuration.

  Raises:
    ConfigError: naming the setting at fault.
  """
  settings.check_keys(config.to_dict(), SETTINGS)
  stages = ("float_training", "fine_tuning")
  stage_settings.require(config, stage_settings.demands(config, stages))
  stage_settings.require(config, _demands(config))
  stage_settings.require(config, fine_tuning.demands(config.qat))
  try:
    rules = [
      doors.resolve("rule", method)
      for method in (config.qat.method, *config.compare)
    ]
    recipes = {rule.name: _recipe(config.qat, rule) for rule in rules}
  except ValueError as error:
    raise settings.ConfigError(f"config.qat: {error}") from error
  net = stage_settings.build_net(config)
  assignment = precision.uniform(net, config.activation_bits) | {
    f"{node.name}.weight": config.bits for node in net.nodes if node.has_weights
  }
  assignment |= net.fixed_bits
  data = task.build(config, net)
  return Setup(net, data, recipes, assignment, _words(config))


def _recipe(qat: ConfigDict, rule: Rule) -> Recipe:
  form = Form(qat.weights, qat.activations, qat.per_channel, qat.quantizes)
  return Recipe(
    Fixed(rule, form, qat.average_decay),
    qat.batch_norm,
    qat.freeze_share,
    **fine_tuning.options_of(qat),
  )


def _words(config: ConfigDict) -> str:
  weights = f"{config.bits}-bit weights"
  activations = f"{config.activation_bits}-bit activations"
  if config.qat.quantizes == "weights":
    return f"{weights} and float activations"
  if config.qat.quantizes == "activations":
    return f"float weights and {activations}"
  return f"{weights} and {activations}"


def _demands(config: ConfigDict) -> Iterator[Demand]:
  seeds, compare = config.seeds, config.compare
  whole = all(isinstance(s, int) and stage_settings.is_seed(s) for s in seeds)
  different = bool(seeds) and len(set(seeds)) == len(seeds)
  yield "seeds", whole and different, "different whole numbers, 0 to 2^32 - 1"
  for name in ("bits", "activation_bits"):
    is_known = config[name] in precision.BITS
    yield name, is_known, f"one of {precision.BITS}"
  others = all(map(fine_tuning.is_rule, compare))
  others &= len({config.qat.method, *compare}) == 1 + len(compare)
  expected = f"different rules beside config.qat.method: {KNOWN_RULES}"
  yield "compare", others, expected
  yield "start", config.start in STARTS, f"one of {STARTS}"
  for rule, rate in config.range_learning_rates.items():
    sound = isinstance(rate, (int, float)) and 0 <= rate < 1e3
    yield f"range_learning_rates.{rule}", sound, "a number, at least 0"
  modes = norms.MODES
  yield "qat.batch_norm", config.qat.batch_norm in modes, f"one of {modes}"
  is_share = 0 <= config.qat.freeze_share <= 1
  yield "qat.freeze_share", is_share, "a share of the steps, 0 to 1"
  teaches = config.start == "float" or not config.qat.distillation
  yield "qat.distillation", teaches, "0 where training starts from scratch"
