"""What a network is trained, calibrated and tested on, whatever the data set.

The digits live on the device and are drawn inside of the training step; other
images are read by the host, ahead of it. Experiments see a `Task` and neither
of the two.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from fbq import backend
from fbq.config import ConfigError
from fbq.data import order
from fbq.data.resident import Pixels, Resident, whole
from fbq.lab.settings import Stage, steps_of
from fbq.train import feed, parallel

Images = tuple[jax.Array, jax.Array]

_BATCH = 250
DEVICE_BYTES = 2 * 10**9  # of training images that lie on a device
_LARGEST_TEST_SET = 8 << 30  # bytes


def lies_on_device(needed_bytes: int, limit: int) -> bool:
  """Whether a training set is put on the device and its batches cut there.

  Not on a CPU, whose memory is the host's, nor where several processes each
  have a part of a batch.
  """
  return (
    not backend.is_cpu() and jax.process_count() == 1 and needed_bytes <= limit
  )


@dataclasses.dataclass(frozen=True)
class Task:
  """Images of one size with labels.

  Attributes:
    input_shape: (height, width, channels) of an image, numbers in [0, 1].
    classes: number of classes.
    draws: (batch size, mesh or None) -> (sample, feed), how a training step
      comes by its batch, see `fbq.train.feed`.
    test_batches: () -> (images, labels, weights) on the device, all of one
      shape: every test image once with weight 1, filled up with weight 0.
    calibration_set: (key, count) -> images and labels of the training split, as
      they are tested; none twice before all have come once.
    counts: () -> images of an epoch and of the test set.
    batch: images at a time of `test_batches`.
    about_test: a sentence for reports.
  """

  input_shape: tuple[int, int, int]
  classes: int
  draws: Callable[[int, Mesh | None], tuple[Callable, feed.Feed]]
  test_batches: Callable[[], Iterator[tuple[Any, Any, Any]]]
  calibration_set: Callable[[jax.Array, int], Images]
  counts: Callable[[], tuple[int, int]]
  batch: int
  about_test: str

  @functools.cached_property
  def train_count(self) -> int:
    """Images of an epoch."""
    return self.counts()[0]

  @functools.cached_property
  def test_count(self) -> int:
    """Images of the test set."""
    return self.counts()[1]

  @functools.cached_property
  def test_set(self) -> Images:
    """All test images and labels at once, for what needs them in memory.

    Raises:
      ConfigError: they take more than 8 GiB.
    """
    needed = 4 * math.prod(self.input_shape) * self.test_count
    if needed > _LARGEST_TEST_SET:
      raise ConfigError(
        f"the {self.test_count:,} test images take {needed / 2**30:.1f} GiB in "
        f"memory, expected {_LARGEST_TEST_SET >> 30} at most: this needs a "
        "smaller test set"
      )
    images, labels, weights = zip(*self.test_batches(), strict=True)
    counted = np.concatenate(weights) > 0
    return (
      jnp.concatenate(images)[counted],
      jnp.concatenate(labels)[counted],
    )

  def steps(self, stage: Stage) -> int:
    """Steps of a stage, whose setting says steps or "n epochs"."""
    return steps_of(stage.steps, stage.batch_size, lambda: self.train_count)


def from_arrays(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  classes: int,
  batch: int = _BATCH,
  about_test: str = "Every test image is counted once.",
  device_bytes: int = DEVICE_BYTES,
) -> Task:
  """The task of images in memory: the door for a data set of one's own.

  Training goes through the images again and again, each time in another order
  that the seed of the run gives.

  Args:
    train: images [N, H, W, C], uint8 or float in [0, 1], and labels [N].
    test: the same of images that nothing is trained on.
    classes: number of classes.
    batch: test images at a time.
    about_test: a sentence for reports.
    device_bytes: training images of 8 bits that take no more lie on a GPU or
      TPU; the images are the same.

  Raises:
    ValueError: arrays that do not fit together.
  """
  for split, (images, labels) in (("train", train), ("test", test)):
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(images):
      raise ValueError(
        f"{split}: images {images.shape} and labels {labels.shape}, expected "
        "[N, H, W, C] and [N]"
      )
    if labels.min() < 0 or labels.max() >= classes:
      raise ValueError(
        f"{split}: labels from {labels.min()} to {labels.max()}, expected 0 to "
        f"{classes - 1}"
      )

  def batches(batch_size, seed, start_step):
    images, labels = train
    own = jax.process_index(), jax.process_count()
    for step in itertools.count(start_step):
      places = order.places(step, batch_size, *own)
      rows = order.samples(len(images), seed, places)
      yield _scaled(images[rows]), labels[rows].astype(np.int32)

  # Put there once, whatever trains on it.
  @functools.lru_cache(maxsize=1)
  def pixels(mesh):
    return feed.hold(_resident(train, 1), mesh)

  def draws(batch_size, mesh):
    order.check_processes(batch_size, jax.process_index(), jax.process_count())
    is_small = lies_on_device(train[0].nbytes, device_bytes)
    if train[0].dtype == np.uint8 and is_small:
      held = _resident(train, batch_size)
      return feed.as_given, feed.from_device(pixels(mesh), held, mesh)
    source = functools.partial(batches, batch_size)
    put = functools.partial(parallel.feed, mesh=mesh)
    return feed.as_given, feed.from_host(source, put)

  def test_batches():
    images, labels = test
    for step in range(order.evaluation_steps(len(images), batch)):
      rows, weights = order.evaluation_rows(len(images), step, batch)
      yield jax.device_put(
        (_scaled(images[rows]), labels[rows].astype(np.int32), weights)
      )

  def calibration_set(key, count):
    images, labels = train
    seed = feed.seed_of({"key": key})
    rows = order.samples(len(images), seed, np.arange(count))
    return jax.device_put(
      (_scaled(images[rows]), labels[rows].astype(np.int32))
    )

  return Task(
    train[0].shape[1:],
    classes,
    draws,
    test_batches,
    calibration_set,
    lambda: (len(train[0]), len(test[0])),
    batch,
    about_test,
  )


def _resident(train, batch_size: int) -> Resident:
  """Images in memory, to be put on a device; batches are those of the host."""
  images, labels = train
  values = np.repeat(
    np.arange(256, dtype=np.uint8)[:, None], images.shape[3], 1
  )

  def draws(seed, start_step):
    for step in itertools.count(start_step):
      places = order.places(step, batch_size)
      yield whole(order.samples(len(images), seed, places))

  return Resident(
    Pixels(images, labels.astype(np.int32), _scaled(values)), draws
  )


def _scaled(images: np.ndarray) -> np.ndarray:
  """float32 in [0, 1] of numbers in [0, 1] or of 8 unsigned bits."""
  scale = 255 if images.dtype == np.uint8 else 1
  return images.astype(np.float32) / np.float32(scale)
