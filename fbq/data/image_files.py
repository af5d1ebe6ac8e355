"""Labelled images by number, from a folder or from ArrayRecord files.

A folder holds <split>/<class>/<image>. Classes are numbered in the order of
their names, which for ImageNet's wnids is the order of every published network.
What operating systems and other programs leave in folders is ignored; images
that would be passed over, in other formats or deeper folders, are refused.
ArrayRecord is random access to a few large files: `fbq.data.to_array_record`
makes them from a folder, and `INDEX` beside them says what they hold, since a
file that was cut reads as an empty one.
"""

import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from fbq.data import DataError
from fbq.files import user_path

SPLITS = ("train", "val")
INDEX = "dataset.json"
FORMAT = "fbq ArrayRecord 1"
SUFFIXES = (".jpeg", ".jpg", ".png")
# Images that are not read.
OTHER_SUFFIXES = (
  *(".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jif"),
  *(".jp2", ".jpe", ".jxl", ".pbm", ".pgm", ".pnm", ".ppm", ".svg", ".tga"),
  *(".tif", ".tiff", ".webp"),
)
# Left behind by Windows, macOS, Linux and network drives, besides what begins
# with a dot; in small letters.
LEFT_BEHIND = (
  *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
  *("$recycle.bin", "system volume information", "__macosx", "icon\r"),
  *("lost+found", "@eadir", "@recycle", "#recycle", "#snapshot"),
  *("__pycache__", "found.000"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Folder:
  """The images of one split of a folder.

  Attributes:
    root: folder of the split.
    classes: names of the classes.
    names: "<class>/<file>" of every image, sorted.
    labels: int32 [N], class of every image.
  """

  root: Path
  classes: tuple[str, ...]
  names: tuple[str, ...]
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.names)

  def read(self, index: int) -> tuple[bytes, int, str]:
    """(encoded image, label, where it is) of image `index`."""
    path = self.root / self.names[index]
    try:
      return path.read_bytes(), int(self.labels[index]), str(path)
    except OSError as error:
      raise DataError(f"image {path} cannot be read: {error}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
  """The images of one split in ArrayRecord files.

  Attributes:
    paths: paths of the files, in order.
    classes: names of the classes.
    count: number of images.
  """

  paths: tuple[str, ...]
  classes: tuple[str, ...]
  count: int

  def __len__(self) -> int:
    return self.count

  @functools.cached_property
  def _source(self) -> Any:
    import grain

    source = grain.sources.ArrayRecordDataSource(list(self.paths))
    if len(source) != self.count:
      raise DataError(
        f"{self.paths[0]} and the files beside it hold {len(source):,} images, "
        f"expected {self.count:,}: convert them again"
      )
    return source

  def __getstate__(self):  # A worker process opens the files itself.
    return {k: v for k, v in self.__dict__.items() if k != "_source"}

  def read(self, index: int) -> tuple[bytes, int, str]:
    """(encoded image, label, where it is) of image `index`."""
    import msgpack

    record = msgpack.unpackb(self._source[int(index)])
    where = f"{record['name']} (number {index} in {Path(self.paths[0]).parent})"
    return record["image"], record["label"], where


def classes(directory: str | Path) -> tuple[str, ...]:
  """Names of the classes; reads an index or one directory, no image.

  Raises:
    DataError: neither form of data set is there.
  """
  directory = user_path(directory)
  if (directory / INDEX).is_file():
    return tuple(_index(directory)["classes"])
  train = directory / SPLITS[0]
  found = _subfolders(train) if train.is_dir() else ()
  if not found:
    raise DataError(
      f"{directory}: expected {train}/<class>/<image>.JPEG, or {INDEX} of "
      "`python -m fbq.data.to_array_record`"
    )
  return found


def check_directory(directory: str | Path) -> None:
  """Raises DataError unless both splits can be opened.

  Lists the images of a folder, which `open_split` then has at once.
  """
  directory, names = user_path(directory), classes(directory)
  if (directory / INDEX).is_file():
    for split in SPLITS:
      _shards(directory, split)
    return

  # A class that only val/ has would have no label.
  val = directory / SPLITS[1]
  found = _subfolders(val) if val.is_dir() else ()
  if not found:
    raise DataError(
      f"{directory}: expected {val}/<class>/<image>.JPEG; images that lie in "
      "val/ itself must be moved into folders of their classes"
    )
  if unknown := sorted(set(found) - set(names)):
    raise DataError(
      f"{val} has classes that {directory / SPLITS[0]} lacks: {unknown[:5]}"
    )

  # Missing images are said now, and not when the first epoch is over.
  for split in SPLITS:
    open_split(directory, split)


def open_split(directory: str | Path, split: str) -> Folder | Records:
  """The images of "train" or "val"; lists a folder's images.

  Raises:
    DataError: missing or damaged files.
  """
  directory = user_path(directory)
  names = classes(directory)
  if (directory / INDEX).is_file():
    paths, count = _shards(directory, split)
    return Records(paths, names, count)
  root = directory / split
  folders = [root / name for name in names]
  stamps = tuple(f.stat().st_mtime_ns if f.is_dir() else 0 for f in folders)
  return _folder(root, names, stamps)


# Listing 1.3 million files takes seconds, and every run asks for it.
@functools.lru_cache(maxsize=4)
def _folder(root: Path, classes: tuple[str, ...], stamps: tuple) -> Folder:
  """See `open_split`; `stamps` tell folders apart from changed ones."""
  del stamps
  names, labels = [], []
  for label, name in enumerate(classes):
    folder = root / name
    files = _images(folder) if folder.is_dir() else []
    if not files:
      raise DataError(
        f"{folder} has no images ({', '.join(SUFFIXES)}); every class of "
        "train/ must have some in every split"
      )
    names += [f"{name}/{file}" for file in files]
    labels += [label] * len(files)
  return Folder(root, classes, tuple(names), np.array(labels, np.int32))


def _images(folder: Path) -> list[str]:
  """Names of the images of one class, sorted; refuses what is passed over."""
  files = []
  with os.scandir(folder) as entries:
    for entry in entries:
      name = entry.name.lower()
      if _is_left_behind(name):
        continue
      if entry.is_dir():
        if any(not _is_left_behind(n.lower()) for n in os.listdir(entry)):
          raise DataError(
            f"{entry.path} is a folder in the folder of a class, expected "
            "images: move what it holds up, or away"
          )
      elif name.endswith(SUFFIXES):
        files.append(entry.name)
      elif name.endswith(OTHER_SUFFIXES):
        raise DataError(
          f"{entry.path} is of another format than {', '.join(SUFFIXES)}: "
          "convert it, and those like it, or move them away"
        )
  return sorted(files)


def _subfolders(split: Path) -> tuple[str, ...]:
  """Names of the classes of one split, sorted; refuses images beside them."""
  found = []
  with os.scandir(split) as entries:
    for entry in entries:
      name = entry.name.lower()
      if _is_left_behind(name):
        continue
      if entry.is_dir():
        found.append(entry.name)
      elif name.endswith((*SUFFIXES, *OTHER_SUFFIXES)):
        raise DataError(
          f"{entry.path} is an image that lies in {split.name}/ itself, "
          "expected it in the folder of its class: move it there, or away"
        )
  return tuple(sorted(found))


def _is_left_behind(name: str) -> bool:
  return name.startswith(".") or name in LEFT_BEHIND


def _index(directory: Path) -> dict[str, Any]:
  path = directory / INDEX
  try:
    index = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise DataError(f"{path} is damaged: {error}; convert again") from error
  if not isinstance(index, dict) or index.get("format") != FORMAT:
    raise DataError(f"{path} is no index of {FORMAT!r}: convert again")
  return index


def _shards(directory: Path, split: str) -> tuple[tuple[str, ...], int]:
  """(paths, images in all) of a split, sizes checked."""
  index = _index(directory)
  if split not in index["splits"]:
    raise DataError(
      f"{directory / INDEX} has no split {split!r}, only "
      f"{sorted(index['splits'])}: convert it too"
    )
  shards = index["splits"][split]
  for shard in shards:
    path = directory / shard["file"]
    size = path.stat().st_size if path.is_file() else None
    if size != shard["bytes"]:
      state = "is missing" if size is None else f"has {size:,} bytes"
      raise DataError(
        f"{path} {state}, expected {shard['bytes']:,} bytes: delete it and "
        "convert again, which makes what is missing"
      )
  paths = tuple(str(directory / shard["file"]) for shard in shards)
  return paths, sum(shard["images"] for shard in shards)
