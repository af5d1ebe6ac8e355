"""A standard quantized ONNX: QuantizeLinear and DequantizeLinear, opset 21.

Weights of 8 bits are int8 and of 4 bits int4; ONNX Runtime has no kernels for 2
bits, which stand in int8. Batch norm is in the scales and biases of weights.
Activations of less than 8 bits stand in uint8, clipped to their range. Means
are taken of codes, whose sums are exact, and moved by less than two of them can
be apart before they are rounded: ONNX rounds halves to even, and the integer
network up.
"""

import math
from typing import Any

import numpy as np

from fbq import ops
from fbq.deploy.integer import IntegerNet
from fbq.nets.graph import INPUT

OPSET = 21
IR_VERSION = 10


def build(
  network: IntegerNet, int4: bool = True, fused_bias: bool = False
) -> Any:
  """The onnx.ModelProto of a network: images [B, C, H, W] in [0, 1] to logits.

  ONNX Runtime rounds a bias that is an input of its operator to steps of the
  sums (its WeightBiasQuantization), as large as a code of the output at low
  precision: of 1,440 digits the demo's recommended assignment then classifies
  22 otherwise than the trained network, and 4 at 8 bits. Added by a node of its
  own it stays as it is, and none. But then no integer kernels run: a
  MobileNetV1-224 at 8 bits takes 25 ms of one core and not 6 (2026-11-26,
  onnxruntime 1.31.1).

  Args:
    network: network in integers.
    int4: whether 4-bit weights are stored as int4; else as int8, which more
      runtimes take.
    fused_bias: whether biases are inputs of their operators: faster, and not
      exact.
  """
  return _Builder(network, int4, fused_bias, quantized=True).model()


def build_float(network: IntegerNet) -> Any:
  """The same layers and weights without quantizers, to compare speed with."""
  return _Builder(network, False, fused_bias=True, quantized=False).model()


def session(model: Any, threads: int = 0) -> Any:
  """An ONNX Runtime session of a model on the CPU, as anybody would open it.

  Args:
    model: model to run, an onnx.ModelProto.
    threads: threads of one operator; 0 for as many as there are cores.
  """
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  options.log_severity_level = 3
  return onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
  )


def run(session_: Any, images: np.ndarray, batch: int = 360) -> np.ndarray:
  """Logits [B, classes] of images [B, H, W, C] with values in [0, 1]."""
  images = np.asarray(images, np.float32).transpose(0, 3, 1, 2)
  return np.concatenate(
    [
      session_.run(None, {INPUT: images[i : i + batch]})[0]
      for i in range(0, len(images), batch)
    ]
  )


class _Builder:
  """Collects nodes and constants; tensors have the names of the net."""

  def __init__(self, network, int4, fused_bias, quantized):
    import onnx

    self.onnx, self.network = onnx, network
    self.int4, self.fused_bias = int4, fused_bias
    self.quantized = quantized
    self.nodes, self.constants = [], []

  def model(self):
    helper, net = self.onnx.helper, self.network.net
    float_ = self.onnx.TensorProto.FLOAT
    height, width, channels = net.input_shape
    last = net.nodes[-1].name

    # Tensors by node, in the order of the network
    names = {INPUT: self._requantize(INPUT, INPUT)}
    for node in net.nodes:
      inputs = [names[name] for name in node.inputs]
      names[node.name] = self._add(node, inputs)

    # The batch is left open; the rest is what the network was trained for
    graph = helper.make_graph(
      self.nodes,
      net.name,
      [
        helper.make_tensor_value_info(
          INPUT, float_, ["batch", channels, height, width]
        )
      ],
      [
        helper.make_tensor_value_info(
          names[last], float_, ["batch", net.shapes[last][2]]
        )
      ],
      self.constants,
    )

    # Checked with shapes: a runtime would say less of what is wrong
    model = helper.make_model(
      graph,
      opset_imports=[helper.make_opsetid("", OPSET)],
      producer_name="fbq",
      ir_version=IR_VERSION,
    )
    self.onnx.checker.check_model(model, full_check=True)
    return model

  def _add(self, node, inputs):
    """The tensor of a node, dequantized."""
    network = self.network
    if node.op == "add":
      out = self._node("Add", inputs, f"{node.name}.sum")
    elif node.op in ("avg_pool", "max_pool"):
      out = self._pool(node, inputs)
    else:
      out = self._weighted(node, inputs)
    if node.is_output:
      return out
    if network.ends(node.name)[0] == 0 and node.op not in (
      "avg_pool",
      "max_pool",
    ):
      out = self._node("Relu", [out], f"{node.name}.relu")
    if node.clip and not self.quantized:  # else it is that of the codes
      high = self._constant(f"{node.name}.clip", node.clip)
      out = self._node("Min", [out, high], f"{node.name}.clipped")
    return self._requantize(node.name, out, in_codes=node.op == "avg_pool")

  def _weighted(self, node, inputs):
    """Convolution or product; weights and biases are dequantized."""
    network, part = self.network, self.network.layers[node.name]
    in_step = float(network.step(node.inputs[0]))
    scale, bias = network.affine[node.name]
    if not node.is_output:  # in codes
      scale, bias = (x * network.step(node.name) for x in (scale, bias))
    scale = scale / in_step  # of a weight's code, batch norm included

    # ONNX has channels first; a product reads a whole image as one row
    weight = part["weight"]
    if node.op == "linear":
      height, width, channels = network.net.shapes[node.inputs[0]]
      if self._rank(node.inputs[0]) == 4:
        inputs = [self._node("Flatten", inputs, f"{node.name}.flat", axis=1)]
      weight = weight.reshape(height, width, channels, -1)
    weight = weight.transpose(3, 2, 0, 1)
    if node.op == "linear":
      weight = weight.reshape(len(weight), -1)

    # An operator takes one bias for each channel, a sum needs its pixels too
    inputs = [*inputs, self._weight(node.name, weight, scale)]
    pixels = () if self.fused_bias else (1,) * (weight.ndim - 2)
    bias = self._constant(f"{node.name}.bias", bias.reshape(-1, *pixels))
    if self.fused_bias:
      inputs.append(bias)
    name = f"{node.name}.acc"
    if node.op == "linear":
      out = self._node("Gemm", inputs, name, transB=1)
    else:
      (top, bottom), (left, right) = ops.edges(node.padding)
      out = self._node(
        "Conv",
        inputs,
        name,
        kernel_shape=list(weight.shape[2:]),
        strides=[node.stride] * 2,
        pads=[top, left, bottom, right],
        group=len(weight) if node.op == "depthwise" else 1,
      )
    if self.fused_bias:
      return out
    return self._node("Add", [out, bias], f"{node.name}.biased")

  def _weight(self, name, codes, scale):
    if not self.quantized:
      shape = (-1,) + (1,) * (codes.ndim - 1)
      return self._constant(f"{name}.weight", codes * scale.reshape(shape))
    kind = self.onnx.TensorProto.INT8
    if self.int4 and self.network.bits[f"{name}.weight"] == 4:
      kind = self.onnx.TensorProto.INT4
    return self._dequantized(f"{name}.weight", codes, scale, kind)

  def _dequantized(self, name, codes, scale, kind):
    """A constant of integers with one scale for each of its first axis."""
    values = np.asarray(codes, np.int64).ravel().tolist()
    self.constants.append(
      self.onnx.helper.make_tensor(f"{name}.codes", kind, codes.shape, values)
    )
    scale = self._constant(f"{name}.scale", scale)
    return self._node(
      "DequantizeLinear", [f"{name}.codes", scale], name, axis=0
    )

  def _requantize(self, tensor, out, in_codes=False):
    """`out` rounded to the codes of a tensor of the net, and back.

    Args:
      tensor: name of the tensor.
      out: name of what is rounded.
      in_codes: whether `out` is in codes, of its range, and not in their step.
    """
    if not self.quantized and tensor == INPUT and self.network.net.image_zero:
      zero = np.array(self.network.net.image_zero).reshape(-1, 1, 1) / 255
      zero = self._constant(f"{tensor}.image_zero", zero)
      return self._node("Sub", [out, zero], f"{tensor}.out")
    if not self.quantized:
      return out
    low, high = self.network.ends(tensor)
    step = float(np.float32(self.network.step(tensor)))
    if (low, high) not in ((0, 255), (-128, 127)) and not in_codes:
      ends = [
        self._constant(f"{tensor}.{name}", np.float32(end * step))
        for name, end in (("low", low), ("high", high))
      ]
      out = self._node("Clip", [out, *ends], f"{tensor}.clipped")
    scale = self._constant(f"{tensor}.scale", np.float32(step))
    zero = np.array(0, np.int8 if low < 0 else np.uint8)
    self.constants.append(
      self.onnx.numpy_helper.from_array(zero, f"{tensor}.zero")
    )
    unit = self._constant(f"{tensor}.one", 1) if in_codes else scale
    zero = f"{tensor}.zero"
    codes = self._node("QuantizeLinear", [out, unit, zero], f"{tensor}.codes")
    if tensor == INPUT and (codes_of_zero := self.network.net.image_zero):
      zero = f"{tensor}.image_zero"
      values = np.array(codes_of_zero, np.uint8)
      self.constants.append(self.onnx.numpy_helper.from_array(values, zero))
      scale = self._constant(f"{tensor}.scales", np.full(len(values), step))
    return self._node(
      "DequantizeLinear", [codes, scale, zero], f"{tensor}.out", axis=1
    )

  def _pool(self, node, inputs):
    """The maximum; or the mean, in codes and above ties where quantized."""
    source, name = node.inputs[0], node.name
    height, width, _ = self.network.net.shapes[source]
    (top, bottom), (left, right) = ops.edges(node.padding)
    attributes: dict[str, Any] = dict(
      kernel_shape=list(node.kernel or (height, width)),
      strides=[node.stride] * 2,
      pads=[top, left, bottom, right],
    )
    if node.op == "max_pool":
      return self._node("MaxPool", inputs, f"{name}.max", **attributes)
    attributes["count_include_pad"] = 1
    if not self.quantized:
      return self._node("AveragePool", inputs, f"{name}.mean", **attributes)

    # Sums of codes are exact in float32. Means of n are multiples of 1 / n, so
    # 1 / (4 n) more turns every tie upwards and nothing else, and their noise
    # of 2^-15 is below it up to 8,192 pixels.
    unit = self._constant(f"{name}.unit", 1)
    codes = [f"{source}.codes", unit, f"{source}.zero"]
    codes = self._node("DequantizeLinear", codes, f"{name}.in")
    mean = self._node("AveragePool", [codes], f"{name}.mean", **attributes)
    count = math.prod(attributes["kernel_shape"])
    above = self._constant(f"{name}.above", 1 / (4 * count))
    return self._node("Add", [mean, above], f"{name}.raised")

  def _rank(self, tensor):
    net = self.network.net
    return 2 if tensor in net.node and net.node[tensor].op == "linear" else 4

  def _constant(self, name, values):
    values = np.asarray(values, np.float32)
    self.constants.append(self.onnx.numpy_helper.from_array(values, name))
    return name

  def _node(self, op, inputs, out, **attributes):
    self.nodes.append(
      self.onnx.helper.make_node(op, inputs, [out], name=out, **attributes)
    )
    return out


def weight_bytes(model: Any) -> int:
  """Bytes of the constants of a model, int4 packed two to a byte."""
  return sum(
    len(tensor.raw_data)
    or math.ceil(math.prod(tensor.dims) * _BITS.get(tensor.data_type, 32) / 8)
    for tensor in model.graph.initializer
  )


_BITS = {3: 8, 6: 32, 22: 4}  # of TensorProto's INT8, INT32, INT4
