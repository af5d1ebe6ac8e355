"""Data sets whose images are files, by name."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fbq.data.resident import Resident

NAMES = ("cifar10", "cifar100", "idx", "imagenet")


class Source(NamedTuple):
  """A data set whose settings and files were checked.

  Attributes:
    name: one of `NAMES`.
    input_shape: (height, width, channels) of an image.
    classes: number of classes.
    batches: (seed, start_step=0, process_index=0, process_count=1) -> endless
      (images, labels); see `fbq.data`.
    evaluation: (process_index=0, process_count=1, split="test") -> (images,
      labels, weights) of "validation" or "test".
    samples: (seed, count) -> (images, labels) of the training split, as
      evaluation shows images; none comes twice before all have come once.
    counts: () -> images of training, validation and test.
    resident: () -> the training set to be put on a device; None where images
      are decoded as they are read.
  """

  name: str
  input_shape: tuple[int, int, int]
  classes: int
  batches: Callable[..., Iterator[tuple[Any, Any]]]
  evaluation: Callable[..., Iterator[tuple[Any, Any, np.ndarray]]]
  samples: Callable[[int, int], tuple[Any, Any]]
  counts: Callable[[], tuple[int, int, int]]
  resident: Callable[[], Resident] | None = None


def source(config) -> Source:
  """The data set `config.name`, checked but not yet read.

  Args:
    config: settings of the data set, see its module.

  Raises:
    ValueError: unknown name, or a setting that cannot be right.
    DataError: missing files.
  """
  name = getattr(config, "name", None)
  if name not in NAMES:
    raise ValueError(f"data.name is {name!r}, expected one of {NAMES}")
  # A data set needs no other's packages.
  if name == "imagenet":
    from fbq.data import imagenet

    imagenet.check_settings(config)
    shape = config.resolution, config.resolution, 3
    classes, module, resident = imagenet.classes(config), imagenet, None
  elif name == "idx":
    from fbq.data import idx

    idx.check_settings(config)
    shape = config.resolution, config.resolution, 1
    classes, module = idx.classes(config), idx
    resident = functools.partial(idx.resident, config)
  else:
    from fbq.data import cifar

    cifar.check_settings(config)
    shape, classes = (32, 32, 3), cifar.classes(config)
    module, resident = cifar, functools.partial(cifar.resident, config)
  functions = ("batches", "evaluation", "samples", "counts")
  return Source(
    name,
    shape,
    classes,
    *(functools.partial(getattr(module, f), config) for f in functions),
    resident=resident,
  )
