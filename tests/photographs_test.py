"""Crops of photographs: repeatable, and split by photograph."""

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from fbq.data import DataError, photographs

SHAPE = (16, 16, 3)


@pytest.fixture
def folder(tmp_path):
  random = np.random.default_rng(0)
  for name in ("b.png", "a.jpg", "deep/c.png"):
    raw = io.BytesIO()
    pixels = random.integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(raw, "JPEG" if name.endswith("jpg") else "PNG")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(raw.getvalue())
  (tmp_path / ".trash").mkdir()
  (tmp_path / ".trash/d.png").write_bytes(b"no picture")
  (tmp_path / "notes.txt").write_text("none")
  return tmp_path


def test_crops_are_of_every_photograph_and_the_same_again(folder):
  found = photographs.crops(folder, SHAPE, 3, seed=1)
  assert found.x.shape == (9, *SHAPE) and found.x.dtype == np.uint8
  assert found.names[:4] == ("a.jpg#0", "a.jpg#1", "a.jpg#2", "b.png#0")
  again = photographs.crops(folder, SHAPE, 3, seed=1)
  np.testing.assert_array_equal(found.x, again.x)
  other = photographs.crops(folder, SHAPE, 3, seed=2)
  assert np.any(other.x != found.x)
  assert np.any(found.x[0] != found.x[1])

  # Whatever else lies there: crops of a picture are its own
  (folder / "a.jpg").unlink()
  fewer = photographs.crops(folder, SHAPE, 3, seed=1)
  np.testing.assert_array_equal(fewer.x, found.x[3:])


def test_no_photograph_is_on_both_sides():
  names = [f"{file}#{i}" for file in "abcde" for i in range(4)]
  sides = photographs.split(names, 0.4, seed=0)
  files = [{names[i][0] for i in side} for side in sides]
  assert len(files[0]) == 2 and files[0] | files[1] == set("abcde")
  assert not files[0] & files[1]
  assert sorted(np.concatenate(sides)) == list(range(20))
  # Inputs that are no crops are all their own; one at least on each side
  alone = photographs.split(["1.bin", "2.bin", "3.bin"], 0.01, seed=0)
  assert [len(side) for side in alone] == [1, 2]
  assert photographs.sources(names).tolist() == sorted([0, 1, 2, 3, 4] * 4)
  with pytest.raises(DataError, match="of 1 sources, expected two"):
    photographs.split(["a#0", "a#1"], 0.5, seed=0)


def test_what_is_missing_is_told(folder, tmp_path, monkeypatch):
  with pytest.raises(DataError, match="is no folder; expected one of photo"):
    photographs.files_of(tmp_path / "none")
  (folder / "b.png").unlink()
  (folder / "deep/c.png").unlink()
  with pytest.raises(DataError, match="has 1 pictures .* two or more"):
    photographs.files_of(folder)
  with pytest.raises(DataError, match="are squares of three colours"):
    photographs.crops(folder, (49, 10, 1), 1, 0)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(DataError, match=r"package skimage are needed.*fbq\["):
    photographs.files_of(photographs.PACKAGED)
