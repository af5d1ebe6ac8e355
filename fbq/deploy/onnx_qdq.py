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
_BATCH_BYTES = 2**25  # of images that run at a time


def build(
  network: IntegerNet, int4: bool = True, fused_bias: bool = False
) -> Any:
  """The onnx.ModelProto of a network: images [B, C, H, W] in [0, 1] to logits.

  There are two forms. Integer kernels of ONNX Runtime take biases in whole
  steps of the sums, as large as a code of the output at low precision. So the
  one form computes in float, of codes: weights are integers in the file and
  multiplied out when a session opens, biases stay as they are, and what a layer
  reads has a scale for every channel, all the same, without which ONNX Runtime
  would round weights and biases after all (its WeightBiasQuantization). The
  other is for integer kernels: biases are rounded to steps of the sums, which
  are made small, as narrow weights are multiplied by what 8 bits have room for.

  Args:
    network: network in integers.
    int4: whether 4-bit weights are stored as int4; else as int8, which more
      runtimes take. Those of integer kernels are int8.
    fused_bias: whether biases are rounded for integer kernels: faster, and not
      exact.
  """
  return _Builder(network, int4, fused_bias, quantized=True).model()


def build_float(network: IntegerNet) -> Any:
  """The same layers and weights without quantizers, to compare speed with."""
  return _Builder(network, False, fused_bias=True, quantized=False).model()


def session(model: Any, threads: int = 0, optimized: str = "") -> Any:
  """An ONNX Runtime session of a model on the CPU, as anybody would open it.

  Args:
    model: model to run, an onnx.ModelProto.
    threads: threads of one operator; 0 for as many as there are cores.
    optimized: file for the model as it is run, if it is wanted.
  """
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  options.log_severity_level = 3
  options.optimized_model_filepath = optimized
  return onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=["CPUExecutionProvider"]
  )


def run(
  session_: Any, images: np.ndarray, batch: int | None = None
) -> np.ndarray:
  """Logits [B, classes] of images [B, H, W, C] with values in [0, 1]."""
  images = np.asarray(images, np.float32).transpose(0, 3, 1, 2)
  # Tensors in between are some ten times as large as an image, or more
  batch = batch or max(1, min(360, _BATCH_BYTES // images[0].nbytes))
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
      if self.quantized:
        floats = node.has_weights and not self._fuses(node)
        inputs = [self._read(name, floats) for name in node.inputs]
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
      return self._logits(node, out) if self.quantized else out
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
    if node.is_output and self.quantized:
      inputs = [self._whole(node, inputs[0], in_step)]
      scale, bias = np.ones_like(scale), part["bias"]

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
    fused = self._fuses(node)
    if fused and self.quantized:
      inputs += self._integers(node.name, weight, scale, bias, in_step)
    else:
      inputs.append(self._weight(node.name, weight, scale))
      pixels = () if fused else (1,) * (weight.ndim - 2)
      bias = self._constant(f"{node.name}.bias", bias.reshape(-1, *pixels))
      if fused:
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
    if fused:
      return out
    return self._node("Add", [out, bias], f"{node.name}.biased")

  def _whole(self, node, x, step):
    """The codes of a tensor, as floats: sums of them are exact, so logits tie
    where the integers' do."""
    by = self._constant(f"{node.name}.in_step", step)
    x = self._node("Div", [x, by], f"{node.name}.near_codes")
    return self._node("Round", [x], f"{node.name}.in_codes")

  def _logits(self, node, sums):
    step = self._constant(f"{node.name}.step", self.network.steps[node.name])
    return self._node("Mul", [sums, step], f"{node.name}.logits")

  def _fuses(self, node):
    """Whether a bias is an input of its operator; of logits it is not.

    The integer kernel of a layer without a quantizer rounds what it reads.
    """
    return self.fused_bias and not (node.is_output and self.quantized)

  def _weight(self, name, codes, scale):
    if not self.quantized:
      shape = (-1,) + (1,) * (codes.ndim - 1)
      return self._constant(f"{name}.weight", codes * scale.reshape(shape))
    kind = self.onnx.TensorProto.INT8
    if self.int4 and self.network.bits[f"{name}.weight"] == 4:
      kind = self.onnx.TensorProto.INT4

    # No DequantizeLinear: sessions multiply this out once, and that every time
    codes = self._integer(f"{name}.weight", codes, kind)
    values = self._node(
      "Cast", [codes], f"{name}.values", to=self.onnx.TensorProto.FLOAT
    )
    shape = (-1,) + (1,) * (self.network.layers[name]["weight"].ndim - 1)
    scale = self._constant(f"{name}.weight.scale", scale.reshape(shape))
    return self._node("Mul", [values, scale], f"{name}.weight")

  def _integers(self, name, codes, scale, bias, in_step):
    """Dequantized weights and bias of an integer kernel, in small steps."""
    kinds = self.onnx.TensorProto
    codes = codes.astype(np.int64)
    finer = max(1, 127 // max(1, int(np.abs(codes).max())))

    # A channel of factor 0 is its bias alone, in some small step
    shape = (-1,) + (1,) * (codes.ndim - 1)
    codes = np.where(scale.reshape(shape) == 0, 0, codes)
    least = np.maximum(np.abs(bias), 1e-9) / in_step / 2**20
    scale = np.where(scale == 0, least, scale / finer)
    steps, limit = scale * in_step, 2**31 - 1
    bias = np.clip(np.rint(bias / steps), -limit, limit)
    weight, low = f"{name}.weight", f"{name}.bias"
    weights = self._integer(weight, codes * finer, kinds.INT8)
    biases = self._integer(low, bias, kinds.INT32)
    return [
      self._node("DequantizeLinear", [stored, by], out, axis=0)
      for stored, by, out in (
        (weights, self._constant(f"{weight}.scale", scale), weight),
        (biases, self._constant(f"{low}.scale", steps), low),
      )
    ]

  def _integer(self, name, values, kind):
    """A constant of integers."""
    name, values = f"{name}.codes", np.asarray(values, np.int64)
    self.constants.append(
      self.onnx.helper.make_tensor(
        name, kind, values.shape, values.ravel().tolist()
      )
    )
    return name

  def _requantize(self, tensor, out, in_codes=False):
    """`out` rounded to the codes of a tensor of the net.

    Codes are clipped after they are rounded where an integer kernel may round:
    it ends in the rounding.

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
    kind = np.int8 if low < 0 else np.uint8
    clips = (low, high) not in ((0, 255), (-128, 127)) and not in_codes
    if clips and not self.fused_bias:
      ends = [
        self._constant(f"{tensor}.{name}", np.float32(end * step))
        for name, end in (("low", low), ("high", high))
      ]
      out = self._node("Clip", [out, *ends], f"{tensor}.clipped")

    # Means are in codes already
    scale = self._constant(f"{tensor}.scale", np.float32(step))
    zero = self._stored(f"{tensor}.zero", kind(0))
    unit = self._constant(f"{tensor}.one", 1) if in_codes else scale
    if clips and self.fused_bias:
      out = self._node("QuantizeLinear", [out, unit, zero], f"{tensor}.whole")
      ends = [
        self._stored(f"{tensor}.{name}", kind(end))
        for name, end in (("low", low), ("high", high))
      ]
      return self._node("Clip", [out, *ends], f"{tensor}.codes")
    return self._node("QuantizeLinear", [out, unit, zero], f"{tensor}.codes")

  def _read(self, tensor, floats):
    """Codes of a tensor of the net, dequantized.

    Args:
      tensor: name of the tensor.
      floats: whether a float kernel reads it, with a scale for every channel.
    """
    out = f"{tensor}.{'floats' if floats else 'out'}"
    if any(out in node.output for node in self.nodes):
      return out
    channels = self.network.net.shapes[tensor][2]
    image_zero = self.network.net.image_zero if tensor == INPUT else ()
    inputs = [f"{tensor}.codes", f"{tensor}.scale", f"{tensor}.zero"]
    if floats or image_zero:
      step = np.float32(self.network.step(tensor))
      zeros = np.array(image_zero or [0] * channels)
      zeros = zeros.astype(self._kind_of(tensor))
      inputs[1] = self._constant(f"{tensor}.scales", np.full(channels, step))
      inputs[2] = self._stored(f"{tensor}.zeros", zeros)

    # One scale for one channel is one for all, which a sum of one keeps apart
    if floats and channels == 1:
      alone = self._node("DequantizeLinear", inputs, f"{out}.alone", axis=1)
      return self._node("Sum", [alone], out)
    return self._node("DequantizeLinear", inputs, out, axis=1)

  def _kind_of(self, tensor):
    return np.int8 if self.network.ends(tensor)[0] < 0 else np.uint8

  def _stored(self, name, values):
    """A constant of its own type."""
    if all(tensor.name != name for tensor in self.constants):
      values = np.asarray(values)
      self.constants.append(self.onnx.numpy_helper.from_array(values, name))
    return name

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
    return self._stored(name, np.asarray(values, np.float32))

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
