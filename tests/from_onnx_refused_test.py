"""Operators of ONNX files that are not taken: what is told."""

import numpy as np
import onnx
import pytest
from onnx_cases import SHAPE, clip, conv, norm, normal, saved
from onnx_writer import Writer

from fbq.nets import from_onnx


def ends(w, x):
  return clip(w, conv(w, x, "a"), "out", -1.0, 1.0)


REFUSED = {
  r"'/out' \(LSTM\): is not taken; taken are Add, ": lambda w, x: w.node(
    "LSTM", [x], "out"),
  r"\(com.microsoft.Gelu\): is not taken": lambda w, x: w.node(
    "Gelu", [x], "out", domain="com.microsoft"),
  "has 2 groups, 4 input and 4 output": lambda w, x: conv(
    w, x, "out", inputs=2, group=2),
  "dilations .2, 2., expected 1": lambda w, x: conv(
    w, x, "out", kernel=(2, 2), dilations=[2, 2]),
  r"strides \(1, 2\), expected two equal": lambda w, x: conv(
    w, x, "out", strides=[1, 2]),
  "weights for 3 channels and reads 4": lambda w, x: conv(
    w, x, "out", inputs=3),
  "input 1 is of .4, 4, 3., expected 4 axes": lambda w, x: w.node(
    "Conv", [x, w.array("w", normal(4, 4, 3))], "out"),
  "bounds -1.0 and 1.0, expected 0": ends,
  "padding .* does not count in means": lambda w, x: w.node(
    "AveragePool", [x], "out", kernel_shape=[3, 3], pads=[1] * 4),
  r"adds tensors of \(4, 6, 5\) and \(4, 6, 4\)": lambda w, x: conv(
    w, w.node("Add", [x, conv(w, x, "a", kernel=(1, 2))], "sum"), "out"),
  "multiplies two tensors; expected a constant": lambda w, x: w.node(
    "Mul", [x, conv(w, x, "a", pads=[1] * 4)], "out"),
  "ends in '/out', which adds": lambda w, x: w.node(
    "Add", [x, conv(w, x, "a", pads=[1] * 4)], "out"),
  "maxima of an image with zeros around that can be neg": lambda w, x: w.node(
    "MaxPool", [w.node("Pad", [x, w.array("p", [0, 0, 1, 1] * 2, np.int64)],
                       "a")], "out", kernel_shape=[2, 2]),
  "only convolutions and pools take padding": lambda w, x: w.node(
    "Relu", [w.node("Pad", [x, w.array("p", [0, 0, 1, 1] * 2, np.int64)],
                    "a")], "out"),
  "pads in mode 'reflect'": lambda w, x: conv(w, w.node(
    "Pad", [x, w.array("p", [0, 0, 1, 1] * 2, np.int64)], "a",
    mode="reflect"), "out"),
  r"makes \(8, 3, 5\) of \(4, 6, 5\)": lambda w, x: conv(
    w, w.node("Reshape", [x, w.array("s", [-1, 8, 3, 5], np.int64)], "a"),
    "out", inputs=8),
  "axes are .*'H', 'W', 'C'.*expected C, H, W": lambda w, x: conv(
    w, w.node("Identity", [w.node("Transpose", [w.node("Identity", [x], "i")],
                                  "a", perm=[0, 2, 3, 1])], "b"),
    "out", inputs=5),
  "reduces axes of W .*expected the whole": lambda w, x: w.node(
    "ReduceMean", [x], "out", axes=[3]),
  "numbers of the last axis|row for each number": lambda w, x: w.node(
    "MatMul", [w.node("Flatten", [x], "a"), w.array("m", normal(7, 3))], "out"),
  "a number for each channel": lambda w, x: conv(
    w, w.node("Add", [x, w.array("c", normal(6, 5))], "a"), "out"),
  "transA 1, expected": lambda w, x: w.node(
    "Gemm", [w.node("Flatten", [x], "a"), w.array("m", normal(120, 3))], "out",
    transA=1),
  "reads a softmax, expected that at the end": lambda w, x: w.node(
    "Gemm", [w.node("Softmax", [w.node("Gemm", [w.node("Flatten", [x], "a"),
    w.array("m", normal(120, 3))], "b")], "c"), w.array("n", normal(3, 3))],
    "out"),
  "'/a' .Softmax.: is not over the classes": lambda w, x: w.node(
    "Softmax", [w.node("GlobalAveragePool", [x], "m")], "a", axis=2),
  r"the last of axes \('C', ''\)": lambda w, x: w.node("MatMul", [
    w.node("ReduceMean", [w.node("ReduceMean", [x], "m", axes=[2, 3])], "n",
           axes=[2], keepdims=0), w.array("m1", normal(1, 3))], "out"),
  r"constant of \(4, 1, 1, 1\) for a tensor": lambda w, x: conv(
    w, w.node("Add", [x, w.array("c", normal(4, 1, 1, 1))], "a"), "out"),
  "is not of the second axis in evaluation": lambda w, x: conv(w, norm(
    w, w.node("Transpose", [w.node("Identity", [conv(
      w, x, "b", kernel=(3, 2))], "i")], "a", perm=[0, 2, 3, 1]), "n"), "out"),
  "makes INT64, expected floats": lambda w, x: w.node(
    "Cast", [x], "out", to=onnx.TensorProto.INT64),
  "output 'out' does not depend on the image": lambda w, x: w.node(
    "Identity", [w.array("c", 1.0)], "out"),
  "its output is no layer's": lambda w, x: w.node("Identity", [x], "out"),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_taken_is_told(message, tmp_path):
  writer = Writer()
  model = writer.model(SHAPE, REFUSED[message](writer, "image"))
  with pytest.raises(ValueError, match=message) as caught:
    from_onnx.read(saved(model, tmp_path))
  assert "\n" not in str(caught.value)
