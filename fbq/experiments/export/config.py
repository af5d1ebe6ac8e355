"""What an export can be set to, and its checks before anything is written."""

from typing import Literal

from pydantic import Field

from fbq.config import LARGEST, ConfigError, Settings, require
from fbq.deploy import lowering
from fbq.files import user_path
from fbq.lab import finished, trained_point
from fbq.lab.block_point import BlockResults
from fbq.lab.lab import Lab
from fbq.train.objective import CLASSIFICATION


class Export(Settings):
  """A point of a finished run, as files for other programs."""

  experiment: str = "export"
  "Experiment: a short name, or 'package.module:attribute'."
  source: str
  "Workdir of the finished run."
  point: str = trained_point.BEST
  "Point of the run: its name, or 'best' for the recommended one; of block \
  formats the name of a word is its recommended network."
  requantization_bits: Literal[32, 64] = 64
  "Bits in which integers are requantized: 32 take less memory, some codes are \
  off by one."
  tflite_portable: bool = True
  "Whether TFLite files have -127 for a weight of -128, where their \
  specification ends; without, codes are nearer on processors that take it."
  golden_image: int = Field(0, ge=0, le=LARGEST)
  "Test image that DORY's golden tensors belong to."


def check(settings: Export, lab: Lab) -> None:
  """Raises ConfigError for what cannot be exported; loads no network."""
  del lab  # the one of the run that is exported has network and data
  run = finished.read(user_path(settings.source))
  if run.lab.task.objective is not CLASSIFICATION:
    raise ConfigError(
      f"config.source: {run.lab.net.name!r} is judged by "
      f"{run.lab.task.objective.metric_name}; only classifiers are exported"
    )
  if isinstance(run.results, BlockResults):
    run.results.deployable(settings.point)
    return
  trained_point.find(run, settings.point)
  try:
    lowering.check_supported(run.lab.net)
  except lowering.UnsupportedError as error:
    raise ConfigError(f"config.source: {error}") from error
  require(
    settings.golden_image < run.lab.task.test.count,
    "golden_image",
    settings.golden_image,
    f"below {run.lab.task.test.count:,}, the number of test images",
  )
