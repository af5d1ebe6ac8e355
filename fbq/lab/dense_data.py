"""COCO and ADE20K as data sets: their settings, and their tasks."""

import concurrent.futures
import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from pydantic import Field

from fbq.config import ConfigError, Seed, Settings
from fbq.data import ade20k, coco, holdout, order
from fbq.dense.objects import Objects
from fbq.files import user_path
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.settings import ValidationShare
from fbq.lab.task import Task, sized
from fbq.nets.graph import Net
from fbq.train import feed, parallel
from fbq.train.detection import detection, is_detector, tells_masks
from fbq.train.segmentation import segmentation


class _Photographs(Settings):
  directory: str
  "Where the files are."
  validation_share: ValidationShare = 0.02
  "Share of the training images that is held out of training, to choose by."
  split_seed: Seed = 0
  "Seed of which images those are."
  evaluation_batch: int = Field(32, ge=1, le=10**6)
  "Images of validation and test at a time."
  flip: bool = True
  "Mirror half of the training images."
  threads: int = Field(16, ge=1, le=1024)
  "Threads that decode."


class CocoSettings(_Photographs):
  """COCO 2017, or photographs with objects annotated in its form."""

  name: Literal["coco"] = "coco"
  "Data set."
  most_objects: int = Field(100, ge=1, le=1000)
  "Objects that an image of a batch has room for; more in training are left \
  out, the smallest first."


class AdeSettings(_Photographs):
  """ADE20K of the scene parsing challenge, or class maps in its form."""

  name: Literal["ade20k"] = "ade20k"
  "Data set."
  classes: int = Field(ade20k.CLASSES, ge=2, le=254)
  "Classes of pixels, without 'other'."


def coco_task(settings: CocoSettings, net: Net) -> Task:
  """The task of COCO, for a network with the outputs of YOLOv8.

  Raises:
    ConfigError: another network.
    DataError: files that are missing or of another form.
  """
  _check_images(net)
  if not is_detector(net):
    raise ConfigError(
      "config.net tells no boxes, expected the outputs of yolov8, with "
      "masks=True for masks"
    )
  directory = user_path(settings.directory)
  train, test = (coco.read(directory, s) for s in (coco.TRAIN, coco.TEST))
  if train.names != test.names:
    raise ConfigError(
      f"config.data.directory: {coco.TRAIN} and {coco.TEST} have other classes"
    )
  room = settings.most_objects
  if test.most_objects > room:
    raise ConfigError(
      f"config.data.most_objects is {room}, expected {test.most_objects} or "
      "more: an image of the test has as many"
    )
  sample = functools.partial(
    coco.Coco.sample,
    resolution=net.input_shape[0],
    room=room,
    with_masks=tells_masks(net),
  )
  told = net.shapes["p3.class"][2]
  _check_classes(told, len(train.names))
  objective = detection(net)
  return _task(settings, net, train, test, sample, told, objective, _mirrored)


def ade20k_task(settings: AdeSettings, net: Net) -> Task:
  """The task of ADE20K, for a network that tells a map of classes.

  Class maps are scored at the size that the network reads, letterboxed.

  Raises:
    ConfigError: another network.
    DataError: missing files.
  """
  _check_images(net)
  made = [net.shapes[n.name] for n in net.nodes if n.is_output]
  if len(made) != 1 or made[0][:2] == (1, 1):
    raise ConfigError(
      f"config.net makes outputs of shapes {made}, expected a map of classes"
    )
  told = made[0][2]
  _check_classes(told, settings.classes)
  directory = user_path(settings.directory)
  train, test = (
    ade20k.read(directory, split, settings.classes)
    for split in (ade20k.TRAIN, ade20k.TEST)
  )
  resolution = net.input_shape[0]
  sample = functools.partial(ade20k.Ade20k.sample, resolution=resolution)
  mirrored = lambda labels, _: labels[:, ::-1]
  objective = segmentation(resolution)
  return _task(settings, net, train, test, sample, told, objective, mirrored)


def _check_images(net: Net) -> None:
  if net.input_shape[1:] != (net.input_shape[0], 3):
    raise ConfigError(
      f"config.net reads images of {sized(net.input_shape)}, expected square "
      "ones of 3 colours"
    )


def _check_classes(told: int, expected: int) -> None:
  if told != expected:
    raise ConfigError(
      f"config.net tells {told} classes apart, expected {expected}, those of "
      "the data; see config.net.arguments"
    )


def _mirrored(objects: Objects, resolution: int) -> Objects:
  """The objects of an image whose left is right."""
  left, top, right, bottom = objects.boxes.T
  boxes = np.stack([resolution - right, top, resolution - left, bottom], 1)
  masks = objects.masks
  return objects._replace(
    boxes=np.where(objects.is_object[:, None], boxes, 0).astype(np.float32),
    masks=None if masks is None else masks[:, :, ::-1],
  )


def _task(
  settings: _Photographs,
  net: Net,
  train: Any,
  test: Any,
  sample: Callable[[Any, int], tuple[np.ndarray, Any]],
  classes: int,
  objective: Any,
  mirrored: Callable[[Any, int], Any],
) -> Task:
  """The task of two splits whose images are read one by one."""
  resolution = net.input_shape[0]
  count = holdout.count_of(len(train), settings.validation_share)
  random = np.random.default_rng(settings.split_seed)
  nothing = np.zeros(len(train), int)
  kept, held = holdout.stratified(nothing, count, random)
  pool = functools.cache(
    lambda: concurrent.futures.ThreadPoolExecutor(settings.threads)
  )

  def stacked(split, rows, flips=None):
    """Images and truth of rows, some of them mirrored."""
    found = list(pool().map(lambda row: sample(split, int(row)), rows))
    for i in np.flatnonzero(flips) if flips is not None else ():
      image, truth = found[i]
      found[i] = image[:, ::-1], mirrored(truth, resolution)
    images, truth = jax.tree.map(lambda *parts: np.stack(parts), *found)
    return images.astype(np.float32) / np.float32(255), truth

  def batches(batch_size, seed, start_step):
    own = jax.process_index(), jax.process_count()
    for step in itertools.count(start_step):
      places = order.places(step, batch_size, *own)
      rows = kept[order.samples(len(kept), seed, places)]
      drawn = np.random.default_rng([seed, step]).random(batch_size)
      flips = drawn[order.own_rows(batch_size, *own)] < 0.5 * settings.flip
      yield stacked(train, rows, flips)

  def draws(batch_size, mesh):
    order.check_processes(batch_size, jax.process_index(), jax.process_count())
    put = functools.partial(parallel.feed, mesh=mesh)
    source = functools.partial(batches, batch_size)
    return feed.as_given, feed.from_host(source, put)

  def held_out(split, rows):
    batch = settings.evaluation_batch

    def read():
      for step in range(order.evaluation_steps(len(rows), batch)):
        places, weights = order.evaluation_rows(len(rows), step, batch)
        yield (*stacked(split, rows[places]), weights)

    def placed():
      with feed.read_ahead(read(), jax.device_put, 2) as ready:
        yield from ready

    return HeldOut(placed, lambda: independent(len(rows)))

  def calibration_set(key, number):
    seed = feed.seed_of({"key": key})
    rows = kept[order.samples(len(kept), seed, np.arange(number))]
    return jax.device_put(stacked(train, rows))

  return Task(
    net.input_shape,
    classes,
    draws,
    calibration_set,
    lambda: len(kept),
    held_out(train, held),
    held_out(test, np.arange(len(test))),
    settings.evaluation_batch,
    f"Tested on the {len(test):,} images of the test split, each counted once; "
    f"{len(held):,} training images are held out of training, to choose by.",
    objective,
  )
