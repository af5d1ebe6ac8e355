"""Tensors of a file of PyTorch, read without PyTorch and without its pickle.

What such a file holds is a program for pickle. It is run here by an unpickler
that knows five names, of containers and of tensors; whatever else it asks for
ends the reading. The forms: a zip archive (PyTorch 1.6 and later), or pickles
one behind the other and then the numbers (before).
"""

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # first of the older form
_TYPES = {
  "BFloat16": ml_dtypes.bfloat16,
  "Bool": np.bool_,
  "Byte": np.uint8,
  "Char": np.int8,
  "Double": np.float64,
  "Float": np.float32,
  "Half": np.float16,
  "Int": np.int32,
  "Long": np.int64,
  "Short": np.int16,
}
_STORAGES = {f"{name}Storage": np.dtype(kind) for name, kind in _TYPES.items()}
_MOST_NUMBERS = 2**31


class _Part(NamedTuple):
  """A tensor as the file describes it: a view of numbers that come later."""

  storage: tuple[str, np.dtype]
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def read(path: Path) -> dict[str, np.ndarray]:
  """{key: array} of all tensors, keys of dicts within dicts joined by dots.

  bfloat16 stays `ml_dtypes.bfloat16`.

  Raises:
    ValueError: no such file, it is cut, or it holds other than tensors.
  """
  try:
    tree, storages = (_zipped if zipfile.is_zipfile(path) else _older)(path)
    found: dict[str, np.ndarray] = {}
    _visit(tree, "", storages, found)
  except (
    *(pickle.UnpicklingError, EOFError, OSError, KeyError, IndexError),
    *(TypeError, AttributeError, zipfile.BadZipFile, MemoryError),
    OverflowError,
  ) as error:
    raise ValueError(
      "it holds other than tensors, or is cut: save net.state_dict() alone "
      f"({type(error).__name__}: {str(error)[:100]})"
    ) from error
  return found


class _Unpickler(pickle.Unpickler):
  """Makes dicts, numbers, texts and `_Part`s; nothing else has a name.

  Attributes:
    kinds: type of the numbers of every storage that was met.
  """

  def __init__(self, file: Any):
    super().__init__(file)
    self.kinds: dict[str, np.dtype] = {}

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ("collections", "OrderedDict"):
      return _Dict
    if module == "torch._utils" and name == "_rebuild_tensor_v2":
      return _part
    if module == "torch._utils" and name == "_rebuild_parameter":
      return lambda part, *rest: part
    if module == "torch" and name in _STORAGES:
      return _STORAGES[name]
    raise pickle.UnpicklingError(f"it asks for {module}.{name}")

  def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
    kind, dtype, key, *_ = pid
    if kind != "storage" or not isinstance(dtype, np.dtype):
      raise pickle.UnpicklingError(f"it stores a {kind!r}")
    self.kinds[str(key)] = dtype
    return str(key), dtype


class _Dict(collections.OrderedDict):
  """An OrderedDict to which nothing is attached."""

  def __setstate__(self, state: Any) -> None:
    del state  # versions of modules


def _part(storage, offset, shape, strides, *rest) -> _Part:
  del rest
  return _Part(storage, int(offset), tuple(shape), tuple(strides))


def _zipped(path: Path) -> tuple[Any, Callable[[str, np.dtype], np.ndarray]]:
  """(what is pickled, how numbers are read) of the newer form."""
  archive = zipfile.ZipFile(path)
  with archive:
    [name] = [n for n in archive.namelist() if n.endswith("/data.pkl")] or [""]
    folder = name.removesuffix("data.pkl")
    tree = _Unpickler(io.BytesIO(archive.read(name))).load()
    held = {
      n.removeprefix(f"{folder}data/"): archive.read(n)
      for n in archive.namelist()
      if n.startswith(f"{folder}data/")
    }
  return tree, lambda key, dtype: np.frombuffer(held[key], dtype)


def _older(path: Path) -> tuple[Any, Callable[[str, np.dtype], np.ndarray]]:
  """The same of the older form: pickles, then each storage and its length."""
  with path.open("rb") as file:
    magic = _Unpickler(file).load()
    if magic != MAGIC:
      raise pickle.UnpicklingError("it is no file of PyTorch")
    _version, _about = _Unpickler(file).load(), _Unpickler(file).load()
    reader = _Unpickler(file)
    tree = reader.load()
    held = {}
    for key in _Unpickler(file).load():
      count = int.from_bytes(file.read(8), "little")
      size = count * reader.kinds[str(key)].itemsize
      held[str(key)] = file.read(size)
      if len(held[str(key)]) != size:
        raise EOFError("its numbers end before they should")
  return tree, lambda key, dtype: np.frombuffer(held[key], dtype)


def _visit(value, key, storages, found) -> None:
  """Tensors of dicts within dicts; what is neither is passed over."""
  if isinstance(value, Mapping):
    for name, part in value.items():
      _visit(part, f"{key}.{name}" if key else str(name), storages, found)
  elif isinstance(value, _Part):
    found[key] = _array(value, storages(*value.storage))


def _array(part: _Part, numbers: np.ndarray) -> np.ndarray:
  """A copy of the numbers that a tensor views, within their bounds."""
  sizes = [*part.shape, *part.strides, part.offset]
  whole = all(type(size) is int and size >= 0 for size in sizes)
  if not whole or len(part.shape) != len(part.strides):
    raise pickle.UnpicklingError(f"a tensor has shape {part.shape}")
  reach = part.offset + sum(
    (size - 1) * stride
    for size, stride in zip(part.shape, part.strides, strict=True)
  )
  count = int(np.prod(np.array(part.shape, object))) if part.shape else 1
  if not count:
    return np.zeros(part.shape, numbers.dtype)
  if count >= _MOST_NUMBERS or reach >= len(numbers):
    raise pickle.UnpicklingError(
      f"a tensor of shape {part.shape} reaches beyond its {len(numbers):,} "
      "numbers"
    )
  width = numbers.dtype.itemsize
  strides = [stride * width for stride in part.strides]
  view = np.lib.stride_tricks.as_strided(
    numbers[part.offset :], part.shape, strides, writeable=False
  )
  return view.copy()
