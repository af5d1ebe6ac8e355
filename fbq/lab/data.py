"""The data sets behind the door: what each can be set to, and its task.

A `DataSet` of one's own is named "package.module:attribute". Its settings begin
with `name: str`, as its task finds them; `fbq.lab.task.from_arrays` makes a
task of arrays.
"""

import functools
import math
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import pydantic
from pydantic import Field

from fbq import doors
from fbq.config import ConfigError, Count, Seed, Settings, brought, require
from fbq.data import DataError, canvas, digits, generated, order, sources
from fbq.files import user_path
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.task import DEVICE_BYTES, Task, lies_on_device
from fbq.nets.graph import Net
from fbq.train import feed, parallel

_DIGITS_BATCH = 360  # divides every test set of digits
_BATCH = 250  # divides those of CIFAR and ImageNet

ValidationShare = Annotated[float, Field(gt=0, lt=1)]


class DataSet(NamedTuple):
  """A data set.

  Attributes:
    settings: subclass of `Settings` with a field `name`.
    task: (settings, net) -> `Task`; reads no images yet. What it raises of
      ConfigError, ValueError and `fbq.data.DataError` becomes one line.
  """

  settings: type[Settings]
  task: Callable[[Any, Net], Task]


def data_set(given: Any) -> DataSet:
  """The data set whose name stands in the settings `given`.

  Raises:
    ConfigError: no name, or one that leads to no data set.
  """
  name = given.get("name") if isinstance(given, Mapping) else None
  known = ", ".join(doors.KNOWN["data"])
  require(
    isinstance(name, str),
    "data.name",
    name,
    f"one of {known}, or your own as 'package.module:attribute'",
  )
  return brought("data", name, "data.name")


def build(data: Settings, net: Net) -> Task:
  """The task of a data set for a network that fits it; reads no images.

  Raises:
    ConfigError: naming the setting at fault, or missing files.
  """
  name = data.name  # pyrefly: ignore[missing-attribute]
  try:
    task = data_set({"name": name}).task(data, net)
  except ConfigError:
    raise
  except (ValueError, DataError, ModuleNotFoundError) as error:
    raise ConfigError(f"config.data: {error}") from error
  wants = _sized(task.input_shape), task.classes
  gives = _sized(net.input_shape), net.shapes[net.nodes[-1].name][2]
  if wants != gives:
    raise ConfigError(
      f"config.net reads images of {gives[0]} and tells {gives[1]} classes "
      f"apart, expected {wants[0]} and {wants[1]}, those of {name}; see "
      "config.net.arguments"
    )
  return task


def _sized(shape):
  return "x".join(map(str, shape))


# ---- Digits, drawn on the device


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


def _digits(settings: DigitsSettings, net: Net) -> Task:
  resolution = net.input_shape[0]
  if net.input_shape[1:] != (resolution, 1) or resolution < canvas.SOURCE:
    raise ConfigError(
      f"config.net reads images of {_sized(net.input_shape)}, expected square "
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
      for step in range(order.evaluation_steps(len(images), _DIGITS_BATCH)):
        rows, weights = order.evaluation_rows(len(images), step, _DIGITS_BATCH)
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
    _DIGITS_BATCH,
    f"Trained on {counts[0]:,} source digits, chosen by {counts[1]:,} others, "
    f"tested on {counts[2]:,} more; of these two, {renders} renders each, "
    "which are not independent: errors are clustered by source.",
  )


# ---- Images in files, read by the host


class Generated(Settings):
  """Pictures that are made for a smoke run, see `fbq.data.generated`."""

  classes: Count
  "Classes of a folder of pictures."
  train: Count
  "Training images of each class, or in each file of CIFAR."
  test: Count
  "Test images, likewise."


class _Held(Settings):
  directory: str
  "Where the files are."
  validation_share: ValidationShare = 0.1
  "Share of the training images that is held out of training, to choose by."
  split_seed: Seed = 0
  "Seed of which images those are."
  evaluation_batch: int = Field(_BATCH, ge=1, le=10**6)
  "Images of validation and test at a time."


class _Files(_Held):
  generated: Generated | None = None
  "For smoke runs: pictures are made in the directory."


class Rows(Settings):
  """Images in each file of archives made smaller, for tests."""

  train: Count
  "Images in each training file."
  test: Count
  "Images in the test file."


class CifarSettings(_Files):
  """CIFAR-10 or CIFAR-100 from the official archives."""

  name: Literal["cifar10", "cifar100"]
  "Data set."
  labels: Literal["fine", "coarse"] = "fine"
  "Which classes of CIFAR-100."
  augment: bool = True
  "Crop at random and flip half of the training images."
  device_bytes: int = Field(DEVICE_BYTES, ge=0, le=2**50)
  "Training images of at most so many bytes lie on a GPU or TPU, where batches \
  are cut out of them; the images are the same."
  rows: Rows | None = None
  "Images in each file of archives made smaller."


class IdxSettings(_Held):
  """MNIST, Fashion-MNIST and others in the form of their four files."""

  name: Literal["idx"] = "idx"
  "Data set."
  validation_share: ValidationShare = 1 / 6
  "Share of the training images that is held out of training, to choose by."
  classes: int = Field(10, ge=2, le=256)
  "Number of classes."
  augment: bool = True
  "Crop the training images at random."
  flip: bool = False
  "Mirror half of the training images too, where that makes sense."
  device_bytes: int = Field(DEVICE_BYTES, ge=0, le=2**50)
  "Training images of at most so many bytes lie on a GPU or TPU, where batches \
  are cut out of them; the images are the same."


class ImageNetSettings(_Files):
  """ImageNet, or any labelled photographs in a folder for each class."""

  name: Literal["imagenet"] = "imagenet"
  "Data set."
  validation_share: ValidationShare = 0.02
  "Share of the training images that is held out of training, to choose by."
  resize: int | None = Field(None, ge=1, le=10**5)
  "Shorter side before the middle is cut out; None: 256 for 224 pixels, and so \
  in proportion."
  threads: int = Field(16, ge=1, le=1024)
  "Threads that decode in this process."
  workers: int = Field(0, ge=0, le=1024)
  "Processes that decode, instead of threads."


def _files(settings: _Held, net: Net) -> Task:
  """The task of images in files: nothing but their source knows which."""
  # Before pictures are made that the network could not read
  colours = 1 if isinstance(settings, IdxSettings) else 3
  if net.input_shape[1:] != (net.input_shape[0], colours):
    kind = "3 colours" if colours == 3 else "one channel (in_channels=1)"
    raise ConfigError(
      f"config.net reads images of {_sized(net.input_shape)}, expected square "
      f"ones of {kind}"
    )
  given = settings.model_dump(exclude_none=True)
  given["directory"] = str(user_path(settings.directory))
  device_bytes = given.pop("device_bytes", 0)
  made = given.pop("generated", None)
  if made:
    generated.write(given["directory"], given["name"], **made)
    given["rows"] = {"train": made["train"], "test": made["test"]}

  def source(batch_size):
    more = {"batch_size": batch_size, "resolution": net.input_shape[0]}
    return sources.source(types.SimpleNamespace(**given, **more))

  batch = settings.evaluation_batch
  tested = source(batch)

  def place(tree):
    return jax.device_put(tree)

  # Put there once, whatever trains on it.
  @functools.lru_cache(maxsize=1)
  def pixels(mesh):
    assert tested.resident is not None
    return feed.hold(tested.resident(), mesh)

  def draws(batch_size, mesh):
    found = source(batch_size)
    needed = found.counts()[0] * math.prod(found.input_shape)
    if found.resident and lies_on_device(needed, device_bytes):
      return feed.as_given, feed.from_device(
        pixels(mesh), found.resident(), mesh
      )
    own = functools.partial(
      found.batches,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    put = functools.partial(parallel.feed, mesh=mesh)
    return feed.as_given, feed.from_host(own, put)

  def held_out(split, place_of_count):
    def batches() -> Iterator[Any]:
      read = tested.evaluation(split=split)
      with feed.read_ahead(read, place, 2) as placed:
        yield from placed

    return HeldOut(
      batches, lambda: independent(tested.counts()[place_of_count])
    )

  def calibration_set(key, count):
    return place(tested.samples(feed.seed_of({"key": key}), count))

  return Task(
    tested.input_shape,
    tested.classes,
    draws,
    calibration_set,
    lambda: tested.counts()[0],
    held_out("validation", 1),
    held_out("test", 2),
    batch,
    f"Tested on the test split of {given['name']}, each image counted once; "
    f"{settings.validation_share:.3g} of its training images are held out of "
    "training, to choose by.",
  )


DIGITS = DataSet(DigitsSettings, _digits)
CIFAR = DataSet(CifarSettings, _files)
IDX = DataSet(IdxSettings, _files)
IMAGENET = DataSet(ImageNetSettings, _files)
