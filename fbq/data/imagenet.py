"""ImageNet, or any labelled photographs, through grain; see `fbq.data`.

Needs `pip install fbq[imagenet]`. Settings:
  name: "imagenet".
  directory: place of train/<class>/<image>.JPEG and val/<class>/<image>.JPEG,
    or made from such by `python -m fbq.data.to_array_record`.
  batch_size: images of a batch, over all processes.
  resolution: pixels on a side of what the network reads.
  resize: shorter side before the middle is cut out for evaluation; by default
    256 for 224, and so in proportion.
  mean, std: per channel; images become (image - mean) / std. Without them they
    stay in [0, 1], which is what a quantized network's 8-bit input expects.
  validation_share: share of the images of train/ that is held out (default 0).
  split_seed: seed of which those are (default 0).
  threads: threads that decode in this process (default 16).
  workers: processes that decode, instead of threads (default 0: none). For
    scripts run by `absl.app.run`, as main.py is, of which grain's workers take
    their flags.
"""

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from absl import flags

from fbq.data import holdout, image_files, order, pictures, scaling

_CROP = 1  # Its draws are no others' of the same seed.
_ENDLESS = 1 << 40  # images: 35 years at 1,000 per second


@dataclasses.dataclass(frozen=True, eq=False)
class TrainStream:
  """Random crops by number: image n of this process, whatever came before.

  Attributes:
    source: split that images come from.
    seed: seed of order and crops.
    resolution: pixels on a side of a crop.
    batch_size: images of a batch, over all processes.
    process_index: number of this process, from 0.
    process_count: number of processes.
  """

  source: Any
  seed: int
  resolution: int
  batch_size: int
  process_index: int = 0
  process_count: int = 1

  def __len__(self) -> int:
    return _ENDLESS

  def __getitem__(self, number: int) -> tuple[np.ndarray, np.int32]:
    """(uint8 [R, R, 3], label)."""
    step, within = divmod(number, self.batch_size // self.process_count)
    places = order.places(
      step, self.batch_size, self.process_index, self.process_count
    )
    place = places[within : within + 1]
    [row] = order.samples(len(self.source), self.seed, place)
    # From the place in the global batch: processes do not change the crop.
    random = np.random.default_rng([self.seed, _CROP, int(place[0])])
    encoded, label, name = self.source.read(row)
    pixels = pictures.random_crop(encoded, name, self.resolution, random)
    return pixels, np.int32(label)


@dataclasses.dataclass(frozen=True, eq=False)
class Picked:
  """Some images of a split.

  Attributes:
    source: split that images come from.
    rows: int [N], images of the split.
  """

  source: Any
  rows: np.ndarray

  def __len__(self) -> int:
    return len(self.rows)

  def read(self, index: int) -> tuple[bytes, int, str]:
    """(encoded image, label, where it is) of image `index`."""
    return self.source.read(self.rows[index])


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationStream:
  """The middles of all images in order; filled up with weight 0.

  Attributes: those of `TrainStream`, and
    resize: shorter side of the image of which the middle is taken.
  """

  source: Any
  resize: int
  resolution: int
  batch_size: int
  process_index: int = 0
  process_count: int = 1

  def __len__(self) -> int:
    steps = order.evaluation_steps(len(self.source), self.batch_size)
    return steps * (self.batch_size // self.process_count)

  def __getitem__(self, number: int) -> tuple[np.ndarray, np.int32, np.float32]:
    """(uint8 [R, R, 3], label, weight)."""
    step, within = divmod(number, self.batch_size // self.process_count)
    rows, weights = order.evaluation_rows(
      len(self.source),
      step,
      self.batch_size,
      self.process_index,
      self.process_count,
    )
    encoded, label, name = self.source.read(rows[within])
    pixels = pictures.center_crop(encoded, name, self.resolution, self.resize)
    return pixels, np.int32(label), weights[within]


def classes(config) -> int:
  """Number of classes of the labels."""
  return len(image_files.classes(config.directory))


def check_settings(config) -> None:
  """Reads no image and lists none.

  Raises:
    ValueError: a setting that cannot be right.
    DataError: missing files.
    ModuleNotFoundError: the extra is not installed.
  """
  # Packages first, as their absence is no fault of the settings.
  for package in ("PIL", "grain", "msgpack"):
    if importlib.util.find_spec(package) is None:
      raise ModuleNotFoundError(
        f"data.name 'imagenet' needs {package}: pip install fbq[imagenet]"
      )

  # Sizes that no image can have, and an evaluation that would cut the middle
  # out of less than it needs.
  if not isinstance(config.resolution, int) or config.resolution < 1:
    raise ValueError(
      f"data.resolution is {config.resolution!r}, expected a positive whole "
      "number of pixels"
    )
  if _resize(config) < config.resolution:
    raise ValueError(
      f"data.resize is {_resize(config)}, expected at least the resolution, "
      f"{config.resolution}"
    )

  # Threads and workers are grain's, which says less about wrong ones.
  for field, least in (("threads", 1), ("workers", 0)):
    given = getattr(config, field, least)
    if not isinstance(given, int) or given < least:
      raise ValueError(
        f"data.{field} is {given!r}, expected a whole number from {least} on"
      )
  scaling.normalization(config)
  image_files.check_directory(config.directory)


def batches(
  config,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Training batches without end from `start_step` on; see `fbq.data`.

  Raises:
    ValueError, DataError: before the first batch is asked for; a DataError
      that names a damaged image comes with its batch.
  """
  order.check_processes(config.batch_size, process_index, process_count)
  check_settings(config)
  stream = TrainStream(
    _split(config, "train"),
    seed,
    config.resolution,
    config.batch_size,
    process_index,
    process_count,
  )
  return _read(config, stream, start_step)


def evaluation(
  config,
  process_index: int = 0,
  process_count: int = 1,
  split: Literal["validation", "test"] = "test",
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """(images, labels, weights float32) of a split, every image once.

  Tested on is val/; what is held out for validation comes from train/.

  All batches have one shape; what fills the last has weight 0.

  Raises:
    ValueError, DataError: before the first batch is asked for; a DataError
      that names a damaged image comes with its batch.
  """
  order.check_processes(config.batch_size, process_index, process_count)
  check_settings(config)
  stream = EvaluationStream(
    _split(config, split),
    _resize(config),
    config.resolution,
    config.batch_size,
    process_index,
    process_count,
  )
  return _read(config, stream)


def samples(config, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
  """The middles of `count` training images, and labels.

  None comes twice before all have come once.

  Raises:
    ValueError, DataError: see `evaluation`.
  """
  check_settings(config)
  source = _split(config, "train")
  rows = order.samples(len(source), seed, np.arange(count))
  stream = EvaluationStream(
    Picked(source, rows), _resize(config), config.resolution, count
  )
  [(images, labels, _)] = _read(config, stream)
  return images, labels


def counts(config) -> tuple[int, int, int]:
  """Images of training, validation and test; lists a folder's.

  Raises:
    DataError: missing or damaged files.
  """
  train, validation, test = (
    len(_split(config, split)) for split in ("train", "validation", "test")
  )
  return train, validation, test


def _split(config, split: str) -> Any:
  """The images of "train", "validation" or "test"."""
  if split == "test":
    return image_files.open_split(config.directory, "val")
  source = image_files.open_split(config.directory, "train")
  share = getattr(config, "validation_share", 0.0)
  held = holdout.count_of(len(source), share)
  rows = _rows(len(source), held, getattr(config, "split_seed", 0))
  return Picked(source, rows[split == "validation"])


@functools.lru_cache(maxsize=2)  # 0.3 s for 1.3 million images
def _rows(total: int, held: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(rows of training, rows of validation), sorted.

  Both forms of files number images class by class, so one of each run of
  neighbours is a stratified sample, and no label has to be read.
  """
  runs = np.arange(total) * held // total
  split = holdout.stratified(runs, held, np.random.default_rng(seed))
  train, validation = map(np.sort, split)
  return train, validation


def _resize(config) -> int:
  default = round(config.resolution * 256 / 224)
  return getattr(config, "resize", None) or default


def _read(config, stream, start_step=0) -> Iterator[Any]:
  """Batches of a stream, read ahead by grain in the stream's own order."""
  import grain

  size = stream.batch_size // stream.process_count
  data = grain.MapDataset.source(stream)[start_step * size :]
  normal = scaling.normalization(config)
  workers = getattr(config, "workers", 0)
  if workers:
    if not flags.FLAGS.is_parsed():
      raise ValueError(
        f"data.workers is {workers}, but grain's worker processes need absl's "
        "flags: start by absl.app.run, or set workers to 0"
      )
    # Workers take turns by element, so an element has to be a batch.
    data = data.batch(size).to_iter_dataset(
      grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    )
    data = data.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
  else:
    ahead = grain.ReadOptions(
      num_threads=getattr(config, "threads", 16),
      prefetch_buffer_size=2 * size,
    )
    data = data.to_iter_dataset(ahead).batch(size)
  return _numbers(iter(data), normal)


def _numbers(iterator, normal):
  """Batches with pixels as numbers: a quarter of the bytes until here."""
  try:
    for pixels, *rest in iterator:
      # Workers' arrays are views of memory that they give back.
      yield scaling.numbers(np.asarray(pixels), normal), *map(np.array, rest)
  finally:
    iterator.close()
