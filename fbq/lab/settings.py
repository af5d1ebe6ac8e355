"""Settings that experiments share: network, data, stages, target."""

import itertools
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import Field

from fbq import precision
from fbq.config import (
  Check,
  Chosen,
  Count,
  NotNegative,
  Positive,
  Seed,
  Settings,
  Share,
  require,
)

BelowOne = Annotated[float, Field(ge=0, lt=1)]


def steps_of(
  length: int | str, batch_size: int, images: Callable[[], int]
) -> int:
  """Steps that a stage takes.

  Args:
    length: a number of steps, or "n epochs" with any positive number n.
    batch_size: images of a step.
    images: () -> images of an epoch; asked only where it matters.

  Raises:
    ValueError: neither a number of steps nor of epochs.
  """
  number, _, unit = str(length).strip().partition(" ")
  try:
    if not unit and 1 <= int(number) <= 10**9:
      return int(number)
    if unit in ("epoch", "epochs") and 0 < float(number) <= 10**6:
      return max(1, round(float(number) * images() / batch_size))
  except ValueError:
    pass  # said below
  raise ValueError(f"{length!r}: expected a number of steps or 'n epochs'")


def _is_length(value) -> bool:
  try:
    return steps_of(value, 1, lambda: 1) >= 1
  except ValueError:
    return False


def _rise(shares) -> bool:
  return all(a < b for a, b in itertools.pairwise((0, *shares, 1)))


def _differ(values) -> bool:
  return bool(values) and len(set(values)) == len(values)


Seeds = Annotated[
  tuple[Seed, ...], Check(_differ, "different whole numbers, 0 to 2^32 - 1")
]
ValidationShare = Annotated[float, Field(gt=0, lt=1)]
Bits = Annotated[
  int, Check(lambda b: b in precision.BITS, f"one of {precision.BITS}")
]
OutputBits = Annotated[
  Literal["reader", 8],
  # A flag of a setting that is a text gives a text.
  pydantic.BeforeValidator(lambda given: 8 if given == "8" else given),
]
Baselines = Annotated[
  tuple[int, ...],
  Check(
    lambda bits: _differ(bits) and 8 in bits and set(bits) <= {*precision.BITS},
    f"some of {precision.BITS}, 8 among them: the report compares with it",
  ),
]
Normalization = Annotated[
  tuple[tuple[float, ...], ...],
  Check(
    lambda pair: (
      not pair
      or len(pair) == 2
      and all(len(part) in (1, 3) for part in pair)
      and all(0 <= mean <= 1 for mean in pair[0])
      and min(pair[1]) > 0
    ),
    "(mean, std), each of one or three colours, of images from 0 to 1: means "
    "of 0 to 1, deviations above 0; or ()",
  ),
]
Target = Annotated[float, Field(gt=0, le=1)]
Targets = Annotated[
  tuple[Target, ...],
  Check(
    lambda shares: (
      bool(shares) and len({f"{s:.0%}" for s in shares}) == len(shares)
    ),
    "shares of what 8 bits cost, above 0 to 1, 1 % apart",
  ),
]
Bracket = Annotated[
  tuple[Positive, Positive],
  Check(lambda ends: ends[0] < ends[1], "two numbers above 0 that rise"),
]


class Stage(Settings):
  """A stage of training: its length, its batches, its rates."""

  steps: Annotated[
    int | str, Check(_is_length, "a number of steps, 1 to 10^9, or 'n epochs'")
  ] = 200
  "Steps of the stage, or 'n epochs'."
  batch_size: int = Field(32, ge=2, le=2**20)
  "Images of a step, over all devices."
  learning_rate: Positive = 0.01
  "Peak rate of the weights."
  weight_decay: NotNegative = 0.0
  "Weight decay, added to the gradient of the weights."
  optimizer: Literal["momentum", "adamw"] = "momentum"
  "What moves the weights: Nesterov's momentum; or AdamW, whose decay is not \
  part of the gradient, for transformers."
  warmup: BelowOne = 0.05
  "Share of the steps in which the rates rise from 0."
  drops: Annotated[
    tuple[float, ...], Check(_rise, "rising shares of the steps, in (0, 1)")
  ] = ()
  "Shares of the steps after each of which the rates fall to a tenth; (): they \
  follow a cosine to 0."
  compute_dtype: Literal["float32", "bfloat16"] = "float32"
  "What is multiplied and kept between layers in training; all else, and every \
  evaluation, is float32. On a GPU, products of float32 keep 11 bits of their \
  operands in training (TF32), all 24 elsewhere."


class Aim(Settings):
  """Targets of searches, and how the strengths for them are found."""

  targets: Targets = (0.85, 0.9, 0.95)
  "Shares of what 8/8 costs; the strength for each is found by bisection."
  cost: Literal["cycles", "bops"] = "cycles"
  "What the shares are of: cycles after the hardware pass, or bit operations \
  as searched."
  at_most: bool = False
  "Whether a share above its target is not good enough."
  bracket: Bracket = (1e-4, 1e2)
  "Strengths between which those of all targets lie."
  searches: int = Field(8, ge=1, le=50)
  "Most rounds of searches for a target; every search counts for all targets."
  at_once: int = Field(1, ge=1, le=64)
  "Searches for a target in a round. More than one pay where they train as one \
  program: on a GPU or TPU."
  tolerance: Share = 0.01
  "Distance from a target at which it is met."

  @property
  def words(self) -> str:
    """What the shares are of, for reports."""
    if self.cost == "bops":
      return "bit operations"
    return "cycles after the hardware pass"


class FineTuning(Stage):
  """A stage of training at given bits, by a rule that may learn ranges."""

  range_learning_rate: NotNegative = 0.01
  "Rate of the ranges; what it is of, the rule says."


class Distilled(Settings):
  """Training towards the float network's answers."""

  distillation: Share = 0.0
  "Share of the float network's answers in the loss."
  temperature: float = Field(1.0, gt=0, le=1e3)
  "What softens the float network's answers."


class Qat(Distilled):
  """How a network is trained quantized, see `fbq.quantizers.qat_rules`."""

  method: str = "log_lsq"
  "Rule of training: a short name, or 'package.module:attribute'."
  smoothing: BelowOne = 0.0
  "Decay of averages of the weights, which are then evaluated; 0 for none."


class NetSettings(Settings):
  """The network."""

  builder: str = "mobilenet_v1"
  "Network: a short name, or 'package.module:function' that gives a Net."
  arguments: dict[str, Any] = {}
  "Arguments of the builder, such as width, resolution, classes."


def _data_kind(given: Any) -> type[Settings]:
  from fbq.lab import data

  return data.data_set(given).settings


def _data(given: Any) -> Any:
  from fbq import config

  if isinstance(given, Settings):
    return given
  return config.of(_data_kind(given), given, "config.data")


Data = Annotated[
  pydantic.SerializeAsAny[Settings],
  pydantic.BeforeValidator(_data),
  Chosen(_data_kind),
]


class FloatNet(Settings):
  """A network, and the file that its weights come from."""

  net: NetSettings = NetSettings()
  "The network."
  float_checkpoint: str = ""
  "File of its weights in float (.npz, .safetensors, .pt), or the .onnx or \
  .tflite file that net is; 'package:path' is a file of an installed package; \
  '': there is none."
  checkpoint_layout: str = ""
  "How the checkpoint names its weights; '': told from names and shapes."
  checkpoint_images: Normalization = ()
  "(mean, std) by colour of the images that the checkpoint was trained on, as \
  (x - mean) / std; (): images from 0 to 1."


class Training(FloatNet):
  """What every experiment that trains can be set to."""

  experiment: str
  "Experiment: a short name, or 'package.module:attribute'."
  data: Data
  "Data set: its name and settings, see fbq/lab/data.py."
  float_training: Stage = Stage(
    steps=2000, learning_rate=0.05, weight_decay=1e-4
  )
  "Training of the float network."
  calibration_images: int = Field(256, ge=1, le=10**7)
  "Training images on which ranges are calibrated."
  checkpoint_every: Count = 200
  "Steps between checkpoints, a multiple of log_every."
  log_every: Count = 25
  "Steps between lines of metrics."

  @pydantic.model_validator(mode="after")
  def _fit_together(self) -> Self:
    require(
      bool(self.float_checkpoint) or not self.checkpoint_layout,
      "checkpoint_layout",
      self.checkpoint_layout,
      "'' where there is no float_checkpoint",
    )
    require(
      self.checkpoint_every % self.log_every == 0,
      "checkpoint_every",
      self.checkpoint_every,
      f"a multiple of log_every, {self.log_every}",
    )
    return self


class OnTarget(Settings):
  """The hardware that is costed."""

  target: str = "xpulpnn_v1"
  "Hardware: a short name, 'package.module:attribute', or '' where every layer \
  is in measured_latency."
  target_overrides: dict[str, int | float | str] = {}
  "Fields of the target that differ, such as l2_bytes."
  output_bits: OutputBits = "reader"
  "Bits at which layers are timed to write outputs: 'reader', those at which \
  they are read, as on the board; or 8, as in the published benchmark."
  measured_latency: str = ""
  "CSV or JSON of layers measured on a board, which replace simulated ones."


class Compared(Settings):
  """Points that are compared, of which one is recommended."""

  uniform_baselines: Baselines = (8, 4, 2)
  "Bits of the uniform networks beside."
  tolerance: BelowOne = 0.005
  "Accuracy that the recommended point may lose to 8/8."
  confidence: float = Field(0.8, ge=0.5, lt=1)
  "Confidence with which it loses no more, by the error of its loss in \
  validation; 0.5 looks at the loss alone."


class Judged(Compared):
  """Points that are fine-tuned before they are compared."""

  fine_tuning: FineTuning = FineTuning()
  "Training of every assignment from the float network."
  qat: Qat = Qat()
  "Rule of that training."
