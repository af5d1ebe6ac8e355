import dataclasses
import itertools
import pickle
import shutil

import cifar_cases
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from fbq.data import DataError, cifar, cifar_files, in_memory, order

ROWS = {"train": 4, "test": 13}


def config_of(directory, name="cifar10", **more):
  return ConfigDict(
    dict(name=name, directory=str(directory), batch_size=6, rows=ROWS) | more
  )


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
  directory = tmp_path_factory.mktemp("cifar10")
  cifar_cases.write(directory, "cifar10", "binary")
  return directory


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize(
  "name, labels",
  [("cifar10", "fine"), ("cifar100", "fine"), ("cifar100", "coarse")],
)
def test_published_forms_give_their_images_and_labels(
  tmp_path, name, labels, form, archive
):
  cifar_cases.write(tmp_path, name, form, archive=archive)
  data = cifar.load(config_of(tmp_path, name, labels=labels))
  train = (
    [f"data_batch_{i}" for i in range(1, 6)] if name == "cifar10" else ["train"]
  )
  test = ["test_batch" if name == "cifar10" else "test"]
  for files, count, images, got in (
    (train, 4, data.train_images, data.train_labels),
    (test, 13, data.test_images, data.test_labels),
  ):
    assert images.shape == (count * len(files), 32, 32, 3)
    assert got.dtype == np.int32
    for i, file in enumerate(files):
      pixels, fine, coarse = cifar_cases.pixels_and_labels(
        name, count, sum(file.encode())
      )
      own = slice(i * count, (i + 1) * count)
      assert (got[own] == (fine if labels == "fine" else coarse)).all()
      # A pixel's three numbers lie 1,024 bytes apart.
      for row, column in ((0, 0), (3, 17), (31, 31)):
        place = 32 * row + column
        expected = pixels[:, [place, 1024 + place, 2048 + place]]
        assert (images[own][:, row, column] == expected).all()


def test_a_folder_or_archive_can_be_named_itself(tmp_path):
  folder = cifar_cases.write(tmp_path / "a", "cifar10", "python")
  (tmp_path / "b").mkdir()
  archive = cifar_cases.write(tmp_path / "b", "cifar10", "python", archive=True)
  one, other = (cifar.load(config_of(path)) for path in (folder, archive))
  for mine, its in zip(one, other, strict=True):
    assert (mine == its).all()


def test_published_sizes_are_expected_unless_others_are_given(cifar10):
  config = config_of(cifar10)
  with config.unlocked():
    del config.rows
  with pytest.raises(DataError, match=r"12,292 bytes, expected 30,730,000"):
    cifar.load(config)


def damaged(tmp_path, form, change, name="cifar10", file="data_batch_3"):
  folder = cifar_cases.write(tmp_path, name, form)
  path = folder / (file + ".bin" * (form == "binary"))
  path.write_bytes(change(path.read_bytes()))
  return path


class Program:
  def __reduce__(self):
    return print, ("a pickle ran a program",)


@pytest.mark.parametrize(
  "form, change, reason",
  [
    ("binary", lambda x: x[:-1], r"12,291 bytes, expected 12,292 \(4 records"),
    ("binary", lambda x: b"\x0a" + x[1:], "labels from . to 10, expected 0 to"),
    ("binary", lambda x: b"", "0 bytes"),
    ("python", lambda x: x[:-300], "UnpicklingError|EOFError"),
    ("python", lambda x: x.replace(b"labels", b"Labels"), "KeyError"),
    ("python", lambda x: pickle.dumps(Program()), "asks for builtins.print"),
    ("python", lambda x: pickle.dumps({b"data": b"x", b"labels": []}), "data"),
  ],
)
def test_a_damaged_file_is_named_with_the_reason(
  tmp_path, capsys, form, change, reason
):
  path = damaged(tmp_path, form, change)
  with pytest.raises(DataError, match=reason) as error:
    cifar.load(config_of(tmp_path))
  assert str(path) in str(error.value) and "again" in str(error.value)
  assert not capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path):
  folder = cifar_cases.write(tmp_path, "cifar100", "binary")
  (folder / "test.bin").unlink()
  with pytest.raises(DataError, match=r"test\.bin is missing \(1 of 2"):
    cifar.check_settings(config_of(tmp_path, "cifar100"))
  shutil.rmtree(folder)
  with pytest.raises(DataError, match=r"expected .*cifar-100-binary\.tar\.gz"):
    cifar.check_settings(config_of(tmp_path, "cifar100"))


def test_a_cut_archive_is_named_with_its_md5_and_the_published_one(tmp_path):
  path = cifar_cases.write(tmp_path, "cifar10", "python", archive=True)
  path.write_bytes(path.read_bytes()[:-2000])
  with pytest.raises(DataError, match="c58f30108f718f92721af3b95e74349a") as e:
    cifar.load(config_of(tmp_path))
  assert str(path) in str(e.value) and f"{path.stat().st_size:,}" in str(e)


def test_an_archive_that_lacks_a_file_says_so(tmp_path, monkeypatch):
  whole = cifar_cases.files

  def without(*arguments):
    return {k: v for k, v in whole(*arguments).items() if "_2" not in k}

  monkeypatch.setattr(cifar_cases, "files", without)
  cifar_cases.write(tmp_path, "cifar10", "binary", archive=True)
  with pytest.raises(
    DataError, match=r"lacks cifar-10-batches-bin/data_batch_2"
  ):
    cifar.load(config_of(tmp_path))


def test_a_changed_pixel_of_a_published_file_is_found_by_its_md5(tmp_path):
  """Sizes and labels are right; only the digest tells."""
  folder = tmp_path / "cifar-100-python"
  folder.mkdir()
  form = dataclasses.replace(
    cifar_files.FORMS["cifar100"][0], train_rows=1, test_rows=10_000
  )
  for file, rows in (("train", 1), ("test", 10_000)):
    fields = {
      "data": np.zeros((rows, 3072), np.uint8),
      "fine_labels": [7] * rows,
    }
    (folder / file).write_bytes(cifar_cases.python2_pickle(fields))
  with pytest.raises(DataError, match="f0ef6b0ae62326f3e7ffdfab6717acfc"):
    cifar_files.read(form, folder)


@pytest.mark.parametrize(
  "setting, reason",
  [
    (dict(name="cifar11"), "data.name is 'cifar11'"),
    (dict(resolution=64), "resolution is 64, expected 32"),
    (dict(labels="coarse"), r"labels is 'coarse', expected one of \['fine'\]"),
    (dict(mean=(0.5, 0.5, 0.5)), "data.mean"),
    (dict(mean=(0.0, 0.0, 0.0), std=(1.0, 0.0, 1.0)), "std positive"),
  ],
)
def test_impossible_settings_are_refused_before_reading(
  cifar10, setting, reason
):
  with pytest.raises(ValueError, match=reason):
    cifar.check_settings(config_of(cifar10, **setting))


def test_resuming_in_a_pass_gives_the_batches_of_an_unbroken_run(cifar10):
  """20 images, batches of 6: steps 3 and 6 hold parts of two passes."""
  config = config_of(cifar10)
  unbroken = list(itertools.islice(cifar.batches(config, 5), 9))
  for start in (1, 3, 4, 7):
    resumed = itertools.islice(cifar.batches(config, 5, start), 9 - start)
    for (x, y), (images, labels) in zip(resumed, unbroken[start:], strict=True):
      assert (x == images).all() and (y == labels).all()


def test_every_pass_holds_every_image_once_in_another_order(cifar10):
  config = config_of(cifar10, augment=False)
  stream = [
    image.tobytes()
    for images, _ in itertools.islice(cifar.batches(config, 1), 10)
    for image in images
  ]
  data = cifar.load(config)
  expected = {
    (x / np.float32(255)).astype(np.float32).tobytes()
    for x in data.train_images
  }
  passes = [stream[i : i + 20] for i in (0, 20, 40)]
  assert all(set(part) == expected for part in passes)
  assert passes[0] != passes[1] != passes[2]


def test_processes_share_the_batches_of_one(cifar10):
  config = config_of(cifar10)
  whole = list(itertools.islice(cifar.batches(config, 2), 5))
  parts = [
    list(itertools.islice(cifar.batches(config, 2, 0, p, 3), 5))
    for p in range(3)
  ]
  rows = config.batch_size // 3
  for step, (images, labels) in enumerate(whole):
    for p in range(3):
      own = slice(p * rows, (p + 1) * rows)
      assert (parts[p][step][0] == images[own]).all()
      assert (parts[p][step][1] == labels[own]).all()


def test_seeds_and_steps_change_order_and_augmentation(cifar10):
  config, data = config_of(cifar10), cifar.load(config_of(cifar10))
  first = in_memory.train_batch(config, 0, 0, data)[0]
  assert (first == in_memory.train_batch(config, 0, 0, data)[0]).all()
  assert (first != in_memory.train_batch(config, 1, 0, data)[0]).any()
  plain = in_memory.train_batch(config_of(cifar10, augment=False), 0, 0, data)[
    0
  ]
  assert (first != plain).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), st.booleans())
def test_augmentation_moves_and_mirrors(row, column, flip):
  image = np.random.default_rng(0).integers(1, 256, (1, 32, 32, 3), np.uint8)
  [got] = in_memory.augment(image, np.array([[row, column]]), np.array([flip]))
  expected = np.zeros((32, 32, 3), np.uint8)
  for i in range(32):
    for j in range(32):
      y, x = i + row - 4, j + column - 4
      if 0 <= y < 32 and 0 <= x < 32:
        expected[i, 31 - j if flip else j] = image[0, y, x]
  assert (got == expected).all()


def test_all_corners_and_both_sides_are_drawn(cifar10):
  config = config_of(cifar10, batch_size=2000)
  data = cifar.load(config)
  ramp = np.arange(32 * 32 * 3, dtype=np.int64).reshape(1, 32, 32, 3) % 251
  data = data._replace(train_images=np.repeat(ramp.astype(np.uint8), 20, 0) + 1)
  known = {}
  for row, column, flip in itertools.product(range(9), range(9), (False, True)):
    [image] = in_memory.augment(
      data.train_images[:1], np.array([[row, column]]), np.array([flip])
    )
    known[image.tobytes()] = row, column, flip
  images, _ = in_memory.train_batch(config, 0, 0, data)
  seen = [known[np.rint(x * 255).astype(np.uint8).tobytes()] for x in images]
  counts = [np.bincount([s[i] for s in seen]) for i in range(3)]
  for count, sides in zip(counts, (9, 9, 2), strict=True):
    expected = 2000 / sides
    # Five standard deviations of a binomial.
    assert len(count) == sides
    assert (
      abs(count - expected) < 5 * (expected * (1 - 1 / sides)) ** 0.5
    ).all()


@pytest.mark.parametrize("batch_size, processes", [(6, 1), (13, 1), (6, 3)])
@pytest.mark.parametrize("normalized", [False, True])
def test_evaluation_sees_each_of_13_images_once(
  cifar10, batch_size, processes, normalized
):
  mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
  more = dict(mean=mean, std=std) if normalized else {}
  config = config_of(cifar10, batch_size=batch_size, **more)
  parts = [
    list(cifar.evaluation(config, p, processes)) for p in range(processes)
  ]
  assert {len(part) for part in parts} == {-(-13 // batch_size)}
  shapes = {x.shape for part in parts for x, _, _ in part}
  assert shapes == {(batch_size // processes, 32, 32, 3)}
  kept = sorted(
    (image.tobytes(), int(label))
    for part in parts
    for images, labels, weights in part
    for image, label, weight in zip(images, labels, weights, strict=True)
    if weight == 1
  )
  data = cifar.load(config)
  expected = data.test_images.astype(np.float32) / np.float32(255)
  if normalized:
    expected = (expected - np.float32(mean)) / np.float32(std)
  assert kept == sorted(
    (image.tobytes(), int(label))
    for image, label in zip(expected, data.test_labels, strict=True)
  )
  total = sum(w.sum() for part in parts for _, _, w in part)
  assert total == 13


@settings(max_examples=60, deadline=None)
@given(
  count=st.integers(1, 40),
  per_process=st.integers(1, 7),
  processes=st.integers(1, 4),
  seed=st.integers(0, 3),
)
def test_processes_are_disjoint_and_complete(
  count, per_process, processes, seed
):
  size, steps = per_process * processes, 9
  stream = np.concatenate(
    [
      order.samples(count, seed, order.places(s, size, p, processes))
      for s in range(steps)
      for p in range(processes)
    ]
  )
  for start in range(0, len(stream), count):
    part = stream[start : start + count]
    assert len(set(part)) == len(part)
    assert set(part) <= set(range(count))


def test_processes_that_cannot_share_are_refused(cifar10):
  with pytest.raises(ValueError, match="multiple of the 4 processes"):
    cifar.batches(config_of(cifar10), 0, 0, 1, 4)
  with pytest.raises(ValueError, match="process 2 of 2"):
    cifar.evaluation(config_of(cifar10), 2, 2)
