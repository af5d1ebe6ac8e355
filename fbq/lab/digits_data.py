"""Digits as a data set: their settings, and their task, drawn on the device."""

import functools
from typing import Any, Literal, Self

import jax.numpy as jnp
import pydantic
from pydantic import Field

from fbq.config import ConfigError, Seed, Settings
from fbq.data import canvas, digits, order
from fbq.lab.held_out import HeldOut
from fbq.lab.settings import ValidationShare
from fbq.lab.task import Task, sized
from fbq.nets.graph import Net
from fbq.train import feed

_BATCH = 360  # divides every test set of digits


class DigitsSettings(Settings):
  """Handwritten digits on cluttered canvases; nothing is downloaded."""

  name: Literal["digits"] = "digits"
  "Data set."
  validation_share: ValidationShare = 0.2
  "Share of the 1,437 source images that are not for testing which is held out \
  of training, to choose by."
  split_seed: Seed = 0
  "Seed of the split by source image."
  test_seed: Seed = 0
  "Seed of the renders of the images of validation and test."
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
  resolution = net.input_shape[0]
  if net.input_shape[1:] != (resolution, 1) or resolution < canvas.SOURCE:
    raise ConfigError(
      f"config.net reads images of {sized(net.input_shape)}, expected square "
      f"grey ones of {canvas.SOURCE} pixels or more (in_channels=1)"
    )
  difficulty = canvas.Difficulty.from_config(settings.difficulty)
  load = functools.cache(
    lambda: digits.load(settings.split_seed, settings.validation_share)
  )
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

  def held_out(split, count):
    @functools.cache
    def rendered():
      seed = settings.test_seed
      return digits.held_out(
        load(), split, resolution, difficulty, renders, seed
      )

    def batches():
      images, labels = rendered()
      for step in range(order.evaluation_steps(len(images), _BATCH)):
        rows, weights = order.evaluation_rows(len(images), step, _BATCH)
        yield images[rows], labels[rows], jnp.asarray(weights)

    return HeldOut(batches, lambda: digits.sources(count, renders))

  return Task(
    (resolution, resolution, 1),
    digits.CLASSES,
    draws,
    lambda key, count: digits.calibration_set(
      key, load(), count, resolution, difficulty
    ),
    lambda: counts[0],
    held_out("validation", counts[1]),
    held_out("test", counts[2]),
    _BATCH,
    f"Trained on {counts[0]:,} source digits, chosen by {counts[1]:,} others, "
    f"tested on {counts[2]:,} more; of these two, "
    f"{renders} render{'s' if renders > 1 else ''} each, "
    "which are not independent: errors are clustered by source.",
  )
