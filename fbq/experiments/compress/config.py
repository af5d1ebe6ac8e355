"""What compressing a network out of a file can be set to, and its checks."""

from typing import Annotated, Literal

from pydantic import Field

from fbq.config import (
  Check,
  ConfigError,
  Expected,
  NotNegative,
  Settings,
  Share,
  require,
)
from fbq.experiments.compress import budgets
from fbq.lab import subject
from fbq.lab.lab import Lab
from fbq.lab.settings import BelowOne, Compared, OnTarget
from fbq.lab.subject import FromFile
from fbq.search.problem import PEAK, SIZE

Limit = Annotated[int, Field(ge=0, le=10**12)]


class Limits(Settings):
  """What every chosen assignment keeps; 0 is no limit."""

  cycles: Limit = 0
  "Cycles of an image."
  flash_bytes: Limit = 0
  "Bytes of the weights, packed."
  l2_bytes: Limit = 0
  "Bytes of the activations that live at one time; weights and code, which may \
  lie there too, are not counted."
  microjoules: NotNegative = 0.0
  "Energy of an image, at config.milliwatts."


class Compress(Compared, OnTarget, FromFile):
  """Mixed precision of a network out of a file, without training."""

  experiment: str = "compress"
  "Experiment: a short name, or 'package.module:attribute'."
  ranges: Literal[
    "least_squares", "min_max", "percentile", "kullback_leibler", "file"
  ] = "least_squares"
  "How ranges of activations are found; 'file': those of a quantized file."
  percent: float = Field(99.99, gt=50, le=100)
  "Percentage of numbers in the ranges of the rule percentile."
  weights: Literal["adaround", "nearest"] = "adaround"
  "How weights are rounded."
  rounding_steps: int = Field(1000, ge=0, le=10**6)
  "Steps of AdaRound for each layer; 0 for coordinate descent alone."
  correct: bool = True
  "Whether biases, and batch norms where there are some, are set right by the \
  calibration inputs at the chosen bits."
  cost: Literal["cycles", "flash", "l2", "energy"] = "cycles"
  "What the budgets of the front are of."
  points: int = Field(8, ge=2, le=100)
  "Budgets, evenly spaced from the least cost to that of 8 bits."
  budgets: Annotated[
    tuple[Share, ...],
    Check(
      lambda shares: len({f"{s:.1%}" for s in shares}) == len(shares),
      "shares of what 8 bits cost, 0.1 % apart, or ()",
    ),
  ] = ()
  "Budgets instead, as shares of what 8 bits cost."
  limits: Limits = Limits()
  "Limits that hold for all budgets."
  milliwatts: NotNegative = 0.0
  "Mean power of the target at work: energy is power times time; 0: no energy \
  is told."
  bounds: Annotated[
    tuple[tuple[str, int, int], ...],
    Expected("triples (regular expression, least bits, most bits)"),
  ] = ()
  "(regular expression over tensors, least bits, most bits)."
  tolerance: BelowOne = 0.01
  "Accuracy, or agreement, that the recommended point may lose to 8 bits."


def check(settings: Compress, lab: Lab) -> None:
  """Raises ConfigError for what cannot work, before anything is rounded."""
  kinds = "the .onnx or .tflite file of a network"
  require(bool(settings.model), "model", settings.model, kinds)
  kinds = "inputs: a folder, or a .npz, .npy or .bin file"
  require(
    bool(settings.calibration), "calibration", settings.calibration, kinds
  )
  needs_power = settings.cost == "energy" or settings.limits.microjoules > 0
  require(
    not needs_power or settings.milliwatts > 0,
    "milliwatts",
    settings.milliwatts,
    "the mean power of the target, above 0, where energy is limited",
  )
  images, batch = settings.calibration_images, settings.batch_size
  expected = f"a multiple of batch_size, {batch}"
  require(images % batch == 0, "calibration_images", images, expected)

  found = subject.of(settings)
  lab.adopt(found.net)
  require(
    settings.ranges != "file" or bool(found.ranges),
    "ranges",
    settings.ranges,
    f"another rule, as {settings.model} is not quantized and has no ranges",
  )
  if settings.ranges == "file":
    missing = [s for s in _ranged(found.net) if s not in found.ranges]
    require(
      not missing,
      "ranges",
      settings.ranges,
      f"another rule, as {settings.model} has no range of {missing[:3]}",
    )
  try:
    budgets.plan(settings, lab, None)
  except ConfigError:  # of a target, which names its own setting
    raise
  except ValueError as error:
    said = str(error).replace(SIZE, "flash_bytes").replace(PEAK, "l2_bytes")
    raise ConfigError(f"config.budgets, limits and bounds: {said}") from error


def _ranged(net):
  return [site for site in net.is_signed if site != "input.out"]
