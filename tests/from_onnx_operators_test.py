"""Operators of ONNX files in the forms that exporters write."""

import numpy as np
import onnx
import pytest
from onnx_cases import (
  RANDOM,
  SHAPE,
  clip,
  conv,
  expected,
  norm,
  normal,
  outputs,
  quantized,
  saved,
)
from onnx_writer import FLOAT, Style, Writer

from fbq.nets import from_onnx


def shape_arithmetic(w, x):
  """The batch by Shape, Gather, Unsqueeze and Concat, as PyTorch writes it."""
  w.node("Shape", [x], "sizes")
  w.node("Gather", ["sizes", w.array("zero", 0, np.int64)], "batch")
  w.node("Unsqueeze", ["batch", w.array("first", [0], np.int64)], "batch1")
  w.node(
    "Concat", ["batch1", w.array("rest", [-1], np.int64)], "wanted", axis=0
  )
  w.node("Reshape", [x, "wanted"], "flat")
  matrix = w.array("m", normal(3, 120))
  return w.node("Gemm", ["flat", matrix], "out", transB=1)


def computed_padding(w, x):
  """Zeros that Pad adds, computed of the image's size."""
  w.node("Shape", [x], "sizes")
  w.node("Cast", ["sizes"], "sizes1", to=FLOAT)
  two = w.array("two", 2.0)
  w.node("Div", ["sizes1", two], "halves")
  w.node("Ceil", ["halves"], "up")
  w.node("Mul", ["up", two], "back")
  w.node("Sub", ["back", "sizes1"], "odd")  # [odd sizes] of N, C, H, W
  w.node("Cast", ["odd"], "odd1", to=onnx.TensorProto.INT64)
  slices = [w.array(f"s{i}", [i], np.int64) for i in (2, 4)]
  w.node("Slice", ["odd1", *slices, w.array("s0", [0], np.int64)], "odd2")
  zeros = w.array("zeros", [0, 0, 0, 0, 0, 0], np.int64)
  w.node("Concat", [zeros, "odd2"], "pads", axis=0)
  return conv(w, w.node("Pad", [x, "pads"], "padded"), "out", strides=[2, 2])


def pool_head(w, x, *moves):
  """A mean, what exporters put behind it, and a classifier."""
  out = w.node("ReduceMean", [x], "mean", axes=[3, -2], keepdims=len(moves) > 0)
  for i, (op, more) in enumerate(moves):
    constants = [w.array(f"m{i}", more, np.int64)] if more else []
    out = w.node(op, [out, *constants], f"move{i}")
  weight = w.array("fc", normal(4, 3))
  out = w.node("MatMul", [out, weight], "product")
  return w.node("Add", [w.array("offset", normal(3)), out], "out")


def grouped_by_pads(w, x):
  pads = w.array("pads", [0, 0, 1, 0, 0, 0, 0, 1], np.int64)
  x = w.node("Pad", [x, pads, w.array("zero", 0.0)], "padded")
  return conv(w, x, "out", inputs=1, group=4, pads=[0, 1, 1, 0])


def turned(w, x):
  """Channels last and a product over them, between two convolutions."""
  x = conv(w, x, "a", outputs=3)
  x = w.node("Transpose", [x], "last", perm=[0, 2, 3, 1])
  x = w.node("MatMul", [x, w.array("m", normal(3, 4))], "product")
  x = w.node("Transpose", [x], "first", perm=[0, 3, 1, 2])
  return conv(w, x, "out", kernel=(2, 2))


def flat_last(w, x):
  x = w.node("Transpose", [x], "last", perm=[0, 2, 3, 1])
  x = w.node("Flatten", [x], "flat")
  return w.node("Gemm", [x, w.array("m", normal(120, 3))], "out")


def read_twice(w, x):
  """The numbers before a ReLU are read too, so the ReLU is a layer."""
  x = conv(w, x, "a", pads=[1] * 4)
  x = w.node("Add", [w.node("Relu", [x], "b"), x], "sum")
  return conv(w, x, "out", kernel=(1, 1))


def normed_sum(w, x):
  """The order of a ResNet v2."""
  a = conv(w, x, "a", pads=[1] * 4)
  a = w.node("Add", [x, a], "sum")
  b = w.node("Relu", [norm(w, a, "n")], "r")
  x = w.node("Add", [conv(w, b, "b", kernel=(1, 1)), a], "sum2")
  return conv(w, x, "out", kernel=(1, 1))


def scaled_image(w, x):
  x = w.node("Sub", [x, w.array("mean", normal(1, 4, 1, 1))], "moved")
  x = w.node(
    "Div", [x, w.array("std", RANDOM.uniform(1, 2, (4, 1, 1)))], "scaled"
  )
  return conv(w, x, "out", pads=[1] * 4, bias=False)


def affine_behind(w, x):
  x = norm(w, conv(w, x, "a"), "n")
  x = w.node("Mul", [w.array("f", normal(4, 1, 1)), x], "scaled")
  return w.node("Sub", [w.array("o", normal(1, 4, 1, 1)), x], "out")


V = {
  "a bias is left out": lambda w, x: conv(w, x, "out", bias=False),
  "stride 2, more zeros below": lambda w, x: conv(
    w, x, "out", pads=[0, 0, 1, 1], strides=[2, 2]),
  "same, upper": lambda w, x: conv(
    w, x, "out", kernel=(4, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
  "same, lower": lambda w, x: conv(
    w, x, "out", kernel=(4, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
  "valid": lambda w, x: conv(w, x, "out", auto_pad="VALID"),
  "depthwise": lambda w, x: conv(w, x, "out", inputs=1, group=4),
  "strides of one window": lambda w, x: conv(
    w, x, "out", kernel=(6, 3), strides=[5, 2]),
  "zeros of Pad and pads": grouped_by_pads,
  "zeros that are computed": computed_padding,
  "batch norm": lambda w, x: norm(w, conv(w, x, "a"), "out"),
  "batch norm behind a depthwise one": lambda w, x: w.node(
    "Relu", [norm(w, conv(w, x, "a", inputs=1, group=4), "n")], "out"),
  "batch norm of a smaller epsilon": lambda w, x: norm(
    w, conv(w, x, "a"), "out", epsilon=1e-12),
  "batch norm behind a sum": normed_sum,
  "factors and offsets": affine_behind,
  "a normalization of the image": scaled_image,
  "ReLU": lambda w, x: w.node("Relu", [conv(w, x, "a")], "out"),
  "ReLU as Clip": lambda w, x: clip(w, conv(w, x, "a"), "out", 0.0),
  "ReLU as Clip of an empty name": lambda w, x: clip(
    w, conv(w, x, "a"), "out", 0.0, None),
  "ReLU as Max": lambda w, x: w.node(
    "Max", [conv(w, x, "a"), w.array("z", 0.0)], "out"),
  "ReLU6": lambda w, x: clip(w, conv(w, x, "a"), "out", 0.0, 6.0),
  "ReLU1.5 behind ReLU": lambda w, x: clip(
    w, w.node("Relu", [conv(w, x, "a")], "b"), "out", 0.0, 1.5),
  "ReLU behind a pool": lambda w, x: w.node(
    "Relu", [w.node("MaxPool", [x], "a", kernel_shape=[2, 2])], "out"),
  "ReLU whose input is read too": read_twice,
  "max pool of 3x3/2": lambda w, x: w.node(
    "MaxPool", [x], "out", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
  "max pool, rounded up": lambda w, x: w.node(
    "MaxPool", [x], "out", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
  "max pool, rounded up but for a window of padding": lambda w, x: w.node(
    "MaxPool", [x], "out", kernel_shape=[2, 2], strides=[3, 3], pads=[1] * 4,
    ceil_mode=1),
  "average pool": lambda w, x: w.node(
    "AveragePool", [x], "out", kernel_shape=[2, 2], strides=[2, 2]),
  "average pool in which zeros count": lambda w, x: w.node(
    "AveragePool", [x], "out", kernel_shape=[3, 3], pads=[1] * 4,
    count_include_pad=1),
  "average pool of all": lambda w, x: w.node(
    "AveragePool", [x], "out", kernel_shape=[6, 5]),
  "global max pool": lambda w, x: w.node("GlobalMaxPool", [x], "out"),
  "mean and classifier": lambda w, x: pool_head(w, x),
  "mean, Flatten": lambda w, x: pool_head(w, x, ("Flatten", None)),
  "mean, Squeeze twice": lambda w, x: pool_head(
    w, x, ("Squeeze", [3]), ("Squeeze", [-1])),
  "mean, Reshape": lambda w, x: pool_head(w, x, ("Reshape", [-1, 4])),
  "mean, Unsqueeze and Squeeze": lambda w, x: pool_head(
    w, x, ("Squeeze", [2, 3]), ("Unsqueeze", [1]), ("Reshape", [0, -1])),
  "flattened": lambda w, x: w.node(
    "Gemm", [w.node("Flatten", [x], "a"), w.array("m", normal(3, 120)),
             w.array("o", normal(1, 3))], "out", transB=1),
  "flattened with channels last": flat_last,
  "flattened by shape arithmetic": shape_arithmetic,
  "channels last in between": turned,
  "concatenation": lambda w, x: w.node(
    "Concat", [conv(w, x, "a", outputs=3), conv(w, x, "b", outputs=2)], "out",
    axis=-3),
  "aliases": lambda w, x: w.node("Identity", [w.node(
    "Dropout", [conv(w, w.node("Cast", [x], "c", to=FLOAT), "a")], "b")],
    "out"),
  "softmax": lambda w, x: w.node("Softmax", [w.node("Gemm", [w.node(
    "Flatten", [x], "a"), w.array("m", normal(120, 3))], "b")], "out", axis=-1),
  "quantized": quantized,
}  # fmt: skip


@pytest.mark.parametrize("name", V)
def test_an_operator_makes_what_the_runtime_makes(name, tmp_path):
  # 16-bit integers are newer.
  writer = Writer(Style(opset=21 if name == "quantized" else 13))
  made = V[name](writer, "image")
  path = saved(writer.model(SHAPE, made), tmp_path)
  found = from_onnx.read(path)
  x = np.random.default_rng(1).normal(size=(3, 6, 5, 4)).astype(np.float32)
  right = expected(path, found, x)
  assert outputs(found, x).shape == right.shape
  # A code of the quantized file is 2^-10, and 9 of them meet.
  error = 0.05 if name == "quantized" else 3e-6 * np.abs(right).max()
  np.testing.assert_allclose(outputs(found, x), right, rtol=0, atol=error)
