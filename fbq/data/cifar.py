"""CIFAR-10 and CIFAR-100 from the official archives; see `fbq.data`.

The files, their forms and errors are in `fbq.data.cifar_files`. Settings:
  name: "cifar10" or "cifar100".
  directory: place of a published archive, or of the folder that it unpacks to.
  batch_size: images of a batch, over all processes.
  resolution: 32, if given.
  labels: "fine" (default) or, for CIFAR-100, its 20 "coarse" classes.
  augment: pad by 4 black pixels, crop at random, flip half of them (default).
  mean, std: per channel; images become (image - mean) / std. Without them they
    stay in [0, 1], which is what a quantized network's 8-bit input expects.
  validation_share: share of the training images that is held out (default 0).
  split_seed: seed of which those are (default 0).
  rows: {"train": n, "test": n} images in each file of archives made smaller,
    for tests and smoke runs.
"""

import dataclasses
import functools
import itertools
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fbq.data import cifar_files, holdout, order, scaling
from fbq.data.resident import Drawn, Pixels, Resident

SIDE = 32
PADDING = 4
_AUGMENTATION = 1  # Its draws are no others' of the same seed.


class Cifar(NamedTuple):
  """Images uint8 [N, 32, 32, 3] and labels int32 [N] of every split."""

  train_images: np.ndarray
  train_labels: np.ndarray
  validation_images: np.ndarray
  validation_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray


def classes(config) -> int:
  """Number of classes of the labels."""
  if getattr(config, "labels", "fine") == "coarse":
    return 20
  return {"cifar10": 10, "cifar100": 100}[config.name]


def check_settings(config) -> tuple[cifar_files.PublishedForm, Path]:
  """The form that is found, and its place; reads no image.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: missing files.
  """
  # Settings first: files that are missing may be those of another data set.
  if config.name not in cifar_files.FORMS:
    raise ValueError(
      f"data.name is {config.name!r}, expected one of "
      f"{sorted(cifar_files.FORMS)}"
    )
  if getattr(config, "resolution", SIDE) != SIDE:
    raise ValueError(
      f"data.resolution is {config.resolution}, expected {SIDE}: "
      f"{config.name} is not resized"
    )
  scaling.normalization(config)

  # Only the names of files are looked at; `load` reads them.
  form, path = cifar_files.find(config.directory, config.name)
  labels = getattr(config, "labels", "fine")
  if labels not in form.labels:
    raise ValueError(
      f"data.labels is {labels!r}, expected one of {sorted(form.labels)} for "
      f"{config.name}"
    )

  # Archives made smaller have fewer images in each file, which is checked.
  rows = getattr(config, "rows", None)
  if rows:
    form = dataclasses.replace(
      form, train_rows=rows["train"], test_rows=rows["test"]
    )
  return form, path


def load(config) -> Cifar:
  """All splits in memory, checked and not to be changed; 0.2 GB.

  Files that are as they were are not read again: every run and every evaluation
  of an experiment asks for them.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: missing or damaged files.
  """
  form, path = check_settings(config)
  files = (*form.train, *form.test) if path.is_dir() else ("",)
  found = [(path / file).stat() for file in files]
  return _load(
    json.dumps(_settings(config)),
    tuple((stat.st_mtime_ns, stat.st_size) for stat in found),
  )


@functools.lru_cache(maxsize=1)
def _load(settings: str, stamps: tuple) -> Cifar:
  """See `load`; `stamps` tell the files apart from changed ones."""
  del stamps
  config = types.SimpleNamespace(**json.loads(settings))
  form, path = check_settings(config)
  parts = cifar_files.read(form, path, config.labels)
  images, labels = parts["train"]
  held = holdout.count_of(len(labels), config.validation_share)
  random = np.random.default_rng(config.split_seed)
  split = map(np.sort, holdout.stratified(labels, held, random))
  train, validation = ((images[rows], labels[rows]) for rows in split)
  result = Cifar(*train, *validation, *parts["test"])
  for array in result:
    array.flags.writeable = False
  return result


def _settings(config) -> dict[str, Any]:
  """What the images depend on."""
  rows = getattr(config, "rows", None)
  return dict(
    name=config.name,
    directory=str(config.directory),
    labels=getattr(config, "labels", "fine"),
    validation_share=getattr(config, "validation_share", 0.0),
    split_seed=getattr(config, "split_seed", 0),
    rows=rows and {split: rows[split] for split in ("train", "test")},
  )


def train_batch(
  config,
  seed: int,
  step: int,
  cifar: Cifar,
  process_index: int = 0,
  process_count: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """This process's part of batch `step`: a function of its arguments alone.

  Returns:
    images float32 [B / processes, 32, 32, 3], labels int32 [B / processes].
  """
  count = len(cifar.train_images)
  drawn = _draw(config, seed, step, count, process_index, process_count)
  images = cifar.train_images[drawn.rows]
  if getattr(config, "augment", True):
    images = augment(images, drawn.corners, drawn.flips)
  return scaling.numbers(
    images, scaling.normalization(config)
  ), cifar.train_labels[drawn.rows]


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
  own = order.own_rows(size, process_index, process_count)
  return Drawn(rows, corners[own], flips[own])


def resident(config) -> Resident:
  """The training set to be put on a device, and the draws of `batches`.

  Raises:
    ValueError, DataError: see `load`.
  """
  cifar = load(config)
  count = len(cifar.train_images)
  values = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
  numbers = scaling.numbers(values, scaling.normalization(config))
  return Resident(
    Pixels(cifar.train_images, cifar.train_labels, numbers),
    lambda seed, start_step: (
      _draw(config, seed, step, count) for step in itertools.count(start_step)
    ),
    PADDING,
  )


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


def batches(
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
  cifar = load(config)
  return (
    train_batch(config, seed, step, cifar, process_index, process_count)
    for step in itertools.count(start_step)
  )


def evaluation(
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
  cifar, normal = load(config), scaling.normalization(config)
  images, labels = {
    "validation": (cifar.validation_images, cifar.validation_labels),
    "test": (cifar.test_images, cifar.test_labels),
  }[split]

  def batch(step):
    rows, weights = order.evaluation_rows(
      len(images), step, size, process_index, process_count
    )
    return scaling.numbers(images[rows], normal), labels[rows], weights

  return map(batch, range(order.evaluation_steps(len(images), size)))


def samples(config, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """`count` images and labels of the training split, not augmented.

  None comes twice before all have come once.

  Raises:
    ValueError, DataError: see `load`.
  """
  cifar, normal = load(config), scaling.normalization(config)
  rows = order.samples(len(cifar.train_images), seed, np.arange(count))
  images = scaling.numbers(cifar.train_images[rows], normal)
  return images, cifar.train_labels[rows]


def counts(config) -> tuple[int, int, int]:
  """Images of training, validation and test; reads none."""
  form, _ = check_settings(config)
  train = form.train_rows * len(form.train)
  held = holdout.count_of(train, getattr(config, "validation_share", 0.0))
  return train - held, held, form.test_rows * len(form.test)
