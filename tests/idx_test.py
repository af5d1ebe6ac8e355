"""MNIST's files: what is read, and what is refused."""

import gzip
import types

import idx_cases
import lab_cases
import numpy as np
import pytest
from ml_collections import ConfigDict

from fbq.config import ConfigError
from fbq.data import DataError, idx
from tests.configs import tiny


def config_of(directory, **more):
  values = dict(directory=str(directory), batch_size=4, resolution=8)
  return types.SimpleNamespace(**values | more)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_files_are_read_as_they_were_written(tmp_path, zipped, dot):
  names = [n.replace("s-idx", "s.idx") if dot else n for n in idx_cases.NAMES]
  idx_cases.write(tmp_path, zipped=zipped, names=names)
  config = config_of(tmp_path)
  found = idx.load(config)
  assert idx.counts(config) == (20, 0, 13)
  for name, count, seed in (("train", 20, 0), ("test", 13, 1)):
    images, labels = idx_cases.arrays(count, 5, seed)
    got = getattr(found, f"{name}_images")
    assert got.dtype == np.uint8 and got.shape == (count, 8, 8, 1)
    # 5 x 4 pixels in the middle of 8 x 8, black around
    assert (got[:, 1:6, 2:6, 0] == images).all()
    got = got.copy()
    got[:, 1:6, 2:6] = 0
    assert not got.any()
    assert (getattr(found, f"{name}_labels") == labels).all()


def test_some_are_held_out_and_the_rest_is_cropped(tmp_path):
  config = config_of(idx_cases.write(tmp_path), validation_share=0.5)
  found = idx.load(config)
  assert idx.counts(config) == (10, 10, 13)
  assert np.bincount(found.validation_labels).tolist() == [1] * 10
  # Crops without a mirror: each is one of 81 shifts of its image
  config.flip = False
  images, labels = next(iter(idx.batches(config, 0)))
  shifts = {}
  for image, label in zip(found.train_images, found.train_labels, strict=True):
    padded = np.pad(image[..., 0], 4)
    for row in range(9):
      for column in range(9):
        crop = padded[row : row + 8, column : column + 8]
        shifts[crop.tobytes()] = label
  for image, label in zip(images, labels, strict=True):
    shown = np.rint(255 * image[..., 0]).astype(np.uint8)
    assert shifts[shown.tobytes()] == label


def cut(path, keep):
  path.write_bytes(path.read_bytes()[:keep])


def wrong_magic(folder):
  path = folder / idx_cases.NAMES[0]
  path.write_bytes(b"\0\0\x0d\3" + path.read_bytes()[4:])  # of float32


def fewer_labels(folder):
  _, labels = idx_cases.arrays(19, 5, 0)
  (folder / idx_cases.NAMES[1]).write_bytes(idx_cases.content(labels))


def other_size(folder):
  images, _ = idx_cases.arrays(13, 6, 0)
  (folder / idx_cases.NAMES[2]).write_bytes(idx_cases.content(images))


def not_gzip(folder):
  path = folder / idx_cases.NAMES[3]
  path.rename(folder / f"{path.name}.gz")


def cut_gzip(folder):
  path = folder / idx_cases.NAMES[0]
  data = gzip.compress(path.read_bytes())
  path.unlink()
  (folder / f"{path.name}.gz").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda f: (f / idx_cases.NAMES[2]).unlink(),
     "has no t10k-images-idx3-ubyte or .*gz, .*Fashion-MNIST: https"),
    (wrong_magic, "begins with 0x00000d03, expected 0x00000803, the magic"),
    (fewer_labels, "has 20 images and .* 19 labels, expected as many"),
    (other_size, r"images of \[\(5, 4\), \(6, 5\)\] pixels, expected one size"),
    (lambda f: cut(f / idx_cases.NAMES[1], 6), "ends within its header"),
    (lambda f: cut(f / idx_cases.NAMES[0], 100),
     "has 84 bytes after its header, expected 400: it was cut"),
    (not_gzip, "cannot be read: Not a gzipped file"),
    (cut_gzip, "cannot be read: Compressed file ended before"),
  ],
)  # fmt: skip
def test_what_is_damaged_is_named(tmp_path, damage, message):
  damage(idx_cases.write(tmp_path))
  with pytest.raises(DataError, match=message):
    idx.load(config_of(tmp_path))


def test_settings_that_cannot_be_are_named(tmp_path):
  idx_cases.write(tmp_path)
  with pytest.raises(DataError, match="has label 9, expected 0 to 6: give dat"):
    idx.load(config_of(tmp_path, classes=7))
  with pytest.raises(ValueError, match=r"of \(5, 4\) pixels, expected at mo"):
    idx.load(config_of(tmp_path, resolution=4))
  config = tiny.get_config()
  config.data = ConfigDict(dict(name="idx", directory=str(tmp_path)))
  config.net.arguments.colours = 3
  with pytest.raises(ConfigError, match="8x8x3, expected square ones of one"):
    lab_cases.checked(config)


def test_it_is_a_task_of_an_experiment(tmp_path):
  config = tiny.get_config()
  directory = str(idx_cases.write(tmp_path, train=30))
  config.data = ConfigDict(dict(name="idx", directory=directory))
  task = lab_cases.checked(config)[1].task
  counts = task.train_count, task.validation.count, task.test.count
  assert counts == (25, 5, 13)
  assert task.input_shape == (8, 8, 1) and task.classes == 10
