"""Data sets in files: their settings, and their task, read by the host."""

import functools
import math
import types
from collections.abc import Iterator
from typing import Any, Literal

import jax
from pydantic import Field

from fbq.config import ConfigError, Count, Seed, Settings
from fbq.data import generated, sources
from fbq.files import user_path
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.settings import ValidationShare
from fbq.lab.task import DEVICE_BYTES, Task, lies_on_device, sized
from fbq.nets.graph import Net
from fbq.train import feed, parallel

_BATCH = 250  # divides the test sets of CIFAR and ImageNet


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


def task(settings: _Held, net: Net) -> Task:
  """The task of images in files: nothing but their source knows which."""
  # Before pictures are made that the network could not read
  colours = 1 if isinstance(settings, IdxSettings) else 3
  if net.input_shape[1:] != (net.input_shape[0], colours):
    kind = "3 colours" if colours == 3 else "one channel (in_channels=1)"
    raise ConfigError(
      f"config.net reads images of {sized(net.input_shape)}, expected square "
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
    f"{settings.validation_share:.1%} of its training images are held out of "
    "training, to choose by.",
  )
