"""MNIST's idx files, and those of data sets in its form; see `fbq.data`.

Four files, plain or in gzip, with images of 8 bits and one channel
(http://yann.lecun.com/exdb/mnist/, "the IDX file format"): a magic number whose
last bytes tell the type and the number of axes, the axes as big-endian int32,
then the numbers. Settings:
  directory: place of the four files.
  batch_size: images of a batch, over all processes.
  resolution: pixels on a side, to which images are padded with black evenly.
  classes: number of classes (default 10).
  augment, flip, mean, std: see `fbq.data.in_memory`.
  validation_share: share of the training images that is held out (default 0).
  split_seed: seed of which those are (default 0).
"""

import functools
import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from fbq.data import DataError, holdout, scaling
from fbq.data.in_memory import InMemory, Splits, split
from fbq.files import user_path

_STARTS = {"train": "train", "test": "t10k"}  # of names, by split
_KINDS = {"images": 3, "labels": 1}  # what a file holds -> its axes
_SOURCES = (
  "MNIST: http://yann.lecun.com/exdb/mnist/; Fashion-MNIST: "
  "https://github.com/zalandoresearch/fashion-mnist, or Debian's package "
  "dataset-fashion-mnist (`dpkg -L` tells its folder)"
)


class Header(NamedTuple):
  """The beginning of a file: where it is, and its axes."""

  path: Path
  shape: tuple[int, ...]


def classes(config) -> int:
  """Number of classes of the labels."""
  return getattr(config, "classes", 10)


def check_settings(config) -> dict[str, Header]:
  """The headers of the four files, such as "train images"; reads no image.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: files that are missing or do not fit together.
  """
  scaling.normalization(config)
  headers = {
    f"{name} {kind}": _header(user_path(config.directory), start, kind)
    for name, start in _STARTS.items()
    for kind in _KINDS
  }

  # Every image has a label, and all images one size
  for name in _STARTS:
    images, labels = headers[f"{name} images"], headers[f"{name} labels"]
    if images.shape[0] != labels.shape[0] or not images.shape[0]:
      raise DataError(
        f"{images.path} has {images.shape[0]:,} images and {labels.path} "
        f"{labels.shape[0]:,} labels, expected as many, and some"
      )
  sizes = {headers[f"{name} images"].shape[1:] for name in _STARTS}
  if len(sizes) > 1:
    raise DataError(
      f"{config.directory}: images of {sorted(sizes)} pixels, expected one size"
    )
  [size] = sizes
  if max(size) > config.resolution:
    raise ValueError(
      f"data: images of {size} pixels, expected at most "
      f"{config.resolution}, the resolution of the network"
    )
  return headers


def load(config) -> Splits:
  """All splits in memory, checked and not to be changed.

  Files that are as they were are not read again.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: missing or damaged files.
  """
  headers = check_settings(config)
  stats = [header.path.stat() for header in headers.values()]
  return _load(
    tuple(headers.values()),
    config.resolution,
    classes(config),
    getattr(config, "validation_share", 0.0),
    getattr(config, "split_seed", 0),
    tuple((stat.st_mtime_ns, stat.st_size) for stat in stats),
  )


@functools.lru_cache(maxsize=1)
def _load(headers, resolution, count, share, seed, stamps) -> Splits:
  """See `load`; `stamps` tell the files apart from changed ones."""
  del stamps
  train_images, train_labels, images, labels = map(_content, headers)
  for header, found in ((headers[1], train_labels), (headers[3], labels)):
    if found.max() >= count:
      raise DataError(
        f"{header.path} has label {found.max()}, expected 0 to {count - 1}: "
        "give data.classes"
      )
  train, test = (
    (_padded(images, resolution), labels.astype(np.int32))
    for images, labels in ((train_images, train_labels), (images, labels))
  )
  return split(train, test, share, seed)


def _padded(images: np.ndarray, resolution: int) -> np.ndarray:
  """uint8 [N, R, R, 1]: images [N, H, W] in the middle of black ones."""
  edges = [(0, 0)]
  for side in images.shape[1:]:
    before = (resolution - side) // 2
    edges.append((before, resolution - side - before))
  return np.pad(images, edges)[..., None]


def counts(config) -> tuple[int, int, int]:
  """Images of training, validation and test; reads none."""
  headers = check_settings(config)
  train = headers["train images"].shape[0]
  held = holdout.count_of(train, getattr(config, "validation_share", 0.0))
  return train - held, held, headers["test images"].shape[0]


def _header(directory: Path, start: str, kind: str) -> Header:
  """Of the file of images or labels whose name begins with `start`."""
  axes = _KINDS[kind]
  names = [f"{start}-{kind}{dot}idx{axes}-ubyte" for dot in "-."]
  paths = [directory / f"{name}{end}" for name in names for end in ("", ".gz")]
  path = next((path for path in paths if path.is_file()), None)
  if path is None:
    raise DataError(
      f"{directory} has no {names[0]} or {names[0]}.gz, expected the four "
      f"files of MNIST or of a data set in its form; {_SOURCES}"
    )
  magic, *shape = _read(path, lambda file: _whole(file, 1 + axes, path))
  if magic != 0x800 + axes:
    raise DataError(
      f"{path} begins with {magic:#010x}, expected {0x800 + axes:#010x}, the "
      f"magic number of {kind} of 8 bits with {axes} axes"
    )
  return Header(path, tuple(shape))


def _content(header: Header) -> np.ndarray:
  """uint8: what follows a header, in its shape."""
  expected = math.prod(header.shape)

  def content(file):
    _whole(file, 1 + len(header.shape), header.path)
    return file.read()

  found = _read(header.path, content)
  if len(found) != expected:
    raise DataError(
      f"{header.path} has {len(found):,} bytes after its header, expected "
      f"{expected:,}: it was cut or is damaged; fetch it again"
    )
  return np.frombuffer(found, np.uint8).reshape(header.shape)


def _whole(file: BinaryIO, count: int, path: Path) -> list[int]:
  """The next `count` whole numbers of a file."""
  found = file.read(4 * count)
  if len(found) < 4 * count:
    raise DataError(
      f"{path} ends within its header: it was cut or is damaged; fetch it again"
    )
  return np.frombuffer(found, ">u4").tolist()


def _read(path: Path, function):
  """What `function` reads of an open file; damage is a DataError."""
  opened = gzip.open if path.suffix == ".gz" else open
  try:
    with opened(path, "rb") as file:
      return function(file)
  except (OSError, EOFError, zlib.error) as error:
    raise DataError(
      f"{path} cannot be read: {error}; fetch it again"
    ) from error


_IMAGES = InMemory(load)
batches, evaluation = _IMAGES.batches, _IMAGES.evaluation
samples, resident = _IMAGES.samples, _IMAGES.resident
