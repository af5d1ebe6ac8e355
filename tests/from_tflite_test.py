"""TFLite files that the tests make, beside LiteRT; and MLPerf Tiny's."""

import pathlib

import jax
import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")  # fbq[tflite]
import tflite_writer
from tflite_writer import Writer

from fbq.model import Model
from fbq.nets import from_tflite

TINY = pathlib.Path(__file__).parents[2] / "shared" / "data" / "mlperf_tiny"
SAME, VALID, RELU, RELU6, TANH = 0, 1, 1, 3, 4
SHAPE = (6, 5, 4)
RANDOM = np.random.default_rng(0)


def normal(*shape):
  return RANDOM.normal(size=shape)


def conv(w, x, shape, kernel=(3, 3), stride=1, padding=SAME, inputs=4, **more):
  weights = w.array(normal(shape[-1], *kernel, inputs))
  return w.node(
    "CONV_2D", [x, weights, w.array(normal(shape[-1]))], (1, *shape),
    "Conv2DOptions", strideH=stride, strideW=stride, padding=padding, **more,
  )  # fmt: skip


def depthwise(w, x, shape, stride=1, padding=SAME, kernel=(3, 3)):
  weights = w.array(normal(1, *kernel, shape[-1]))
  return w.node(
    "DEPTHWISE_CONV_2D", [x, weights, w.array(normal(shape[-1]))],
    (1, *shape), "DepthwiseConv2DOptions", strideH=stride, strideW=stride,
    padding=padding, depthMultiplier=1, fused=RELU,
  )  # fmt: skip


def linear(w, x, inputs, outputs=3, bias=True):
  biases = w.array(normal(outputs)) if bias else -1
  return w.node(
    "FULLY_CONNECTED", [x, w.array(normal(outputs, inputs)), biases],
    (1, outputs), "FullyConnectedOptions",
  )  # fmt: skip


def pool(w, x, op, shape, kernel, stride, padding=VALID):
  return w.node(
    op, [x], (1, *shape), "Pool2DOptions", filterHeight=kernel[0],
    filterWidth=kernel[1], strideH=stride[0], strideW=stride[1],
    padding=padding,
  )  # fmt: skip


def padded(w, x):
  """Zeros in front of a VALID convolution of stride 2, as Keras has them."""
  pads = w.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)
  x = w.node("PAD", [x, pads], (1, 9, 6, 4))
  return conv(w, x, (4, 2, 3), stride=2, padding=VALID)


def mean(w, x, keep, axes):
  shape = (1, 1, 1, 4) if keep else (1, 4)
  x = w.node(
    "MEAN", [x, w.array(axes, np.int32)], shape, "ReducerOptions", keepDims=keep
  )
  return linear(w, x, 4, bias=False)


def halves(w, x):
  """Weights in float16, which DEQUANTIZE makes floats of."""
  weights = w.array(normal(3, 3, 3, 4), np.float16)
  weights = w.node("DEQUANTIZE", [weights], (3, 3, 3, 4))
  return w.node(
    "CONV_2D", [x, weights, w.array(normal(3))], (1, 6, 5, 3), "Conv2DOptions",
    strideH=1, strideW=1,
  )  # fmt: skip


def rescaled_image(w, x):
  """Keras' Rescaling."""
  x = w.node("MUL", [x, w.array(0.25)], (1, *SHAPE), "MulOptions")
  x = w.node("ADD", [x, w.array(normal(4))], (1, *SHAPE), "AddOptions")
  return conv(w, x, (6, 5, 2))


def two_branches(w, x):
  a, b = conv(w, x, (6, 5, 2), fused=RELU), depthwise(w, x, SHAPE)
  return w.node(
    "CONCATENATION", [a, b], (1, 6, 5, 6), "ConcatenationOptions", axis=-1
  )


def shortcut(w, x):
  a = conv(w, x, SHAPE)
  x = w.node("ADD", [a, x], (1, *SHAPE), "AddOptions", fused=RELU)
  x = w.node("RESHAPE", [x, w.array([-1, 120], np.int32)], (1, 120))
  x = w.node("SOFTMAX", [linear(w, x, 120)], (1, 3), "SoftmaxOptions", beta=1.0)
  return x


V = {
  "same": lambda w, x: conv(w, x, (6, 5, 3)),
  "same, stride 2, even and odd": lambda w, x: conv(
    w, x, (3, 3, 3), stride=2, kernel=(4, 3)),
  "valid": lambda w, x: conv(w, x, (2, 2, 3), stride=2, padding=VALID),
  "ReLU": lambda w, x: conv(w, x, (6, 5, 3), fused=RELU),
  "ReLU6": lambda w, x: conv(w, x, (6, 5, 3), fused=RELU6),
  "RELU6 behind": lambda w, x: w.node(
    "RELU6", [conv(w, x, (6, 5, 3))], (1, 6, 5, 3)),
  "depthwise": lambda w, x: depthwise(w, x, (3, 3, 4), stride=2),
  "pad": padded,
  "flattens by itself": lambda w, x: linear(w, x, 120),
  "mean": lambda w, x: mean(w, x, True, [1, 2]),
  "mean without the axes": lambda w, x: mean(w, x, False, [2, -3]),
  "average of all": lambda w, x: pool(
    w, x, "AVERAGE_POOL_2D", (1, 1, 4), (6, 5), (6, 5)),
  "average": lambda w, x: pool(
    w, x, "AVERAGE_POOL_2D", (3, 2, 4), (2, 2), (2, 2)),
  "maximum": lambda w, x: pool(
    w, x, "MAX_POOL_2D", (3, 3, 4), (3, 3), (2, 2), SAME),
  "halves": halves,
  "rescaled": rescaled_image,
  "branches": two_branches,
  "shortcut and softmax": shortcut,
}  # fmt: skip


def outputs(found, x):
  x = np.asarray((x - found.mean) / found.std, np.float32)
  made = np.asarray(Model(found.net).apply(found.variables, x, False))
  made = made.reshape(len(x), *found.net.shapes[found.net.nodes[-1].name])
  made = found.output_axes.from_images(made)
  return np.asarray(jax.nn.softmax(made)) if found.head else made


@pytest.mark.parametrize("name", V)
def test_an_operator_makes_what_the_runtime_makes(name, tmp_path):
  w = Writer(SHAPE)
  path = tmp_path / "net.tflite"
  path.write_bytes(w.bytes(V[name](w, w.image)))
  found = from_tflite.read(path)
  x = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
  right = tflite_writer.run(path, x)
  np.testing.assert_allclose(
    outputs(found, x), right, rtol=0, atol=3e-6 * np.abs(right).max()
  )
  assert ";" not in "".join(found.labels.values())


def quantized(folder):
  """An int8 convolution with a scale for each channel; hand-made numbers."""
  w = Writer((1, 1, 2), np.int8, scale=[0.5], zero=[3])
  weights = w.array(
    [[[[2, -4]]], [[[1, 3]]]], np.int8, scale=[0.25, 2.0], zero=[0, 0]
  )
  bias = w.array([8, -1], np.int32, scale=[0.125, 1.0])
  out = w.node(
    "CONV_2D", [w.image, weights, bias], (1, 1, 1, 2), "Conv2DOptions", np.int8,
    fused=RELU, grid=dict(scale=[0.1], zero=[-128]), strideH=1, strideW=1,
  )  # fmt: skip
  path = folder / "net.tflite"
  path.write_bytes(w.bytes(out))
  return path


def test_quantized_numbers_are_those_they_stand_for(tmp_path):
  found = from_tflite.read(quantized(tmp_path))
  params = found.variables["params"]
  np.testing.assert_array_equal(
    params["conv1_kernel"][0, 0].T, [[0.5, -1.0], [2.0, 6.0]]
  )
  np.testing.assert_array_equal(params["conv1_bias"], [1.0, -1.0])
  np.testing.assert_allclose(found.mean, [3, 3])
  np.testing.assert_allclose(found.std, [2, 2])
  assert found.codes == (-128, 127)
  assert found.ranges == {"input.out": (-65.5, 62.0)}
  assert found.for_images().ranges == {}
  assert found.net.nodes[0].activation == "relu"

  # Black is code -128: (-128 - 3) / 2 of the network's numbers.
  mean, std = found.normalization
  np.testing.assert_allclose((0 - mean) / std, [-65.5] * 2)
  np.testing.assert_allclose((1 - mean) / std, [62.0] * 2)


def tanh(w, x):
  return conv(w, x, (6, 5, 3), fused=TANH)


REFUSED = {
  r"'CONV_2D0' \(CONV_2D\): ends in activation function 4": tanh,
  r"\(LOGISTIC\): is not taken; taken are ADD,": lambda w, x: w.node(
    "LOGISTIC", [x], (1, *SHAPE)),
  "padding .* does not count in means": lambda w, x: pool(
    w, x, "AVERAGE_POOL_2D", (3, 3, 4), (3, 3), (2, 2), SAME),
  "dilations .2, 1., expected 1": lambda w, x: conv(
    w, x, (6, 5, 3), dilationHFactor=2),
  "reads 'later', which neither": lambda w, x: w.node(
    "RELU", [w.tensor("later", (1, *SHAPE))], (1, *SHAPE)),
  "reads tensor 77 of": lambda w, x: w.node("RELU", [77], (1, *SHAPE)),
  "has 8 bytes for .3, 3, 3, 4.": lambda w, x: w.node(
    "CONV_2D", [x, w.tensor("w", (3, 3, 3, 4), data=np.zeros(2, np.float32)),
                -1], (1, 6, 5, 3), "Conv2DOptions", strideH=1, strideW=1),
  "sizes of 0 or more and fewer than": lambda w, x: w.node(
    "RELU", [w.tensor("w", (2**20, 2**20), data=np.zeros(2, np.float32))],
    (1, 6)),
  "options of type 0, expected": lambda w, x: w.node(
    "CONV_2D", [x, w.array(normal(3, 3, 3, 4)), -1], (1, 6, 5, 3)),
  "positive ones": lambda w, x: conv(w, x, (6, 5, 3), stride=0),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_taken_is_told(message, tmp_path):
  w = Writer(SHAPE)
  path = tmp_path / "net.tflite"
  path.write_bytes(w.bytes(REFUSED[message](w, w.image)))
  with pytest.raises(ValueError, match=message) as caught:
    from_tflite.read(path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  ("data", "message"),
  [(b"", "is empty"), (b"no", "is no TFLite file"),
   (b"\0\0\0\0TFL3", "subgraphs|is damaged"),
   (b"\xff\xff\xff\x7fTFL3" + b"\xff" * 50, "is damaged")],
)  # fmt: skip
def test_a_damaged_file_ends_in_one_line(data, message, tmp_path):
  path = tmp_path / "net.tflite"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message) as caught:
    from_tflite.read(path)
  assert "\n" not in str(caught.value)


# MACs, weights and biases of docs/facts/mlperf_tiny.md, 2.
FACTS = {
  "kws_ref_model": (2_656_768, 22_016, 588, (49, 10, 1)),
  "pretrainedResnet_quant": (12_501_632, 77_360, 346, (32, 32, 3)),
  "vww_96_int8": (7_489_664, 208_112, 2_738, (96, 96, 3)),
}


@pytest.mark.skipif(
  not TINY.is_dir(), reason="MLPerf Tiny's files are not here"
)
@pytest.mark.parametrize("name", FACTS)
def test_mlperf_tiny_is_as_published(name):
  found = from_tflite.read(TINY / f"{name}.tflite")
  macs, weights, biases, shape = FACTS[name]
  workload = found.net.workload
  assert (workload.macs, workload.weight_count) == (macs, weights)
  assert found.net.parameter_count == weights + biases
  assert found.net.input_shape == shape and found.head == "softmax"
  assert found.ranges.keys() == {s for s in found.net.is_signed}
