"""Batches of small images that all lie in memory; see `fbq.data`.

What data sets of such images share: each has a `load` of its own, and settings
with `batch_size`, `augment` (pad by 4 black pixels and crop at random, unless
False), `flip` (then also mirror half of the images, unless False), `mean` and
`std`.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from fbq.data import holdout, order, scaling
from fbq.data.resident import Drawn, Pixels, Resident

PADDING = 4
_AUGMENTATION = 1  # Its draws are no others' of the same seed.


class Splits(NamedTuple):
  """Images uint8 [N, H, W, C] and labels int32 [N] of every split."""

  train_images: np.ndarray
  train_labels: np.ndarray
  validation_images: np.ndarray
  validation_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray


def split(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  share: float,
  seed: int,
) -> Splits:
  """All splits, not to be changed: a share of `train` is held out of it.

  Args:
    train, test: images and labels.
    share: share of the training images that is for validation.
    seed: seed of which those are.
  """
  images, labels = train
  held = holdout.count_of(len(labels), share)
  random = np.random.default_rng(seed)
  kept = map(np.sort, holdout.stratified(labels, held, random))
  own, validation = ((images[rows], labels[rows]) for rows in kept)
  result = Splits(*own, *validation, *test)
  for array in result:
    array.flags.writeable = False
  return result


class InMemory(NamedTuple):
  """The functions of a data set of which all lies in memory; see `fbq.data`.

  Attributes:
    load: (config) -> `Splits`; raises ValueError and DataError.
  """

  load: Callable[[Any], Splits]

  def batches(
    self,
    config,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training batches without end from `start_step` on; see `fbq.data`.

    Raises:
      ValueError, DataError: before the first batch is asked for.
    """
    order.check_processes(config.batch_size, process_index, process_count)
    splits = self.load(config)
    return (
      train_batch(config, seed, step, splits, process_index, process_count)
      for step in itertools.count(start_step)
    )

  def evaluation(
    self,
    config,
    process_index: int = 0,
    process_count: int = 1,
    split: Literal["validation", "test"] = "test",
  ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(images, labels, weights float32) of a split, every image once.

    All batches have one shape; what fills the last has weight 0.

    Raises:
      ValueError, DataError: before the first batch is asked for.
    """
    size = config.batch_size
    order.check_processes(size, process_index, process_count)
    splits, normal = self.load(config), scaling.normalization(config)
    images, labels = {
      "validation": (splits.validation_images, splits.validation_labels),
      "test": (splits.test_images, splits.test_labels),
    }[split]

    def batch(step):
      rows, weights = order.evaluation_rows(
        len(images), step, size, process_index, process_count
      )
      return scaling.numbers(images[rows], normal), labels[rows], weights

    return map(batch, range(order.evaluation_steps(len(images), size)))

  def samples(
    self, config, seed: int, count: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """`count` images and labels of the training split, not augmented.

    None comes twice before all have come once.

    Raises:
      ValueError, DataError: see `load`.
    """
    splits, normal = self.load(config), scaling.normalization(config)
    rows = order.samples(len(splits.train_images), seed, np.arange(count))
    images = scaling.numbers(splits.train_images[rows], normal)
    return images, splits.train_labels[rows]

  def resident(self, config) -> Resident:
    """The training set to be put on a device, and the draws of `batches`.

    Raises:
      ValueError, DataError: see `load`.
    """
    splits = self.load(config)
    count, channels = len(splits.train_images), splits.train_images.shape[3]
    values = np.repeat(np.arange(256, dtype=np.uint8)[:, None], channels, 1)
    numbers = scaling.numbers(values, scaling.normalization(config))
    return Resident(
      Pixels(splits.train_images, splits.train_labels, numbers),
      lambda seed, start_step: (
        _draw(config, seed, step, count) for step in itertools.count(start_step)
      ),
      PADDING,
    )


def train_batch(
  config,
  seed: int,
  step: int,
  splits: Splits,
  process_index: int = 0,
  process_count: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """This process's part of batch `step`: a function of its arguments alone.

  Returns:
    images float32 [B / processes, H, W, C], labels int32 [B / processes].
  """
  count = len(splits.train_images)
  drawn = _draw(config, seed, step, count, process_index, process_count)
  images = splits.train_images[drawn.rows]
  if getattr(config, "augment", True):
    images = augment(images, drawn.corners, drawn.flips)
  return scaling.numbers(
    images, scaling.normalization(config)
  ), splits.train_labels[drawn.rows]


def _draw(config, seed, step, count, process_index=0, process_count=1) -> Drawn:
  """Which of `count` images, corners and sides this part of a batch has."""
  size = config.batch_size
  places = order.places(step, size, process_index, process_count)
  rows = order.samples(count, seed, places)
  if not getattr(config, "augment", True):
    middle = np.full((len(rows), 2), PADDING)
    return Drawn(rows, middle, np.zeros(len(rows), bool))
  # Drawn for the whole batch: processes do not change what an image gets.
  random = np.random.default_rng([seed, _AUGMENTATION, step])
  corners = random.integers(0, 2 * PADDING + 1, (size, 2))
  flips = random.integers(0, 2, size).astype(bool)
  flips &= getattr(config, "flip", True)
  own = order.own_rows(size, process_index, process_count)
  return Drawn(rows, corners[own], flips[own])


def augment(
  images: np.ndarray, corners: np.ndarray, flips: np.ndarray
) -> np.ndarray:
  """Crops of the images with 4 black pixels around, some of them mirrored.

  Args:
    images: [B, H, W, C].
    corners: int [B, 2], row and column of the crop in the padded image, 0 to 8;
      (4, 4) is the image itself.
    flips: bool [B], left for right, after the crop.
  """
  height, width = images.shape[1:3]
  edge = (PADDING, PADDING)
  padded = np.pad(images, ((0, 0), edge, edge, (0, 0)))
  rows = corners[:, :1] + np.arange(height)
  columns = np.arange(width)
  columns = np.where(flips[:, None], columns[::-1], columns) + corners[:, 1:]
  batch = np.arange(len(images))[:, None, None]
  return padded[batch, rows[:, :, None], columns[:, None, :]]
