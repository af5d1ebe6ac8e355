"""What a network is trained, calibrated and tested on, whatever the data set.

The digits live on the device and are drawn inside of the training step; images
in files are read by the host, ahead of it. Experiments see a `Task` and neither
of the two.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fbq.data import DataError, canvas, digits, generated, sources
from fbq.experiments import settings
from fbq.experiments.stage_settings import Demand, require, steps_of
from fbq.nets.graph import Net
from fbq.train import feed, parallel

Images = tuple[jax.Array, jax.Array]

_FILES = {
  "directory": str,
  # For smoke runs: pictures are made there, see `fbq.data.generated`.
  "generated": settings.Optional({"classes": int, "train": int, "test": int}),
  "evaluation_batch": settings.Optional(int),
}
_CIFAR = {
  **_FILES,
  "labels": settings.Optional(str),
  "augment": settings.Optional(bool),
  "rows": settings.Optional({"train": int, "test": int}),
}
# Without mean and std: the image is a tensor of 8 unsigned bits, from 0 to 1.
SETTINGS = {
  "digits": {
    "split_seed": int,
    "test_seed": int,
    "renders_per_test_image": int,
    "difficulty": dict,
  },
  "cifar10": _CIFAR,
  "cifar100": _CIFAR,
  "imagenet": {
    **_FILES,
    "resize": settings.Optional(int),
    "threads": settings.Optional(int),
    "workers": settings.Optional(int),
  },
}
_DIGITS_BATCH = 360  # divides every test set of digits
_BATCH = 250  # divides those of CIFAR and ImageNet
_LARGEST_TEST_SET = 8 << 30  # bytes


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
      raise settings.ConfigError(
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

  def steps(self, plan: ConfigDict) -> int:
    """Steps of a stage, whose setting says steps or "n epochs"."""
    return steps_of(plan.steps, plan.batch_size, lambda: self.train_count)


def build(config: ConfigDict, net: Net) -> Task:
  """The task of `config.data` for a network; reads no images.

  Raises:
    ConfigError: naming the setting at fault, or missing files.
  """
  known = tuple(sorted(SETTINGS))
  data = config.data.to_dict()
  name = data.get("name")
  settings.require(name in known, "data.name", name, f"one of {known}")
  settings.check_keys(data, {"name": str, **SETTINGS[name]}, "config.data")
  require(config, _demands_of_data(config.data))
  require(config, _demands_of_net(name, net))
  make = _digits if name == "digits" else _files
  try:
    task = make(config.data, net.input_shape[0])
  except (ValueError, DataError, ModuleNotFoundError) as error:
    raise settings.ConfigError(f"config.data: {error}") from error
  require(config, _demands_of_task(net, task, name))
  return task


def _digits(data: ConfigDict, resolution: int) -> Task:
  difficulty = digits.Difficulty.from_config(data.difficulty)
  load = functools.cache(lambda: digits.load(data.split_seed))

  @functools.cache
  def test_set():
    return digits.test_set(
      load(),
      resolution,
      difficulty,
      data.renders_per_test_image,
      data.test_seed,
    )

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

  def test_batches():
    images, labels = test_set()
    weights = jnp.ones(_DIGITS_BATCH)
    for i in range(0, len(images), _DIGITS_BATCH):
      rows = slice(i, i + _DIGITS_BATCH)
      yield images[rows], labels[rows], weights

  return Task(
    (resolution, resolution, 1),
    digits.CLASSES,
    draws,
    test_batches,
    lambda key, count: digits.calibration_set(
      key, load(), count, resolution, difficulty
    ),
    lambda: (
      digits.TRAIN_COUNT,
      digits.TEST_COUNT * data.renders_per_test_image,
    ),
    _DIGITS_BATCH,
    "The test images are several renders of 360 source digits; renders of one "
    "source are not independent, so the true error of an accuracy is larger "
    "than the binomial one shown.",
  )


def _files(data: ConfigDict, resolution: int) -> Task:
  """The task of images in files: nothing but their source knows which."""

  made = data.get("generated")
  rows = {}
  if made:
    generated.write(data.directory, data.name, **made)
    rows = {"rows": {"train": made.train, "test": made.test}}

  def source(batch_size):
    more = rows | {"batch_size": batch_size, "resolution": resolution}
    return sources.source(ConfigDict(data.to_dict() | more))

  batch = data.get("evaluation_batch") or _BATCH
  tested = source(batch)

  def place(tree):
    return jax.device_put(tree)

  def draws(batch_size, mesh):
    own = functools.partial(
      source(batch_size).batches,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    put = functools.partial(parallel.feed, mesh=mesh)
    return feed.as_given, feed.from_host(own, put)

  def test_batches():
    with feed.read_ahead(tested.evaluation(), place, 2) as batches:
      yield from batches

  def calibration_set(key, count):
    return place(tested.samples(feed.seed_of({"key": key}), count))

  return Task(
    tested.input_shape,
    tested.classes,
    draws,
    test_batches,
    calibration_set,
    tested.counts,
    batch,
    f"The test images are the test split of {data.name}, each counted once.",
  )


def _demands_of_data(data: ConfigDict) -> Iterator[Demand]:
  least = {"renders_per_test_image": 1, "evaluation_batch": 1}
  for key, value in data.items():
    if key.endswith("seed"):
      yield f"data.{key}", 0 <= value < 2**32, "0 to 2^32 - 1"
    elif key in least:
      yield f"data.{key}", value >= least[key], "at least 1"


def _demands_of_net(name: str, net: Net) -> Iterator[Demand]:
  """What the data ask of the network, before they are looked for."""
  height, width, channels = net.input_shape
  reads = f"it reads {height}x{width}x{channels}"
  is_square = height == width
  if name == "digits":
    is_square &= channels == 1 and height >= canvas.SOURCE
    expected = (
      f"a network that reads square grey images of {canvas.SOURCE} pixels or "
      f"more (in_channels=1); {reads}"
    )
  else:
    is_square &= channels == 3
    expected = f"a network that reads square images of 3 colours; {reads}"
  yield "net.arguments", is_square, expected


def _demands_of_task(net: Net, task: Task, name: str) -> Iterator[Demand]:
  shape = "x".join(map(str, task.input_shape))
  expected = f"a network that reads images of {name}, {shape}"
  yield "net.arguments", net.input_shape == task.input_shape, expected
  classes = net.shapes[net.nodes[-1].name][2]
  which = "the digits" if name == "digits" else f"those of {name}"
  expected = f"{task.classes} classes, {which}; it tells {classes} apart"
  yield "net.arguments", classes == task.classes, expected
