"""ONNX files that the tests make, beside ONNX Runtime."""

import deploy_cases
import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_writer import FLOAT, Style, Writer, write

from fbq import nets
from fbq.model import Model
from fbq.nets import from_onnx
from fbq.nets.imported import Imported

NEWER = Style(opset=18, mean="ReduceMean", matmul=True, constants=True, batch=2)
RANDOM = np.random.default_rng(0)
SHAPE = (4, 6, 5)  # channels, height, width


def normal(*shape):
  return RANDOM.normal(size=shape)


def saved(model, folder):
  path = folder / "net.onnx"
  path.write_bytes(model.SerializeToString())
  return path


def outputs(found: Imported, x: np.ndarray) -> np.ndarray:
  """What the network makes of [B, H, W, C], as the file lays it out."""
  x = np.asarray((x - found.mean) / found.std, np.float32)
  made = np.asarray(Model(found.net).apply(found.variables, x, False))
  made = made.reshape(len(x), *found.net.shapes[found.net.nodes[-1].name])
  made = found.output_axes.from_images(made)
  return np.asarray(jax.nn.softmax(made, 1)) if found.head else made


def expected(path, found, x) -> np.ndarray:
  """What ONNX Runtime makes of the same."""
  session = onnxruntime.InferenceSession(
    path, providers=["CPUExecutionProvider"]
  )
  x = found.input_axes.from_images(x).astype(np.float32)
  return session.run(None, {session.get_inputs()[0].name: x})[0]


# ---- whole networks


@pytest.mark.parametrize(
  ("net", "style"),
  [
    (deploy_cases.MIX, Style()),
    (deploy_cases.MIX, NEWER),
    (deploy_cases.ZOO["resnet8"], NEWER),
    (nets.mobilenet_v1(1 / 16, 16, 10), Style(constants=True)),
    (nets.ds_cnn(1 / 16), Style(opset=13, mean="ReduceMean")),
  ],
  ids=lambda value: getattr(value, "name", ""),
)
def test_an_imported_network_is_the_built_one(net, style, tmp_path):
  variables = deploy_cases.variables(net)
  path = saved(write(net, variables, style), tmp_path)
  found = from_onnx.read(path)
  assert found.net.workload.macs == net.workload.macs
  assert found.net.parameter_count == net.parameter_count
  assert found.net.input_shape == net.input_shape
  assert [node.op for node in found.net.nodes] == [n.op for n in net.nodes]
  assert list(found.labels.values())[0] == f"/{net.nodes[0].name}"
  assert not found.notes

  # The same numbers in the same order: the same logits, bit for bit.
  x = deploy_cases.images(net, 2)
  logits = np.asarray(Model(net).apply(variables, x, False))
  np.testing.assert_array_equal(outputs(found, x), logits)
  # Norms of so few pixels make much of the last bit.
  np.testing.assert_allclose(
    expected(path, found, x), logits, rtol=0, atol=1e-4 * np.abs(logits).max()
  )


# ---- operators, each in the forms that exporters write


def conv(w, x, out, outputs=4, inputs=4, kernel=(3, 3), bias=True, **more):
  weight = w.array(f"{out}.w", normal(outputs, inputs, *kernel))
  biases = [w.array(f"{out}.b", normal(outputs))] * bias
  return w.node("Conv", [x, weight, *biases], out, **more)


def norm(w, x, out, channels=4, epsilon=1e-3):
  arrays = [normal(channels) for _ in range(3)] + [
    RANDOM.uniform(0.5, 2, channels)
  ]
  names = [w.array(f"{out}.{i}", array) for i, array in enumerate(arrays)]
  return w.node("BatchNormalization", [x, *names], out, epsilon=epsilon)


def clip(w, x, out, *bounds):
  names = [
    "" if bound is None else w.array(f"{out}.{i}", bound)
    for i, bound in enumerate(bounds)
  ]
  return w.node("Clip", [x, *names], out)


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


def quantized(w, x):
  """QuantizeLinear and DequantizeLinear; zero point 0 in a ReLU's place."""
  codes = RANDOM.integers(-127, 128, (4, 4, 3, 3))
  zeros = w.array("zeros", [0] * 4, np.int8)
  weight = w.node(
    "DequantizeLinear",
    [
      w.array("codes", codes, np.int8),
      w.array("s", [0.01, 0.02, 0.03, 0.04]),
      zeros,
    ],
    "weight",
    axis=0,
  )
  scale, zero = w.array("scale", 2.0**-10), w.array("zero", 0, np.uint16)
  x = w.node("Conv", [x, weight], "a")
  x = w.node("QuantizeLinear", [x, scale, zero], "q")
  x = w.node("Identity", [x], "p")
  x = w.node("DequantizeLinear", [x, scale, zero], "d")
  return conv(w, x, "out")


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


def test_a_clip_is_kept_as_a_range_and_shared_weights_are_read(tmp_path):
  w = Writer()
  clip(w, conv(w, "image", "a"), "b", 0.0, 6.0)
  out = w.node("Conv", ["b", "a.w"], "out")
  found = from_onnx.read(saved(w.model((4, 6, 6), out), tmp_path))
  first, second = found.net.nodes
  assert (first.activation, first.clip) == ("relu", 6.0)
  assert second.activation == "none" and not second.clip
  params = found.variables["params"]
  np.testing.assert_array_equal(params["conv1_kernel"], params["conv2_kernel"])


def test_ranges_and_notes_of_a_quantized_file(tmp_path):
  """As `V["quantized"]`: codes 0 to 65535 in steps of 2^-10."""
  w = Writer(Style(opset=21))
  found = from_onnx.read(saved(w.model(SHAPE, quantized(w, "image")), tmp_path))
  assert found.ranges == {"conv1.out": (0.0, 65535 / 1024)}
  node = found.net.nodes[0]
  assert (node.activation, node.clip) == ("relu", 65535 / 1024)


def test_a_normalization_of_the_image_is_told(tmp_path):
  """(x - 3) / 2 * 4 is (x - 3) / 0.5."""
  w = Writer()
  x = w.node("Sub", ["image", w.array("c", 3.0)], "a")
  x = w.node("Mul", [w.node("Div", [x, w.array("d", 2.0)], "b"),
                     w.array("e", 4.0)], "c1")  # fmt: skip
  found = from_onnx.read(saved(w.model(SHAPE, conv(w, x, "out")), tmp_path))
  mean, std = found.normalization
  np.testing.assert_allclose(mean, [3.0] * 4)
  np.testing.assert_allclose(std, [0.5] * 4)
  assert len(found.net.nodes) == 1


# ---- what is refused


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


# ---- files that are damaged, or meant to harm


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
  "expected one image and one tensor|no ONNX file|opset": lambda folder: b"",
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
