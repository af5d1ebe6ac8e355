"""Small CIFAR archives in the published forms, written byte by byte."""

import io
import struct
import tarfile

import numpy as np

FOLDERS = {
  ("cifar10", "python"): "cifar-10-batches-py",
  ("cifar10", "binary"): "cifar-10-batches-bin",
  ("cifar100", "python"): "cifar-100-python",
  ("cifar100", "binary"): "cifar-100-binary",
}


def pixels_and_labels(name, count, seed):
  """(pixels uint8 [N, 3072] red, green, blue; fine; coarse)."""
  random = np.random.default_rng(seed)
  classes = {"cifar10": 10, "cifar100": 100}[name]
  fine = random.integers(0, classes, count)
  pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
  return pixels, fine, fine // 5


def python2_pickle(entries):
  """Protocol 2 as Python 2 and numpy 1 wrote it: byte strings, old modules.

  Entries are {name: array uint8 or list of whole numbers}.
  """
  out = [b"\x80\x02}("]  # protocol 2, empty dictionary, mark

  def string(value):
    out.append(b"T" + struct.pack("<i", len(value)) + value)

  for key, value in entries.items():
    string(key.encode())
    if isinstance(value, np.ndarray):
      out.append(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
      out.append(b"K\x00\x85U\x01b\x87R")  # ((0,), "b") -> an empty array
      shape = b"".join(b"M" + struct.pack("<H", n) for n in value.shape)
      out.append(b"(K\x01" + shape + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01")
      out.append(b"\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00")
      out.append(b"tb\x89")  # the dtype's state; not Fortran order
      string(value.tobytes())
      out.append(b"tb")
    else:
      out.append(b"](" + b"".join(b"K" + bytes([v]) for v in value) + b"e")
  return b"".join(out) + b"u."


def files(name, form, train_rows, test_rows):
  """{file name: bytes} of a small data set."""
  suffix = ".bin" if form == "binary" else ""
  counts = {f"test{'_batch' if name == 'cifar10' else ''}": test_rows}
  if name == "cifar10":
    counts |= {f"data_batch_{i}": train_rows for i in range(1, 6)}
  else:
    counts["train"] = train_rows
  result = {}
  for file, count in counts.items():
    pixels, fine, coarse = pixels_and_labels(name, count, sum(file.encode()))
    columns = [fine] if name == "cifar10" else [coarse, fine]
    if form == "binary":
      labels = np.stack(columns, 1).astype(np.uint8)
      content = np.concatenate([labels, pixels], 1).tobytes()
    elif name == "cifar10":
      content = python2_pickle({"data": pixels, "labels": list(fine)})
    else:
      content = python2_pickle(
        {
          "data": pixels,
          "fine_labels": list(fine),
          "coarse_labels": list(coarse),
        }
      )
    result[file + suffix] = content
  return result


def write(directory, name, form, train_rows=4, test_rows=13, archive=False):
  """A data set in `directory`; returns its folder or archive."""
  folder = FOLDERS[name, form]
  contents = files(name, form, train_rows, test_rows)
  if not archive:
    (directory / folder).mkdir(parents=True)
    for file, content in contents.items():
      (directory / folder / file).write_bytes(content)
    return directory / folder
  number = "10" if name == "cifar10" else "100"
  path = directory / f"cifar-{number}-{form}.tar.gz"
  with tarfile.open(path, "w:gz") as tar:
    for file, content in contents.items():
      member = tarfile.TarInfo(f"{folder}/{file}")
      member.size = len(content)
      tar.addfile(member, io.BytesIO(content))
  return path
