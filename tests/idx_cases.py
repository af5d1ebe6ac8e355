"""Small data sets in MNIST's files, written byte by byte."""

import gzip
import struct

import numpy as np

NAMES = (
  "train-images-idx3-ubyte",
  "train-labels-idx1-ubyte",
  "t10k-images-idx3-ubyte",
  "t10k-labels-idx1-ubyte",
)


def arrays(count, side, seed):
  """(images uint8 [N, side, side - 1], labels uint8 [N])."""
  random = np.random.default_rng(seed)
  shape = count, side, side - 1
  images = random.integers(0, 256, shape, dtype=np.uint8)
  return images, (np.arange(count) % 10).astype(np.uint8)


def content(array):
  """The bytes of a file."""
  header = struct.pack(">BBBB", 0, 0, 8, array.ndim)
  return header + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def write(directory, train=20, test=13, side=5, zipped=False, names=NAMES):
  """The four files."""
  directory.mkdir(parents=True, exist_ok=True)
  found = *arrays(train, side, 0), *arrays(test, side, 1)
  for name, array in zip(names, found, strict=True):
    data = content(array)
    if zipped:
      (directory / f"{name}.gz").write_bytes(gzip.compress(data))
    else:
      (directory / name).write_bytes(data)
  return directory
