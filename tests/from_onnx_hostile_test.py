"""ONNX files that are damaged, or meant to harm; and weights beside a file."""

import numpy as np
import onnx
import pytest
from onnx_cases import SHAPE, conv, normal, saved
from onnx_writer import Writer

from fbq.nets import from_onnx


def plain():
  w = Writer()
  return w.model(SHAPE, conv(w, "image", "out"))


def changed(change):
  """Bytes of a plain file after `change` of its graph."""

  def make(folder):
    model = plain()
    change(model.graph)
    return model.SerializeToString()

  return make


def circle(graph):
  graph.node[0].input[0] = "later"
  graph.node.add(op_type="Relu", input=["out"], output=["later"])


def external(location, **more):
  def change(graph):
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in dict(location=location, **more).items():
      tensor.external_data.add(key=key, value=value)

  return changed(change)


def linked(folder):
  """Data in a link that leads out of the folder."""
  (folder / "link").symlink_to("/etc/passwd")
  return external("link")(folder)


def constant_of(*sizes):
  def make(folder):
    w = Writer()
    w.node("ConstantOfShape", [w.array("s", sizes, np.int64)], "w")
    return w.model(
      SHAPE, w.node("Conv", ["image", "w"], "o")
    ).SerializeToString()

  return make


def doubled(folder):
  """A constant that is joined with itself 40 times."""
  w = Writer()
  x = w.array("x", normal(4, 4, 3, 3))
  for i in range(40):
    x = w.node("Concat", [x, x], f"x{i}", axis=0)
  return w.model(SHAPE, w.node("Conv", ["image", x], "o")).SerializeToString()


def dims(*sizes):
  return changed(lambda graph: graph.initializer[0].dims.__setitem__(
    slice(None), sizes))  # fmt: skip


def sized(*sizes):
  def change(graph):
    for dim, size in zip(
      graph.input[0].type.tensor_type.shape.dim, sizes, strict=True
    ):
      dim.dim_value = size

  return changed(change)


HOSTILE = {
  "no ONNX file": lambda folder: plain().SerializeToString()[:-7],
  "is empty": lambda folder: b"",
  "has opset 0, expected 7": lambda folder: onnx.ModelProto(
    graph=plain().graph).SerializeToString(),
  "reads 'later', which .* goes in a circle": changed(circle),
  "reads 'out.w', which neither": changed(
    lambda graph: graph.initializer.pop(0)),
  "outside of the folder of the ONNX": external("../../../etc/passwd"),
  "'/etc/passwd', outside of the folder": external("/etc/passwd"),
  "'link', outside of the folder": linked,
  "which is missing: copy it": external("data.bin"),
  "has 99999 bytes at 0 .*expected 576": external("net.onnx", length="99999"),
  "which ends before them": external("net.onnx", offset="99999999"),
  "invalid literal|bytes at": external("net.onnx", offset="a"),
  "sizes of 0 or more and fewer than 2,147,483,648": dims(-4, -4, 3, 3),
  "fewer than 2,147,483,648 numbers": dims(2**30, 2**30, 3, 3),
  "is damaged: cannot reshape": dims(4, 4, 3, 4),
  "makes a constant of .1073741824": constant_of(2**30, 4, 3, 3),
  "makes a constant of .-1": constant_of(-1, 4, 3, 3),
  "makes a constant of": doubled,
  "images of known size": sized(1, 4, -6, 5),
  "fewer than 2,147,483,648  *numbers|input is": sized(1, 4, 2**20, 2**20),
  "has padding .*expected zeros or more": changed(
    lambda graph: graph.node[0].attribute.append(
      onnx.helper.make_attribute("pads", [-1, 0, 0, 0]))),
  "strides .0, 0., expected two positive": changed(
    lambda graph: graph.node[0].attribute.append(
      onnx.helper.make_attribute("strides", [0, 0]))),
  "not finite|expected finite numbers": changed(
    lambda graph: graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(
      np.full(4, np.nan, np.float32), "out.b"))),
  "is of data type 8, expected numbers": changed(
    lambda graph: setattr(graph.initializer[0], "data_type", 8)),
}  # fmt: skip


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_file_ends_in_one_line(message, tmp_path):
  path = tmp_path / "net.onnx"
  path.write_bytes(HOSTILE[message](tmp_path))
  with pytest.raises(ValueError, match=message) as caught:
    from_onnx.read(path)
  assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500


def test_weights_beside_the_file_are_read(tmp_path):
  model = plain()
  onnx.save_model(
    model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data",
    size_threshold=0,
  )  # fmt: skip
  inside = from_onnx.read(saved(model, tmp_path)).variables["params"]
  beside = from_onnx.read(tmp_path / "a.onnx").variables["params"]
  for name, values in inside.items():
    np.testing.assert_array_equal(values, beside[name])


def test_a_missing_file_is_told(tmp_path):
  with pytest.raises(ValueError, match="there is no such file"):
    from_onnx.read(tmp_path / "no.onnx")
