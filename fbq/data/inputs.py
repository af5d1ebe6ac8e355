"""Inputs of a network from wherever they lie, with labels or without.

  a folder of pictures    in any depth; Pillow decodes them, the middle is taken
  a folder of .bin files  one input each, as MLPerf Tiny has them
  a .bin file             inputs one behind the other
  .npz, .npy              one array of inputs, and one of labels if there is one

Labels are those of `y_labels.csv` in the folder (`file,class`, or MLPerf Tiny's
`file,classes,class`), of the array "labels" or "y", or, if asked for, the
folders that pictures lie in, in the order of their names.
"""

import csv
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from fbq.data import DataError, image_files, pictures
from fbq.files import user_path

Shape = tuple[int, int, int]
Kind = Literal["pixels", "codes", "numbers"]
TYPES = ("uint8", "int8", "float32")
LABELS_FILE = "y_labels.csv"
_LARGEST = 8 << 30  # bytes that are kept in memory
_IMAGES = ("images", "inputs", "x", "data", "arr_0")
_LABELS = ("labels", "y")


class Inputs(NamedTuple):
  """Inputs of one size, in the order of their names.

  Attributes:
    x: [N, H, W, C]: uint8 pixels; integers that the file of the network reads;
      or float32 numbers that its first layer reads.
    kind: which of the three, "pixels", "codes" or "numbers".
    labels: int32 [N], or None.
    names: where each came from.
  """

  x: np.ndarray
  kind: Kind
  labels: np.ndarray | None
  names: tuple[str, ...]

  def rows(self, which: np.ndarray) -> "Inputs":
    """Those of some numbers, in their order."""
    labels = None if self.labels is None else self.labels[which]
    names = tuple(self.names[i] for i in which)
    return Inputs(self.x[which], self.kind, labels, names)


def read(
  path: str | os.PathLike,
  shape: Shape,
  *,
  codes: tuple[int, int] | None = None,
  raw_type: str = "",
  from_folders: bool = False,
  classes: int = 0,
  most: int = 0,
  seed: int = 0,
) -> Inputs:
  """The inputs that a path leads to.

  Args:
    path: folder or file, see the module.
    shape: (height, width, channels) of an input.
    codes: (lowest, highest) integer that the file of the network reads, None if
      it reads floats.
    raw_type: one of `TYPES`, what .bin files hold; "": float32 where a file has
      four bytes for each number, else what the network's file reads, pixels if
      that is floats.
    from_folders: whether pictures are labelled by the folder they lie in:
      folders in order, those that are called by numbers by these.
    classes: number of such folders that there must be; 0 for any.
    most: inputs to read at most, drawn at random; 0 for all.
    seed: seed of which those are.

  Raises:
    DataError: nothing there, or not such inputs; names the file.
  """
  path = user_path(path)
  if path.is_dir():
    labelled = (from_folders, classes)
    return _of_folder(path, shape, codes, raw_type, labelled, most, seed)
  if not path.is_file():
    raise DataError(missing(path))
  if path.suffix in (".npz", ".npy"):
    found = _of_arrays(path, shape, codes)
  elif path.suffix == ".bin":
    found = _of_bytes([path], shape, codes, raw_type)
  else:
    raise DataError(
      f"{path}: expected a folder of pictures or of .bin files, or a file that "
      "ends in .npz, .npy or .bin"
    )
  return found.rows(_some(len(found.x), most, seed))


def missing(path: Path) -> str:
  """What to say where no inputs are at a path."""
  seen = "" if path.is_absolute() else f", seen from {Path.cwd()}"
  return (
    f"{path} is not there{seen}; expected a folder of pictures or of .bin "
    "files, a .npz, .npy or .bin file"
  )


def _some(count: int, most: int, seed: int) -> np.ndarray:
  """At most `most` of `count` numbers, rising; all for 0."""
  if not most or count <= most:
    return np.arange(count)
  random = np.random.default_rng(seed)
  return np.sort(random.choice(count, most, replace=False))


# ---- Folders


def _of_folder(root, shape, codes, raw_type, labelled, most, seed):
  # What is listed costs nothing, what is decoded does: first the choice.
  files, suffix = _listed(root)
  labels = _labels_of(root, files)
  from_folders, count = labelled
  if labels is None and from_folders:
    labels = _by_folder(root, files, count)
  rows = _some(len(files), most, seed)
  files = [files[i] for i in rows]
  labels = None if labels is None else labels[rows]

  if suffix == ".bin":
    found = _of_bytes([root / file for file in files], shape, codes, raw_type)
    return found._replace(labels=labels, names=tuple(files))
  _check_size(root, len(files), math.prod(shape))
  x = np.stack(
    [
      pictures.middle((root / file).read_bytes(), str(root / file), shape)
      for file in files
    ]
  )
  return Inputs(x, "pixels", labels, tuple(files))


def _by_folder(root: Path, files: Sequence[str], count: int) -> np.ndarray:
  """int32 [N], the number of the folder that each file lies in."""
  folders = [Path(file).parts[0] if os.sep in file else "." for file in files]
  names = sorted(set(folders))
  if all(name.isdigit() for name in names):
    names.sort(key=int)
  if len(names) < 2 or count and len(names) != count:
    raise DataError(
      f"{root} has pictures in {len(names)} folders, expected "
      f"{count or 'two or more'}: one for each class"
    )
  return np.array([names.index(name) for name in folders], np.int32)


def _listed(root: Path) -> tuple[list[str], str]:
  """(files below a folder that are inputs, sorted; ".bin" or "")."""
  found, other = {"": [], ".bin": []}, []
  for folder, folders, files in os.walk(root):
    folders[:] = [name for name in folders if not _is_left_behind(name)]
    for file in files:
      if _is_left_behind(file):
        continue
      name = os.path.relpath(os.path.join(folder, file), root)
      suffix = Path(file).suffix.lower()
      if suffix in image_files.SUFFIXES:
        found[""].append(name)
      elif suffix == ".bin":
        found[suffix].append(name)
      elif suffix in image_files.OTHER_SUFFIXES:
        other.append(name)
  if other:
    raise DataError(
      f"{root} has {len(other)} pictures such as {min(other)}, which would be "
      f"passed over; expected {', '.join(image_files.SUFFIXES)}: convert them"
    )
  kinds = [suffix for suffix, names in found.items() if names]
  if len(kinds) != 1:
    both = "both pictures and" if kinds else "neither pictures nor"
    raise DataError(
      f"{root} has {both} .bin files; expected "
      f"{', '.join(image_files.SUFFIXES)}, or .bin files"
    )
  return sorted(found[kinds[0]]), kinds[0]


def _is_left_behind(name: str) -> bool:
  return name.startswith(".") or name.lower() in image_files.LEFT_BEHIND


def _labels_of(root: Path, files: Sequence[str]) -> np.ndarray | None:
  """Classes in `LABELS_FILE`, None without such a file."""
  path = root / LABELS_FILE
  if not path.is_file():
    return None
  known: dict[str, int] = {}
  with path.open(newline="") as file:
    for number, row in enumerate(csv.reader(file), 1):
      if not any(row):
        continue
      try:
        known[row[0].strip()] = int(row[1 if len(row) == 2 else 2])
      except (IndexError, ValueError) as error:
        raise DataError(
          f"{path}, line {number}: {','.join(row)[:80]!r}, expected "
          "'file,class' or 'file,classes,class'"
        ) from error
  unlabelled = [file for file in files if file not in known]
  if unlabelled:
    raise DataError(
      f"{path} has no class of {len(unlabelled)} of {len(files)} inputs, such "
      f"as {unlabelled[0]}"
    )
  return np.array([known[file] for file in files], np.int32)


# ---- Raw numbers and arrays


def _of_bytes(files: Sequence[Path], shape, codes, raw_type) -> Inputs:
  """One input of every file, or all that one file holds."""
  numbers = math.prod(shape)
  _check_size(files[0].parent, len(files), numbers)
  parts = []
  for path in files:
    size = path.stat().st_size
    kind = raw_type or _told_type(path, size, numbers, codes, len(files) == 1)
    width = np.dtype(kind).itemsize * numbers
    good = size == width or (len(files) == 1 and size and size % width == 0)
    if not good:
      raise DataError(
        f"{path} has {size:,} bytes, expected {width:,}: "
        f"{'x'.join(map(str, shape))} numbers of {kind}"
      )
    parts.append(np.fromfile(path, np.dtype(kind).newbyteorder("<")))
  kinds = {part.dtype for part in parts}
  if len(kinds) > 1:
    raise DataError(f"{files[0].parent}: some inputs have other types")
  x = np.concatenate(parts).reshape(-1, *shape)
  names = tuple(path.name for path in files)
  if len(names) < len(x):
    names = tuple(f"{files[0].name}, number {i}" for i in range(len(x)))
  return _of_type(files[0], x, codes, None, names)


def _told_type(path, size, numbers, codes, is_one):
  if is_one and size != numbers and size and size % (4 * numbers) == 0:
    if size > 4 * numbers or codes:
      raise DataError(
        f"{path} may hold {size // numbers:,} inputs of one byte a number, or "
        f"{size // (4 * numbers):,} of floats; say which: config.raw_type"
      )
  if codes is None and size == 4 * numbers:
    return "float32"
  return "int8" if codes and codes[0] < 0 else "uint8"


def _of_arrays(path: Path, shape, codes) -> Inputs:
  try:
    stored = np.load(path, allow_pickle=False)
    arrays = (
      {"x": stored}
      if isinstance(stored, np.ndarray)
      else {name: stored[name] for name in stored.files}
    )
  except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
    raise DataError(f"{path} cannot be read: {str(error)[:200]}") from error
  x, labels = _inputs_in(path, arrays)

  # Rows of numbers, channels last or first
  height, width, channels = shape
  if x.shape[1:] == (channels, height, width) and x.shape[1:] != shape:
    x = x.transpose(0, 2, 3, 1)
  elif x.shape[1:] == (math.prod(shape),) and channels > 1 < height * width:
    raise DataError(
      f"{path} has rows of {x.shape[1]:,} numbers, which do not tell their "
      f"axes; give [N, {height}, {width}, {channels}] or [N, {channels}, "
      f"{height}, {width}]"
    )
  elif x.shape[1:] in ((math.prod(shape),), (height, width)):
    if math.prod(x.shape[1:]) == math.prod(shape):
      x = x.reshape(-1, *shape)
  if x.shape[1:] != shape or not len(x):
    raise DataError(
      f"{path} has inputs {list(x.shape)}, expected [N, "
      f"{', '.join(map(str, shape))}], one or more"
    )
  if labels is not None:
    whole = labels.shape == x.shape[:1] and labels.dtype.kind in "iu"
    if not whole:
      raise DataError(
        f"{path} has labels {labels.dtype}{list(labels.shape)}, expected "
        f"{len(x)} whole numbers"
      )
    labels = labels.astype(np.int32)
  names = tuple(f"{path.name}, number {i}" for i in range(len(x)))
  return _of_type(path, x, codes, labels, names)


def _inputs_in(path: Path, arrays: Mapping[str, np.ndarray]):
  labels = next((arrays[k] for k in _LABELS if k in arrays), None)
  # "y" beside "x" is a label, and "x" beside it the input
  rest = {k: x for k, x in arrays.items() if k not in _LABELS}
  name = next((k for k in _IMAGES if k in rest), None)
  if name is None and len(rest) == 1:
    [name] = rest
  if name is None:
    raise DataError(
      f"{path} has arrays {', '.join(arrays) or 'none'}; expected inputs as "
      f"one of {', '.join(_IMAGES)}, labels as one of {', '.join(_LABELS)}"
    )
  if others := sorted(set(rest) - {name}):
    raise DataError(
      f"{path} also has {', '.join(others)}, which would be passed over; "
      f"labels are called {' or '.join(_LABELS)}, leave out the rest"
    )
  return rest[name], labels


def _of_type(path, x, codes, labels, names) -> Inputs:
  """Integers and floats as what they are meant for."""
  if x.dtype.kind == "f":
    if not np.isfinite(x).all():
      raise DataError(f"{path}: inputs have numbers that are not finite")
    return Inputs(x.astype(np.float32), "numbers", labels, names)
  if x.dtype == np.uint8:
    return Inputs(x, "pixels", labels, names)
  if x.dtype.kind not in "iu" or codes is None:
    raise DataError(
      f"{path} has inputs of {x.dtype}; expected uint8 pixels, floats as the "
      "network reads them"
      + (f", or integers of {codes[0]} to {codes[1]}" if codes else "")
    )
  if x.min() < codes[0] or x.max() > codes[1]:
    raise DataError(
      f"{path} has integers of {x.min()} to {x.max()}, expected {codes[0]} to "
      f"{codes[1]}, as the network's file reads"
    )
  return Inputs(x.astype(np.int16), "codes", labels, names)


def _check_size(path, count, numbers):
  needed = 4 * count * numbers
  if needed > _LARGEST:
    raise DataError(
      f"{path}: {count:,} inputs of {numbers:,} numbers take "
      f"{needed / 1e9:.1f} GB in memory, expected {_LARGEST / 1e9:.1f} at "
      "most; give fewer"
    )
