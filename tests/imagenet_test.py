import io
import itertools
import os
import pathlib
import pickle
import shutil
import subprocess
import sys

import image_cases
import numpy as np
import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from fbq.data import (
  DataError,
  image_files,
  imagenet,
  pictures,
  to_array_record,
)

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return image_cases.write(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
  target = tmp_path_factory.mktemp("records")
  # 15 and 9 images: files of unequal counts.
  to_array_record.convert(folder, target, 4)
  return target


def config_of(directory, **more):
  given = dict(name="imagenet", directory=str(directory), batch_size=4)
  return ConfigDict(given | dict(resolution=24, threads=2) | more)


def take(iterator, count):
  result = list(itertools.islice(iterator, count))
  iterator.close()
  return result


def assert_same(some, others):
  for mine, its in zip(some, others, strict=True):
    for a, b in zip(mine, its, strict=True):
      np.testing.assert_array_equal(a, b)


def test_both_forms_hold_the_same_images_in_the_same_order(folder, records):
  for split, count in (("train", 15), ("val", 9)):
    one = image_files.open_split(folder, split)
    other = image_files.open_split(records, split)
    assert len(one) == len(other) == count
    assert one.classes == other.classes == image_cases.CLASSES
    for i in range(count):
      image, label, where = one.read(i)
      assert other.read(i)[:2] == (image, label)
      assert image_cases.CLASSES[label] in where
      assert one.names[i] in other.read(i)[2]


def test_both_forms_give_the_same_batches(folder, records):
  for seed in (0, 1):
    one, other = (
      take(imagenet.batches(config_of(d), seed), 5) for d in (folder, records)
    )
    assert_same(one, other)
    assert one[0][0].shape == (4, 24, 24, 3) and one[0][0].dtype == np.float32
    assert one[0][1].shape == (4,) and one[0][1].dtype == np.int32


def test_batches_are_those_of_a_plain_loop(folder):
  """Written without grain, threads and streams."""
  names = sorted(
    path.relative_to(folder / "train")
    for path in (folder / "train").rglob("*.JPEG")
  )
  got = take(imagenet.batches(config_of(folder), 3), 8)
  for step, (images, labels) in enumerate(got):
    for i in range(4):
      place = 4 * step + i
      permutation = np.random.default_rng([3, place // 15]).permutation(15)
      name = names[permutation[place % 15]]
      assert image_cases.CLASSES[labels[i]] == str(name.parent)
      expected = pictures.random_crop(
        (folder / "train" / name).read_bytes(),
        "",
        24,
        np.random.default_rng([3, 1, place]),
      )
      assert (np.rint(images[i] * 255) == expected).all()


def test_resuming_in_a_pass_gives_the_batches_of_an_unbroken_run(records):
  """15 images, batches of 4: step 3 holds parts of two passes."""
  config = config_of(records)
  unbroken = take(imagenet.batches(config, 7), 8)
  for start in (1, 3, 4, 6):
    resumed = take(imagenet.batches(config, 7, start), 8 - start)
    assert_same(resumed, unbroken[start:])


def test_processes_share_the_batches_of_one(folder):
  config = config_of(folder)
  whole = take(imagenet.batches(config, 2), 5)
  for p in range(2):
    own = slice(2 * p, 2 * p + 2)
    part = take(imagenet.batches(config, 2, 0, p, 2), 5)
    assert_same(part, [(x[own], y[own]) for x, y in whole])
    later = take(imagenet.batches(config, 2, 3, p, 2), 2)
    assert_same(later, part[3:])


@pytest.mark.parametrize("form", ["folder", "records"])
@pytest.mark.parametrize("batch_size, processes", [(4, 1), (9, 1), (4, 2)])
def test_evaluation_sees_each_of_9_images_once(
  request, form, batch_size, processes
):
  directory = request.getfixturevalue(form)
  config = config_of(directory, batch_size=batch_size)
  parts = [
    list(imagenet.evaluation(config, p, processes)) for p in range(processes)
  ]
  assert {len(part) for part in parts} == {-(-9 // batch_size)}
  kept = [
    (image.tobytes(), int(label))
    for part in parts
    for images, labels, weights in part
    for image, label, weight in zip(images, labels, weights, strict=True)
    if weight == 1
  ]
  val = image_files.open_split(directory, "val")
  expected = []
  for i in range(9):
    image, label, where = val.read(i)
    pixels = pictures.center_crop(image, where, 24, 27)  # 24 * 256 / 224
    expected.append(((pixels / np.float32(255)).tobytes(), label))
  assert sorted(kept) == sorted(expected)
  shapes = {x.shape for part in parts for x, _, _ in part}
  assert shapes == {(batch_size // processes, 24, 24, 3)}


def test_normalization_is_by_channel(folder):
  mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
  [(plain, _)] = take(imagenet.batches(config_of(folder), 0), 1)
  config = config_of(folder, mean=mean, std=std)
  [(normalized, _)] = take(imagenet.batches(config, 0), 1)
  expected = (plain - np.array(mean)) / np.array(std)
  np.testing.assert_allclose(normalized, expected, rtol=1e-5, atol=1e-5)


def test_the_middle_is_cut_out_after_resizing():
  """A picture of four colours, one to a quarter, and a grey rim."""
  pixels = np.full((120, 200, 3), 128, np.uint8)
  pixels[20:60, 60:100] = 255, 0, 0
  pixels[20:60, 100:140] = 0, 255, 0
  pixels[60:100, 60:100] = 0, 0, 255
  pixels[60:100, 100:140] = 0, 0, 0
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  for image in (file.getvalue(), turned(pixels)):
    got = pictures.center_crop(image, "", 40, 60).astype(int)
    assert got.shape == (40, 40, 3)
    assert (got[2, 2] == (255, 0, 0)).all()
    assert (got[37, 37] == 0).all()
    corners = {tuple(got[y, x]) for y in (2, 37) for x in (2, 37)}
    assert len(corners) == 4 and (128, 128, 128) not in corners


def turned(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels.transpose(1, 0, 2)).save(file, "PNG")
  return file.getvalue()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
def test_random_parts_lie_in_the_image(width, height, seed):
  box = pictures.random_box(width, height, np.random.default_rng(seed))
  left, top, right, bottom = box
  assert 0 <= left < right <= width and 0 <= top < bottom <= height
  area = (right - left) * (bottom - top) / (width * height)
  if min(width, height) > 200 and max(width, height) < 1.3 * min(width, height):
    assert 0.078 < area <= 1.0
    assert 0.74 < (right - left) / (bottom - top) < 1.35


def test_random_parts_have_all_sizes_ratios_and_places():
  random = np.random.default_rng(0)
  boxes = np.array([pictures.random_box(400, 400, random) for _ in range(4000)])
  widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  area = widths * heights / 400**2
  # Areas are uniform but for the largest, which ratios may push out.
  counts = np.histogram(area[area < 0.7], 8, (0.08, 0.7))[0]
  assert counts.min() > 0.85 * counts.mean()
  ratio = np.log(widths / heights)
  assert abs(ratio.mean()) < 0.02 and abs(ratio).max() < np.log(4 / 3) + 0.02
  assert ratio.std() == pytest.approx(2 * np.log(4 / 3) / 12**0.5, rel=0.1)
  small = area < 0.2
  middles = (boxes[small, 0] + boxes[small, 2]) / 800
  assert abs(middles.mean() - 0.5) < 0.03 and middles.std() > 0.15


def test_half_of_the_crops_are_mirrored():
  """A picture dark on its left: mirrored crops are dark on their right."""
  pixels = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 64, 0)
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  crops = [
    pictures.random_crop(file.getvalue(), "", 8, np.random.default_rng(i))
    for i in range(400)
  ]
  mirrored = sum(int(x[4, 0, 0]) > int(x[4, 7, 0]) for x in crops)
  assert 150 < mirrored < 250


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_image_is_named_when_its_batch_comes(
  tmp_path, folder, damage
):
  shutil.copytree(folder, tmp_path / "a")
  path = sorted((tmp_path / "a" / "val").rglob("*.JPEG"))[4]
  content = path.read_bytes()
  path.write_bytes(
    dict(cut=content[: len(content) // 2], empty=b"", text=b"hello")[damage]
  )
  iterator = imagenet.evaluation(config_of(tmp_path / "a"))
  next(iterator)
  with pytest.raises(DataError, match="is damaged") as error:
    next(iterator)
  assert str(path) in str(error.value)
  assert f"{path.stat().st_size:,} bytes" in str(error.value)


def test_a_damaged_image_in_records_is_named(tmp_path, folder):
  shutil.copytree(folder, tmp_path / "a")
  path = sorted((tmp_path / "a" / "val").rglob("*.JPEG"))[0]
  path.write_bytes(path.read_bytes()[:-300])
  to_array_record.convert(tmp_path / "a", tmp_path / "b", 2)
  with pytest.raises(DataError, match=f"{path.parent.name}/{path.name}"):
    next(imagenet.evaluation(config_of(tmp_path / "b")))
  with pytest.raises(DataError, match=f"{path} is damaged.*truncated"):
    to_array_record.convert(tmp_path / "a", tmp_path / "c", 2, decode=True)


@pytest.mark.parametrize(
  "change, reason",
  [
    (lambda d: shutil.rmtree(d / "train"), "expected .*train/<class>"),
    (lambda d: shutil.rmtree(d / "val"), "expected .*val/<class>.*moved"),
    (lambda d: (d / "val" / "n9").mkdir(), r"lacks: \['n9'\]"),
  ],
)
def test_missing_folders_are_named(tmp_path, folder, change, reason):
  shutil.copytree(folder, tmp_path / "a")
  change(tmp_path / "a")
  with pytest.raises(DataError, match=reason):
    imagenet.check_settings(config_of(tmp_path / "a"))


def test_a_class_without_images_is_named(tmp_path, folder):
  shutil.copytree(folder, tmp_path / "a")
  shutil.rmtree(tmp_path / "a" / "val" / "n02102040")
  with pytest.raises(DataError, match="val/n02102040 has no images"):
    imagenet.evaluation(config_of(tmp_path / "a"))


@pytest.mark.parametrize(
  "setting, reason",
  [
    (dict(resolution=0), "data.resolution is 0"),
    (dict(resize=20), "resize is 20, expected at least the resolution, 24"),
    (dict(threads=0), "threads is 0"),
    (dict(workers=-1), "workers is -1"),
    (dict(mean=(0.0,) * 3, std=(1.0,) * 2), "three numbers each"),
  ],
)
def test_impossible_settings_are_refused(folder, setting, reason):
  with pytest.raises(ValueError, match=reason):
    imagenet.check_settings(config_of(folder, **setting))


@pytest.mark.parametrize("change", ["cut", "gone"])
def test_a_damaged_record_file_is_named(tmp_path, records, change):
  """A cut ArrayRecord file reads as an empty one; the index knows better."""
  shutil.copytree(records, tmp_path / "a")
  path = tmp_path / "a" / "val-00001-of-00004.ar"
  path.write_bytes(path.read_bytes()[:-1000])
  if change == "gone":
    path.unlink()
  with pytest.raises(DataError, match="convert again") as error:
    imagenet.check_settings(config_of(tmp_path / "a"))
  assert str(path) in str(error.value)


def test_a_damaged_index_is_named(tmp_path, records):
  shutil.copytree(records, tmp_path / "a")
  path = tmp_path / "a" / image_files.INDEX
  path.write_text(path.read_text()[:50])
  with pytest.raises(DataError, match=f"{path} is damaged"):
    imagenet.check_settings(config_of(tmp_path / "a"))
  path.write_text("[]")
  with pytest.raises(DataError, match=f"{path} is no index"):
    imagenet.check_settings(config_of(tmp_path / "a"))


def test_a_stopped_conversion_goes_on_where_it_was(
  tmp_path, folder, records, monkeypatch
):
  write, done = to_array_record._write, []

  def fails_third(path, *arguments):
    if len(done) == 2:
      path.with_name(f"{path.name}.1.writing").write_bytes(b"half")
      raise KeyboardInterrupt
    done.append(path)
    write(path, *arguments)

  monkeypatch.setattr(to_array_record, "_write", fails_third)
  with pytest.raises(KeyboardInterrupt):
    to_array_record.convert(folder, tmp_path, 3)
  assert not (tmp_path / image_files.INDEX).exists()
  before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.ar")}
  assert len(before) == 2
  monkeypatch.setattr(to_array_record, "_write", write)
  lines = []
  to_array_record.convert(folder, tmp_path, 3, report=lines.append)
  assert sum("was there" in line for line in lines) == 2
  assert not list(tmp_path.glob("*.writing"))
  assert all(p.stat().st_mtime_ns == time for p, time in before.items())
  for split, count in (("train", 15), ("val", 9)):
    one = image_files.open_split(tmp_path, split)
    other = image_files.open_split(records, split)
    assert [one.read(i)[:2] for i in range(count)] == [
      other.read(i)[:2] for i in range(count)
    ]


def test_a_failed_file_leaves_nothing_behind(tmp_path, folder):
  shutil.copytree(folder, tmp_path / "a")
  path = sorted((tmp_path / "a" / "train").rglob("*.JPEG"))[7]
  path.write_bytes(b"<html>")
  target = tmp_path / "b"
  assert (
    to_array_record.main(
      [f"--source={tmp_path / 'a'}", f"--target={target}", "--shards=3"]
    )
    == 1
  )
  names = {p.name for p in target.iterdir()}
  assert names == {"plan.txt", "train-00000-of-00003.ar"}


def test_two_data_sets_are_not_mixed(tmp_path, folder):
  to_array_record.convert(folder, tmp_path / "b", 3)
  with pytest.raises(ValueError, match="begun from other images, --shards"):
    to_array_record.convert(folder, tmp_path / "b", 2)
  (tmp_path / "b" / "plan.txt").unlink()
  with pytest.raises(ValueError, match="no conversion here began"):
    to_array_record.convert(folder, tmp_path / "b", 3)


@pytest.mark.parametrize("shards", [0, 10])
def test_impossible_shards_are_refused(tmp_path, folder, shards):
  with pytest.raises(ValueError, match=f"--shards is {shards}, expected 1 to"):
    to_array_record.convert(folder, tmp_path / "b", shards)
  assert not (tmp_path / "b").exists()


WORKERS = """
import itertools, pickle, sys
import numpy as np
from absl import app
from ml_collections import ConfigDict
from fbq.data import imagenet

def main(arguments):
  config = ConfigDict(dict(
    name="imagenet", directory=arguments[1], batch_size=4, resolution=24,
    workers=2,
  ))
  iterator = imagenet.batches(config, 1, 2)
  batches = list(itertools.islice(iterator, 3))
  iterator.close()
  assert {type(x) for batch in batches for x in batch} == {np.ndarray}
  with open(arguments[2], "wb") as file:
    pickle.dump(batches, file)

if __name__ == "__main__":
  app.run(main)
"""


def test_worker_processes_give_the_batches_of_threads(tmp_path, records):
  script, result = tmp_path / "script.py", tmp_path / "batches"
  script.write_text(WORKERS)
  done = subprocess.run(
    [sys.executable, script, records, result],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  got = pickle.loads(result.read_bytes())
  assert_same(got, take(imagenet.batches(config_of(records), 1, 2), 3))


def test_worker_processes_without_absl_are_refused(records, monkeypatch):
  monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
  with pytest.raises(ValueError, match="start by absl.app.run"):
    imagenet.batches(config_of(records, workers=2), 0)
