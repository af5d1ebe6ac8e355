"""What a network is trained, calibrated and judged on, whatever the data set.

The digits live on the device and are drawn inside of the training step; other
images are read by the host, ahead of it. Experiments see a `Task` and neither
of the two.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from fbq import backend
from fbq.data import holdout, order
from fbq.data.resident import Pixels, Resident, whole
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.settings import Stage, steps_of
from fbq.train import feed, parallel
from fbq.train.objective import CLASSIFICATION, Objective

Images = tuple[jax.Array, Any]  # with their truth

_BATCH = 250
DEVICE_BYTES = 2 * 10**9  # of training images that lie on a device


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
  """Images of one size with what is to be told of them, and the task.

  Attributes:
    input_shape: (height, width, channels) of an image, numbers in [0, 1].
    classes: number of classes of images, pixels or objects.
    draws: (batch size, mesh or None) -> (sample, feed), how a training step
      comes by its batch, see `fbq.train.feed`.
    calibration_set: (key, count) -> images and truth of the training split, as
      they are tested; none twice before all have come once.
    epoch: () -> images of an epoch.
    validation: split by which everything is chosen.
    test: split that is reported, and by which nothing is chosen.
    batch: images at a time of both.
    about_test: a sentence for reports.
    objective: what networks are trained by and judged by.
  """

  input_shape: tuple[int, int, int]
  classes: int
  draws: Callable[[int, Mesh | None], tuple[Callable, feed.Feed]]
  calibration_set: Callable[[jax.Array, int], Images]
  epoch: Callable[[], int]
  validation: HeldOut
  test: HeldOut
  batch: int
  about_test: str
  objective: Objective = CLASSIFICATION

  @functools.cached_property
  def train_count(self) -> int:
    """Images of an epoch."""
    return self.epoch()

  def steps(self, stage: Stage) -> int:
    """Steps of a stage, whose setting says steps or "n epochs"."""
    return steps_of(stage.steps, stage.batch_size, lambda: self.train_count)


def sized(shape: Sequence[int]) -> str:
  """A size in words, such as "32x32x3"."""
  return "x".join(map(str, shape))


def from_arrays(
  train: tuple[np.ndarray, np.ndarray],
  test: tuple[np.ndarray, np.ndarray],
  classes: int,
  batch: int = _BATCH,
  about_test: str = "Every test image is counted once.",
  device_bytes: int = DEVICE_BYTES,
  validation_share: float = 0.1,
  split_seed: int = 0,
  train_sources: np.ndarray | None = None,
  test_sources: np.ndarray | None = None,
) -> Task:
  """The task of images in memory: the door for a data set of one's own.

  Training goes through the images again and again, each time in another order
  that the seed of the run gives.

  Args:
    train: images [N, H, W, C], uint8 or float in [0, 1], and labels [N]; some
      are held out of training, to choose by.
    test: the same of images that nothing is trained on or chosen by.
    classes: number of classes.
    batch: images that are held out or tested on at a time.
    about_test: a sentence for reports.
    device_bytes: training images of 8 bits that take no more lie on a GPU or
      TPU; the images are the same.
    validation_share: share of the sources of training images that is held out,
      of every class the same.
    split_seed: seed of which those are.
    train_sources, test_sources: whole numbers [N], which source each image was
      made from, such as its patient or its film; None: each its own. All images
      of a source are in one split.

  Raises:
    ValueError: arrays that do not fit together, or a source in both.
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
  sources = _sources(train, test, train_sources, test_sources)
  train, validation, held = _held_out(
    train, sources[0], validation_share, split_seed
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

  def held_out(split, sources):
    images, labels = split

    def split_batches():
      for step in range(order.evaluation_steps(len(images), batch)):
        rows, weights = order.evaluation_rows(len(images), step, batch)
        yield jax.device_put(
          (_scaled(images[rows]), labels[rows].astype(np.int32), weights)
        )

    return HeldOut(split_batches, lambda: sources)

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
    calibration_set,
    lambda: len(train[0]),
    held_out(validation, held),
    held_out(test, sources[1]),
    batch,
    about_test,
  )


def _sources(train, test, *given) -> list[np.ndarray]:
  """Sources of training and of test images, none of them of both."""
  found = []
  for (_, labels), sources in zip((train, test), given, strict=True):
    if sources is not None and np.shape(sources) != labels.shape:
      raise ValueError(
        f"sources {np.shape(sources)} of {len(labels)} images, expected one "
        "whole number for each"
      )
    found.append(independent(len(labels)) if sources is None else sources)
  if all(sources is not None for sources in given):
    both = np.intersect1d(*given)
    if len(both):
      raise ValueError(
        f"sources {both[:5].tolist()} have images for training and for "
        "testing, expected them in one of both"
      )
  return found


def _held_out(train, sources, share, seed):
  """(training split, validation split, sources of the latter)."""
  images, labels = train
  different, first, of_image = np.unique(
    sources, return_index=True, return_inverse=True
  )
  count = holdout.count_of(len(different), share)
  random = np.random.default_rng(seed)
  _, held = holdout.stratified(labels[first], count, random)
  is_held = np.isin(of_image, held)
  return (
    (images[~is_held], labels[~is_held]),
    (images[is_held], labels[is_held]),
    np.asarray(sources)[is_held],
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
