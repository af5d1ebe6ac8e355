"""Digits as a data set: their settings, and their task, drawn on the device."""

import functools
from typing import Any, Literal, Self

import pydantic
from pydantic import Field

from fbq.data import canvas, digits
from fbq.lab.drawn_digits import DrawnDigits, held_out, resolution_of, source
from fbq.lab.task import Task
from fbq.nets.graph import Net
from fbq.train import feed

_BATCH = 360  # divides every test set of digits


class DigitsSettings(DrawnDigits):
  """Handwritten digits on cluttered canvases; nothing is downloaded."""

  name: Literal["digits"] = "digits"
  "Data set."
  renders_per_test_image: int = Field(4, ge=1, le=1000)
  "Images of validation and test made of each source image."
  difficulty: dict[str, Any] = {}
  "What differs from the default of `fbq.data.canvas.Difficulty`."

  @pydantic.model_validator(mode="after")
  def _is_possible(self) -> Self:
    digits.counts(self.validation_share)
    canvas.Difficulty.from_config(self.difficulty)
    return self


def task(settings: DigitsSettings, net: Net) -> Task:
  """The task of digits, in the size that the network reads."""
  resolution = resolution_of(net, canvas.SOURCE)
  difficulty = canvas.Difficulty.from_config(settings.difficulty)
  load = source(settings)
  counts = digits.counts(settings.validation_share)
  renders = settings.renders_per_test_image

  def draws(batch_size, mesh):
    del mesh  # what is drawn in the step is spread there
    sample = functools.partial(
      digits.train_batch,
      digits=load(),
      batch_size=batch_size,
      resolution=resolution,
      difficulty=difficulty,
    )
    return sample, feed.nothing

  def split_of(split, count):
    draw = lambda: digits.held_out(
      load(), split, resolution, difficulty, renders, settings.test_seed
    )
    return held_out(draw, _BATCH, lambda: digits.sources(count, renders))

  return Task(
    (resolution, resolution, 1),
    digits.CLASSES,
    draws,
    lambda key, count: digits.calibration_set(
      key, load(), count, resolution, difficulty
    ),
    lambda: counts[0],
    split_of("validation", counts[1]),
    split_of("test", counts[2]),
    _BATCH,
    f"Trained on {counts[0]:,} source digits, chosen by {counts[1]:,} others, "
    f"tested on {counts[2]:,} more; of these two, "
    f"{renders} render{'s' if renders > 1 else ''} each, "
    "which are not independent: errors are clustered by source.",
  )
