"""What post-training quantization can be set to, and its checks."""

from typing import Annotated

from pydantic import Field

from fbq.config import Check, Count, NotNegative, Positive, Settings, require
from fbq.experiments.ptq.tables import NAMES
from fbq.lab.lab import Lab
from fbq.lab.settings import BelowOne, Seeds, Training

Studies = Annotated[
  tuple[str, ...],
  Check(
    lambda tried: (
      len(set(tried)) == len(tried) and {"widths"} <= {*tried} <= {*NAMES}
    ),
    f"some of {NAMES}, 'widths' among them, each once",
  ),
]


class Rounding(Settings):
  """AdaRound of every layer."""

  steps: int = Field(400, ge=0, le=10**9)
  "Steps of each layer; 0 leaves AdaRound out."
  batch_size: Count = 32
  "Images of a step, of those that correction_batches holds."
  learning_rate: Positive = 0.03
  "Rate of what the roundings are made of."
  strength: NotNegative = 0.01
  "Weight of the term that drives roundings up or down."


class PostTraining(Training):
  """Recipes that quantize float networks without training."""

  seeds: Seeds = (0, 1, 2)
  "Seeds of the float networks and of what they are shown."
  studies: Studies = NAMES
  "Tables of recipes that are tried."
  calibration_batch: Count = 32
  "Images of a calibration batch; divides calibration_images."
  validation_images: int = Field(720, ge=1, le=10**7)
  "Images of the training split to choose a recipe by."
  percent: float = Field(99.99, gt=50, le=100)
  "Percentage of numbers in the ranges of the rule percentile."
  decay: BelowOne = 0.9
  "Decay of the rule moving_average, from one calibration batch to the next."
  correction_batches: Count = 8
  "Calibration batches that bias correction and AdaRound see."
  rounding: Rounding = Rounding()
  "AdaRound, which takes longer than all else."
  tolerance: BelowOne = 0.01
  "Agreement with the float network that the recommended recipe may lose."


def check(settings: PostTraining, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; trains nothing."""
  images, batch = settings.calibration_images, settings.calibration_batch
  expected = f"a multiple of calibration_batch, {batch}"
  require(images % batch == 0, "calibration_images", images, expected)

  few, batches = settings.correction_batches, images // batch
  expected = f"1 to {batches}, the batches of calibration"
  require(few <= batches, "correction_batches", few, expected)

  rounded, seen = settings.rounding.batch_size, few * batch
  expected = f"1 to {seen}, the images of correction_batches"
  require(rounded <= seen, "rounding.batch_size", rounded, expected)
  _ = lab.task
