"""Inputs of a network from folders, raw files and arrays."""

import numpy as np
import pytest

from fbq.data import DataError, inputs

SHAPE = (4, 6, 1)
INT8 = (-128, 127)


def raw_folder(root, dtype=np.int8, count=5):
  x = np.random.default_rng(0).integers(-128, 128, (count, *SHAPE))
  x = x.astype(dtype)
  lines = []
  for i, one in enumerate(x):
    one.tofile(root / f"tst_{i}.bin")
    lines.append(f"tst_{i}.bin,12,{i % 3}\n")
  (root / "y_labels.csv").write_text("".join(lines))
  return x


def test_raw_files_are_what_the_file_of_the_network_reads(tmp_path):
  x = raw_folder(tmp_path)
  found = inputs.read(tmp_path, SHAPE, codes=INT8)
  assert found.kind == "codes" and found.labels.tolist() == [0, 1, 2, 0, 1]
  np.testing.assert_array_equal(found.x, x)
  assert inputs.read(tmp_path, SHAPE, codes=INT8, raw_type="uint8").kind == (
    "pixels"
  )
  # Of a network that reads floats they are pixels
  assert inputs.read(tmp_path, SHAPE).kind == "pixels"


def test_some_are_drawn_with_their_labels(tmp_path):
  x = raw_folder(tmp_path)
  some = inputs.read(tmp_path, SHAPE, codes=INT8, most=3, seed=1)
  rows = [int(name[4]) for name in some.names]
  assert rows == sorted(set(rows)) and len(rows) == 3
  np.testing.assert_array_equal(some.x, x[rows])
  assert some.labels.tolist() == [row % 3 for row in rows]


def test_floats_and_many_inputs_of_one_file(tmp_path):
  x = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32)
  x.tofile(tmp_path / "inputs.bin")
  with pytest.raises(DataError, match="12 inputs of one byte.*or 3 of floats"):
    inputs.read(tmp_path / "inputs.bin", SHAPE)
  found = inputs.read(tmp_path / "inputs.bin", SHAPE, raw_type="float32")
  assert found.kind == "numbers"
  np.testing.assert_array_equal(found.x, x)


def test_rows_of_colours_do_not_tell_their_axes(tmp_path):
  x = np.zeros((3, 72), np.uint8)
  np.savez(tmp_path / "a.npz", x=x)
  with pytest.raises(DataError, match=r"give \[N, 4, 6, 3\] or \[N, 3, 4, 6\]"):
    inputs.read(tmp_path / "a.npz", (4, 6, 3))


def test_arrays_of_another_name_are_not_passed_over(tmp_path):
  np.savez(
    tmp_path / "a.npz", images=np.zeros((3, 4, 6, 3)), label=np.arange(3)
  )
  with pytest.raises(DataError, match="also has label, .*called"):
    inputs.read(tmp_path / "a.npz", (4, 6, 3))


@pytest.mark.parametrize("form", ["nhwc", "nchw", "flat"])
def test_arrays_in_any_order_of_axes(tmp_path, form):
  shape = (4, 6, 1 if form == "flat" else 3)
  x = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
  given = {"nhwc": x, "nchw": x.transpose(0, 3, 1, 2), "flat": x.reshape(3, -1)}
  np.savez(tmp_path / "a.npz", x=given[form], y=np.array([2, 0, 1]))
  found = inputs.read(tmp_path / "a.npz", shape)
  np.testing.assert_array_equal(found.x, x)
  assert found.kind == "pixels" and found.labels.tolist() == [2, 0, 1]
  np.save(tmp_path / "a.npy", given[form])
  assert inputs.read(tmp_path / "a.npy", shape).labels is None


def picture(path, colour, size=(20, 10)):
  from PIL import Image

  path.parent.mkdir(exist_ok=True)
  Image.new("RGB", size, colour).save(path)


def test_pictures_of_any_depth_with_labels_from_folders_if_asked(tmp_path):
  picture(tmp_path / "cats" / "a.png", (255, 0, 0))
  picture(tmp_path / "dogs" / "b.jpg", (0, 0, 0))
  (tmp_path / "dogs" / ".DS_Store").write_bytes(b"x")
  found = inputs.read(tmp_path, (4, 6, 3))
  assert found.labels is None and found.x.shape == (2, 4, 6, 3)
  assert found.x[0].reshape(-1, 3).tolist() == [[255, 0, 0]] * 24
  found = inputs.read(tmp_path, (4, 6, 1), from_folders=True)
  assert found.labels.tolist() == [0, 1] and found.x.shape == (2, 4, 6, 1)


def test_the_middle_of_a_picture_is_cut_out(tmp_path):
  from PIL import Image

  from fbq.data import pictures

  x = np.zeros((8, 16, 3), np.uint8)
  x[:, 4:12] = 200  # the middle square of a wide picture
  Image.fromarray(x).save(tmp_path / "a.png")
  encoded = (tmp_path / "a.png").read_bytes()
  whole = pictures.middle(encoded, "a", (8, 8, 3), share=1)
  np.testing.assert_array_equal(whole, x[:, 4:12])
  with pytest.raises(DataError, match="2 channels reads no pictures"):
    pictures.middle(encoded, "a", (8, 8, 2))


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda p: None, "neither pictures nor .bin"),
    (lambda p: (p / "a.bin").write_bytes(b"123"), "has 3 bytes, expected 24"),
    (lambda p: (p / "a.gif").write_bytes(b"123"), "a.gif, which would be"),
    (
      lambda p: (
        (p / "a.bin").write_bytes(bytes(24)),
        (p / "y_labels.csv").write_text("b.bin,1\n"),
      ),
      "has no class of 1 of 1 inputs, such as a.bin",
    ),
    (
      lambda p: (
        (p / "a.bin").write_bytes(bytes(24)),
        (p / "y_labels.csv").write_text("a.bin,two\n"),
      ),
      "line 1: 'a.bin,two', expected 'file,class'",
    ),
  ],
)
def test_what_is_no_folder_of_inputs_takes_one_line(tmp_path, make, message):
  make(tmp_path)
  with pytest.raises(DataError, match=message) as error:
    inputs.read(tmp_path, SHAPE, codes=INT8)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({}, "has arrays none"),
    ({"a": np.ones(3), "b": np.ones(3)}, "has arrays a, b; expected"),
    ({"x": np.ones((2, 5))}, r"has inputs \[2, 5\], expected \[N, 4, 6, 1\]"),
    ({"x": np.full((1, *SHAPE), np.nan)}, "not finite"),
    ({"x": np.full((1, *SHAPE), 300)}, "integers of 300 to 300, expected -128"),
    ({"x": np.ones((1, *SHAPE)), "y": np.ones(2, int)}, "has labels int64"),
    ({"x": np.array([{}])}, "cannot be read: Object arrays"),
  ],
)
def test_arrays_that_are_no_inputs_take_one_line(tmp_path, arrays, message):
  np.savez(tmp_path / "a.npz", **arrays)
  with pytest.raises(DataError, match=message):
    inputs.read(tmp_path / "a.npz", SHAPE, codes=INT8)


def test_a_path_that_leads_nowhere_takes_one_line(tmp_path):
  with pytest.raises(DataError, match="is not there; expected a folder"):
    inputs.read(tmp_path / "none", SHAPE)
  (tmp_path / "a.txt").write_text("x")
  with pytest.raises(DataError, match="a.txt: expected a folder"):
    inputs.read(tmp_path / "a.txt", SHAPE)


def test_folders_of_numbers_are_classes_by_these(tmp_path):
  """10 comes after 2, whatever lies in folders below them."""
  for name in ("0", "2", "10"):
    picture(tmp_path / name / "a.png", (9, 9, 9))
  (tmp_path / "2" / "more").mkdir()
  picture(tmp_path / "2" / "more" / "b.png", (9, 9, 9))
  shape = (4, 4, 3)
  found = inputs.read(tmp_path, shape, from_folders=True, classes=3)
  by_name = dict(zip(found.names, found.labels.tolist(), strict=True))
  assert {name.split("/")[0]: n for name, n in by_name.items()} == {
    "0": 0,
    "2": 1,
    "10": 2,
  }
  with pytest.raises(DataError, match="in 3 folders, expected 10: one for"):
    inputs.read(tmp_path, shape, from_folders=True, classes=10)
