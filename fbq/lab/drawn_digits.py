"""What data sets have in common whose images are drawn from digits."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.config import ConfigError, Seed, Settings
from fbq.data import digits, order
from fbq.data.digits import Digits
from fbq.lab.held_out import HeldOut
from fbq.lab.settings import ValidationShare
from fbq.lab.task import sized
from fbq.nets.graph import Net


class DrawnDigits(Settings):
  """A split of the 1,797 source images; nothing is downloaded."""

  validation_share: ValidationShare = 0.2
  "Share of the 1,437 source images that are not for testing which is held out \
  of training, to choose by."
  split_seed: Seed = 0
  "Seed of the split by source image."
  test_seed: Seed = 0
  "Seed of the drawn images of validation and test."


def source(settings: DrawnDigits) -> Callable[[], Digits]:
  """Loads the source images, once."""
  return functools.cache(
    lambda: digits.load(settings.split_seed, settings.validation_share)
  )


def resolution_of(net: Net, least: int) -> int:
  """Rows and columns that a network reads.

  Raises:
    ConfigError: it reads other images than square grey ones of `least` pixels.
  """
  resolution = net.input_shape[0]
  if net.input_shape[1:] != (resolution, 1) or resolution < least:
    raise ConfigError(
      f"config.net reads images of {sized(net.input_shape)}, expected square "
      f"grey ones of {least} pixels or more (in_channels=1)"
    )
  return resolution


def held_out(
  draw: Callable[[], tuple[Any, Any]],
  batch: int,
  sources: Callable[[], np.ndarray],
) -> HeldOut:
  """A split that is drawn once, when it is first asked for.

  Args:
    draw: () -> images and truth of all of it.
    batch: images of a batch.
    sources: see `HeldOut`.
  """
  drawn = functools.cache(draw)

  def batches():
    images, truth = drawn()
    for step in range(order.evaluation_steps(len(images), batch)):
      rows, weights = order.evaluation_rows(len(images), step, batch)
      some = jax.tree.map(lambda x, rows=rows: x[rows], truth)
      yield images[rows], some, jnp.asarray(weights)

  return HeldOut(batches, sources)
