"""A network out of a file and inputs of any kind: the same function."""

import dataclasses

import jax
import numpy as np
import onnx_writer
import pytest

from fbq.data.inputs import Inputs
from fbq.lab import imported, subject
from fbq.lab.subject import FromFile
from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.nets.node import Node

NET = Net(
  "brought",
  (6, 5, 3),
  (
    Node("a", "conv", (INPUT,), 4, (3, 3), 1, 1, norm=True, activation="relu"),
    Node("pool", "avg_pool", ("a",), kernel=None),
    Node("fc", "linear", ("pool",), 3, bias=True, is_output=True),
  ),
)


DIFFERENT = np.arange(20 * 90, dtype=np.uint16).reshape(20, 6, 5, 3)
DIFFERENT = (DIFFERENT * 7 % 251).astype(np.uint8)


def written(folder, bias=True):
  """An .onnx file of NET; without a norm or a bias of its first layer."""
  net = NET
  if not bias:
    first = dataclasses.replace(NET.nodes[0], norm=False)
    net = dataclasses.replace(NET, nodes=(first, *NET.nodes[1:]))
  images = np.zeros((1, *net.input_shape), np.float32)
  variables = Model(net).init(jax.random.key(0), images, False)
  variables = {"batch_stats": {}, **variables}
  path = folder / "net.onnx"
  path.write_bytes(onnx_writer.write(net, variables).SerializeToString())
  return path


def build(path, calibration, test="", **more):
  given = dict(model=path, calibration=calibration, test=test)
  texts = {name: str(value) for name, value in given.items()}
  return subject.build(FromFile(**texts, **more))


def logits(net, variables, images):
  images = np.asarray(images, np.float32)
  return np.asarray(Model(net).apply(variables, images, False))


def test_pixels_are_split_and_normalized_before_the_file(tmp_path):
  path = written(tmp_path)
  x = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
  np.savez(tmp_path / "x.npz", images=x, labels=np.arange(40) % 3)
  pair = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
  found = build(
    path, tmp_path / "x.npz", calibration_images=16, normalization=pair
  )
  sizes = [len(found.calibration)]
  sizes += [len(found.validation.images), len(found.test.images)]
  assert sizes == [16, 12, 12] and found.has_labels

  # No input is in two parts, and labels stay with theirs
  parts = [found.validation, found.test]
  rows = {one.tobytes(): i for i, one in enumerate(x / np.float32(255))}
  seen = [rows[one.tobytes()] for one in found.calibration]
  for part in parts:
    own = [rows[one.tobytes()] for one in part.images]
    assert part.labels.tolist() == [row % 3 for row in own]
    seen += own
  assert sorted(seen) == list(range(40))

  # What the file makes of normalized images, but at the border, where 8 bits
  # hold the mean colour
  read = imported.read(path)
  expected = logits(
    read.net, read.variables, (found.test.images - pair[0]) / pair[1]
  )
  np.testing.assert_allclose(
    logits(found.net, found.variables, found.test.images), expected, atol=0.02
  )


def test_a_black_border_changes_pixels_at_the_border_alone(tmp_path):
  path = written(tmp_path)
  x = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
  np.savez(tmp_path / "x.npz", x=x)
  pair = ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
  black, file = (
    build(path, tmp_path / "x.npz", normalization=pair, border=border)
    for border in ("black", "file")
  )
  assert not black.net.image_zero and file.in_file is None
  assert black.in_file[0] == file.net and file.net.image_zero == (128, 102, 76)

  def made(subject):
    """What the first layer makes, before its ReLU."""
    _, seen = Model(subject.net).apply(
      subject.variables, x[:4] / np.float32(255), False,
      mutable=["intermediates"],
    )  # fmt: skip
    return np.asarray(seen["intermediates"]["conv1"][0])

  inside, off = (slice(None), slice(1, -1), slice(1, -1)), made(black)
  expected = made(file)
  np.testing.assert_allclose(off[inside], expected[inside], atol=0.02)
  assert np.abs(off - expected)[:, 0].max() > 0.1


@pytest.mark.parametrize("bias", [True, False])
def test_numbers_of_any_range_become_images(tmp_path, bias):
  path = written(tmp_path, bias)
  x = np.random.default_rng(0).normal(size=(20, 6, 5, 3)).astype(np.float32)
  x[:, 0, 0, :2] = -4, 5  # every part spans the same numbers
  np.save(tmp_path / "x.npy", x.clip(-4, 5))
  found = build(path, tmp_path / "x.npy")
  assert not found.has_labels and not found.net.image_zero == ()
  images = np.concatenate([found.calibration, found.test.images])
  assert images.min() >= 0 and images.max() <= 1

  # Back to numbers: they span all 8 bits, and 0 is one of the codes
  read = imported.read(path)
  zero = np.array(found.net.image_zero) / 255
  numbers = (found.calibration - zero) * 9
  np.testing.assert_allclose(
    logits(found.net, found.variables, found.calibration),
    logits(read.net, read.variables, numbers),
    atol=1e-4,
  )


def test_inputs_to_report_may_be_others(tmp_path):
  path = written(tmp_path)
  random = np.random.default_rng(0)
  x = random.integers(0, 256, (40, 6, 5, 3), np.uint8)
  np.savez(tmp_path / "a.npz", x=x[:20])
  np.savez(tmp_path / "b.npz", x=x[20:], y=np.zeros(20, int))
  found = build(
    path, tmp_path / "a.npz", tmp_path / "b.npz", calibration_images=8
  )
  assert len(found.validation.images) == 12 and len(found.test.images) == 20
  assert not found.has_labels


@pytest.mark.parametrize(
  ("arrays", "options", "message"),
  [
    (dict(x=np.zeros((5, 6, 5, 3), np.uint8)), {}, "5 inputs, expected 12"),
    (dict(x=np.ones((20, 6, 5, 3), np.uint8)), {}, "all inputs are the same"),
    (
      dict(x=DIFFERENT, y=np.full(20, 3)),
      {},
      "labels of 3 to 3, expected 0 to 2",
    ),
    (
      dict(x=np.zeros((20, 6, 5, 3), np.float32)),
      dict(normalization=((0.5,) * 3, (0.5,) * 3)),
      "inputs are numbers, which are not normalized",
    ),
  ],
)
def test_inputs_that_do_not_fit_take_one_line(
  tmp_path, arrays, options, message
):
  path = written(tmp_path)
  np.savez(tmp_path / "x.npz", **arrays)
  with pytest.raises(ValueError, match=message):
    build(path, tmp_path / "x.npz", **options)


def test_copies_in_several_parts_are_told(tmp_path):
  x = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3), np.uint8)
  np.save(tmp_path / "x.npy", np.concatenate([x, x]))
  found = build(written(tmp_path), tmp_path / "x.npy", calibration_images=8)
  assert any("that calibrate or choose" in note for note in found.notes)
  np.save(tmp_path / "y.npy", DIFFERENT)
  found = build(written(tmp_path), tmp_path / "y.npy", calibration_images=8)
  assert not any("that calibrate or choose" in note for note in found.notes)


def test_inputs_to_report_on_are_no_others_again():
  """One that also calibrates or chooses would flatter what is reported."""
  x = np.arange(20 * 4, dtype=np.uint8).reshape(20, 2, 2, 1)
  names = tuple(map(str, range(20)))
  given = Inputs(x[:16], "pixels", None, names[:16])
  parts = subject._split(
    given, Inputs(x[16:], "pixels", None, names[16:]), 8, 0
  )
  assert [len(part.x) for part in parts] == [8, 8, 4]
  with pytest.raises(ValueError, match="2 of 4 inputs of config.test are also"):
    subject._split(given, Inputs(x[14:18], "pixels", None, names[14:18]), 8, 0)
