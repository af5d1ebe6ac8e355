"""CIFAR-10 and CIFAR-100 as their authors publish them, read and checked.

Both official forms, https://www.cs.toronto.edu/~kriz/cifar.html: the binary
one, records of label bytes and 3,072 pixels, and the Python one, pickled
dictionaries; each as the .tar.gz or as the folder that it unpacks to.
"""

import dataclasses
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fbq.data import DataError
from fbq.files import user_path

PIXELS = 3 * 32 * 32


@dataclasses.dataclass(frozen=True)
class PublishedForm:
  """One published form of a data set.

  Attributes:
    archive: name of the .tar.gz.
    folder: folder that the archive unpacks to.
    train: names of the files of the training split.
    test: names of the files of the test split.
    train_rows: images in each file of the training split.
    test_rows: images in each file of the test split.
    labels: key of the labels in a pickle, or their byte in a record, for "fine"
      labels and, in CIFAR-100, for "coarse" ones.
    label_bytes: bytes of labels in a record; 0 for pickles.
    md5: md5 of the archive and of its files, where known (the authors' page,
      and torchvision/datasets/cifar.py for the files).
  """

  archive: str
  folder: str
  train: tuple[str, ...]
  test: tuple[str, ...]
  train_rows: int
  test_rows: int
  labels: dict
  label_bytes: int = 0
  md5: dict[str, str] = dataclasses.field(default_factory=dict)


FORMS = {
  "cifar10": (
    PublishedForm(
      "cifar-10-python.tar.gz",
      "cifar-10-batches-py",
      tuple(f"data_batch_{i}" for i in range(1, 6)),
      ("test_batch",),
      10_000,
      10_000,
      {"fine": b"labels"},
      md5={
        "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
      },
    ),
    PublishedForm(
      "cifar-10-binary.tar.gz",
      "cifar-10-batches-bin",
      tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
      ("test_batch.bin",),
      10_000,
      10_000,
      {"fine": 0},
      label_bytes=1,
      md5={"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
    ),
  ),
  "cifar100": (
    PublishedForm(
      "cifar-100-python.tar.gz",
      "cifar-100-python",
      ("train",),
      ("test",),
      50_000,
      10_000,
      {"fine": b"fine_labels", "coarse": b"coarse_labels"},
      md5={
        "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
      },
    ),
    PublishedForm(
      "cifar-100-binary.tar.gz",
      "cifar-100-binary",
      ("train.bin",),
      ("test.bin",),
      50_000,
      10_000,
      {"coarse": 0, "fine": 1},
      label_bytes=2,
      md5={"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"},
    ),
  ),
}


def find(directory: str | Path, name: str) -> tuple[PublishedForm, Path]:
  """The form of data set `name` in `directory`, and its folder or archive.

  Reads nothing. Folders come before archives.

  Raises:
    DataError: none is there, or a folder lacks a file.
  """
  directory, forms = user_path(directory), FORMS[name]
  for form in forms:
    for folder in (directory / form.folder, directory):
      wanted = [folder / file for file in (*form.train, *form.test)]
      lacking = [path for path in wanted if not path.is_file()]
      if not lacking:
        return form, folder
      # "train" and "test" alone may be anybody's; a named folder is ours.
      if folder.is_dir() and folder.name == form.folder:
        raise DataError(
          f"{name}: {lacking[0]} is missing ({len(lacking)} of {len(wanted)} "
          f"files): unpack {form.archive} again"
        )
  for form in forms:
    for path in (directory / form.archive, directory):
      if path.name == form.archive and path.is_file():
        return form, path
  expected = " or ".join(f"{f.folder}/ or {f.archive}" for f in forms)
  raise DataError(
    f"{name}: nothing of it in {directory}; expected {expected} there, from "
    "https://www.cs.toronto.edu/~kriz/cifar.html"
  )


def read(
  form: PublishedForm, path: Path, labels: str = "fine"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """{"train", "test"} -> (images uint8 [N, 32, 32, 3], labels int32 [N]).

  Args:
    form: published form that was found, from `find`.
    path: folder or archive that was found, from `find`.
    labels: "fine", or "coarse" (CIFAR-100 alone).

  Raises:
    DataError: a damaged file; says what is wrong with it.
    ValueError: unknown labels.
  """
  if labels not in form.labels:
    raise ValueError(
      f"labels is {labels!r}, expected one of {sorted(form.labels)} for "
      f"{form.folder}"
    )

  # An archive is read once, in the order of its members.
  parts = {file: rows for file, rows in _expected(form)}
  found = {}
  for file, content in _contents(form, path):
    place = f"{path}" if path.is_dir() else f"{path}, in it {form.folder}"
    where = f"{place}/{file}"
    try:
      decode = _records if form.label_bytes else _pickled
      found[file] = decode(content, form.labels[labels], form, parts[file])
    except DataError as error:
      raise DataError(
        f"{where} is damaged: {error}; unpack or fetch {form.archive} again"
      ) from error

    # The form and the pixels are checked in any case; the md5 only of files of
    # published size, as those made smaller for tests have none.
    known = form.md5.get(file)
    if known and path.is_dir() and parts[file] >= 10_000:
      _check_md5(where, hashlib.md5(content).hexdigest(), known, form.archive)

  # An archive that ends early lacks its last files.
  lacking = [file for file in parts if file not in found]
  if lacking:
    raise DataError(
      f"{path} lacks {form.folder}/{lacking[0]} ({len(lacking)} of "
      f"{len(parts)} files): fetch {form.archive} again"
    )

  # In the order of the form, which may be another than that of the archive.
  def joined(files):
    images, labels = zip(*(found[file] for file in files), strict=True)
    return np.concatenate(images), np.concatenate(labels)

  return {"train": joined(form.train), "test": joined(form.test)}


def _expected(form: PublishedForm) -> Iterator[tuple[str, int]]:
  """(file, images in it) of every file."""
  for file in form.train:
    yield file, form.train_rows
  for file in form.test:
    yield file, form.test_rows


def _contents(form: PublishedForm, path: Path) -> Iterator[tuple[str, bytes]]:
  """(file, its bytes), in the order in which they are stored."""
  wanted = {*form.train, *form.test}
  if path.is_dir():
    for file in sorted(wanted):
      try:
        yield file, (path / file).read_bytes()
      except OSError as error:
        raise DataError(f"{path / file} cannot be read: {error}") from error
    return
  try:
    with tarfile.open(path, "r:gz") as archive:
      for member in archive:
        folder, _, file = member.name.removeprefix("./").partition("/")
        if folder == form.folder and file in wanted and member.isfile():
          stream = archive.extractfile(member)
          assert stream is not None  # it is a file
          yield file, stream.read()
  except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
    size = path.stat().st_size
    raise DataError(
      f"{path} is damaged ({error}; {size:,} bytes, md5 {_md5_of(path)}, "
      f"published {form.md5[form.archive]}): fetch it again"
    ) from error


def _md5_of(path: Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "md5").hexdigest()


def _check_md5(where, found, known, archive):
  if found != known:
    raise DataError(
      f"{where} is damaged: md5 {found}, published {known}; unpack or fetch "
      f"{archive} again"
    )


def _records(content, label, form, rows):
  record = form.label_bytes + PIXELS
  if len(content) != rows * record:
    raise DataError(
      f"{len(content):,} bytes, expected {rows * record:,} ({rows:,} records "
      f"of {record:,})"
    )
  table = np.frombuffer(content, np.uint8).reshape(rows, record)
  limit = _classes(form, label)
  return _images(table[:, form.label_bytes :]), _labels(table[:, label], limit)


def _pickled(content, label, form, rows):
  try:
    fields = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    data, labels = np.asarray(fields[b"data"]), np.asarray(fields[label])
  except DataError:
    raise
  except Exception as error:  # A damaged pickle can raise anything.
    raise DataError(f"{type(error).__name__}: {error}") from error
  if data.shape != (rows, PIXELS) or data.dtype != np.uint8:
    raise DataError(
      f"data {data.dtype} {data.shape}, expected uint8 {(rows, PIXELS)}"
    )
  if labels.shape != (rows,) or labels.dtype.kind not in "iu":
    raise DataError(
      f"labels {labels.dtype} {labels.shape}, expected {rows} whole numbers"
    )
  return _images(data), _labels(labels, _classes(form, label))


def _classes(form: PublishedForm, label) -> int:
  """How many classes the labels under a key or in a byte are of."""
  if len(form.labels) == 1:
    return 10
  return 20 if label == form.labels["coarse"] else 100


def _images(pixels):
  """uint8 [N, 32, 32, 3] of rows that hold red, then green, then blue."""
  return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy()


def _labels(labels, classes):
  if labels.min() < 0 or labels.max() >= classes:
    raise DataError(
      f"labels from {labels.min()} to {labels.max()}, expected 0 to "
      f"{classes - 1}"
    )
  return labels.astype(np.int32)


class _Unpickler(pickle.Unpickler):
  """Makes arrays and nothing else: a pickle could run any program."""

  def find_class(self, module, name):
    # Written by numpy 1, whose module numpy.core has moved.
    if name == "_reconstruct" and module.startswith("numpy"):
      return np.empty(0).__reduce__()[0]
    if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
      return getattr(np, name)
    raise DataError(f"the pickle asks for {module}.{name}, which is no array")
