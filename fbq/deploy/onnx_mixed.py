"""ONNX of float and 8-bit layers side by side, as ONNX Runtime runs both fast.

A precision of 8 bits is integers, one of 32 is float. How a tensor lies in
memory is the precision of its site; in what a layer computes is that of its
weights, or of a layer without weights the widest of what it reads. Where they
differ, the layer converts: a reader what it reads, a writer what it writes. So
an assignment says every conversion, and all of them stand in the file.

An integer layer is written with the zero points, biases and ranges with which
ONNX Runtime 1.31 fuses it into one kernel. What a float layer reads in codes
has a scale for every channel, all the same: a float convolution between two
tensors of one scale ONNX Runtime takes for one that somebody forgot to
quantize, rounds its weights, and runs it in integers (its
WeightBiasQuantization).

Weights of 4 bits are dequantized as they are read; those of a linear layer are
in blocks of 32 inputs, which ONNX Runtime multiplies packed (MatMulNBits). That
kernel, which it takes for linear layers of 8 bits too, rounds what it reads to
8 bits, block by block.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fbq import ops, precision
from fbq.deploy import onnx_qdq
from fbq.deploy.onnx_qdq import IR_VERSION, OPSET
from fbq.nets.graph import INPUT, INPUT_SITE, Net, Node
from fbq.ptq import folding
from hwsim.latency_table import Ladder

LADDER = Ladder(activations=(8, 32), weights=(4, 8, 32))
FLOAT = 32
BLOCK = 32  # inputs of a linear layer that share a scale at 4 bits
OPS = ("conv", "depthwise", "linear", "add", "avg_pool", "max_pool")


class FloatNet(NamedTuple):
  """A float network, and how far its tensors reach.

  Attributes:
    net: network without batch norms.
    params: "NAME_kernel" [h, w, I, O] or [I, O], and "NAME_bias" [O].
    ranges: per tensor that a node makes, its largest magnitude.
  """

  net: Net
  params: Mapping[str, np.ndarray]
  ranges: Mapping[str, float]


def check_supported(net: Net) -> None:
  """Raises ValueError, naming the layer, unless `net` can be written."""
  for node in net.nodes:
    where = f"net {net.name!r}: layer {node.name!r} ({node.op})"
    if node.op not in OPS:
      raise ValueError(
        f"{where} cannot be measured; what can is {', '.join(OPS)}"
      )
    if node.activation not in ("relu", "none"):
      raise ValueError(
        f"{where} has activation {node.activation!r}; use 'relu' or 'none'"
      )
    if node.norm and not node.has_weights:
      raise ValueError(
        f"{where} has a batch norm; put it behind a layer with weights"
      )
  if len(set(net.image_zero)) > 1:
    raise ValueError(
      f"net {net.name!r} pads images with the colour {net.image_zero}, and "
      "integer kernels with one number for all colours; build it without mean "
      "and std: they do not change how long it takes"
    )


def folded(
  net: Net, variables: Mapping[str, Any], images: np.ndarray
) -> FloatNet:
  """A float network with its batch norms folded, and ranges seen on images.

  Args:
    net: network to write.
    variables: "params" and "batch_stats" of its model.
    images: [B, H, W, C], values in [0, 1].
  """
  check_supported(net)
  whole, found = folding.fold(net, variables)
  params = {name: np.asarray(x) for name, x in found["params"].items()}
  network = FloatNet(whole, params, {})

  # The float network itself says how far its tensors reach
  model = build(network, precision.uniform(whole, FLOAT), taps=True)
  names = [node.name for node in whole.nodes[:-1]]
  values = onnx_qdq.session(model).run(names, {INPUT: as_bytes(images)})
  peaks = (float(np.abs(value).max()) for value in values)
  return network._replace(
    ranges={
      name: max(peak, 1e-6) for name, peak in zip(names, peaks, strict=True)
    }
  )


def as_bytes(images: np.ndarray) -> np.ndarray:
  """uint8 [B, C, H, W] of images [B, H, W, C] with values in [0, 1]."""
  codes = np.rint(np.asarray(images, np.float64) * 255)
  return codes.astype(np.uint8).transpose(0, 3, 1, 2)


def is_integer(net: Net, bits: Mapping[str, int], node: Node) -> bool:
  """Whether a layer computes in integers under an assignment."""
  if node.has_weights:
    return bits[f"{node.name}.weight"] == 8
  return all(bits[site] == 8 for site in _reads(net, node))


def conversions(
  net: Net, bits: Mapping[str, int]
) -> list[tuple[str, str, bool]]:
  """(tensor, layer that converts it, whether to integers) of an assignment."""
  found = []
  for node in net.nodes:
    integer = is_integer(net, bits, node)
    for name, site in zip(node.inputs, _reads(net, node), strict=True):
      if (bits[site] == 8) != integer:
        found.append((name, node.name, integer))
    site = net.site_of[node.name]
    if site is not None and (bits[site] == 8) != integer:
      found.append((node.name, node.name, not integer))
  return found


def build(
  network: FloatNet, bits: Mapping[str, int], taps: bool = False
) -> Any:
  """The onnx.ModelProto of an assignment: uint8 images to float logits.

  Images are [B, C, H, W] of 8 bits, as cameras give them; the site of the image
  has 8 bits. Names of nodes begin with that of their layer and a "/".

  Args:
    network: network with its ranges; a float assignment needs none.
    bits: precision of every site, on `LADDER`.
    taps: whether every tensor is an output of the model, under its name.
  """
  return _Builder(network, bits).model(taps)


def _reads(net, node) -> list[str]:
  return [str(net.site_of[name]) for name in node.inputs]


class _Tensor(NamedTuple):
  """What a node made.

  Attributes:
    name: its name in the model.
    in_codes: whether it is codes.
    was_codes: whether it is floats that were codes until they were written.
  """

  name: str
  in_codes: bool
  was_codes: bool = False


class _Builder:
  """Collects nodes and constants."""

  def __init__(self, network: FloatNet, bits: Mapping[str, int]):
    import onnx

    self.onnx, self.net, self.bits = onnx, network.net, bits
    self.network = network
    self.nodes: list[Any] = []
    self.constants: dict[str, Any] = {}

  def model(self, taps: bool):
    helper, net = self.onnx.helper, self.net
    height, width, channels = net.input_shape
    tensors = {INPUT: _Tensor(INPUT, True)}
    for node in net.nodes:
      tensors[node.name] = self._add(node, [tensors[n] for n in node.inputs])

    # The logits have a fixed name, so that whoever runs it need not look
    last = net.nodes[-1].name
    self._node(last, "Identity", [tensors[last].name], "logits")
    outputs = ["logits"]
    for node in net.nodes[:-1] if taps else ():
      self._node(node.name, "Identity", [tensors[node.name].name], node.name)
      outputs.append(node.name)
    graph = helper.make_graph(
      self.nodes,
      net.name,
      [
        helper.make_tensor_value_info(
          INPUT,
          self.onnx.TensorProto.UINT8,
          ["batch", channels, height, width],
        )
      ],
      [
        helper.make_tensor_value_info(
          name, self._type(tensors, name), self._shape(name)
        )
        for name in outputs
      ],
      list(self.constants.values()),
    )
    return helper.make_model(
      graph,
      opset_imports=[helper.make_opsetid("", OPSET)],
      producer_name="fbq",
      ir_version=IR_VERSION,
    )

  def _type(self, tensors, output):
    in_codes = output in tensors and tensors[output].in_codes
    types = self.onnx.TensorProto
    return types.UINT8 if in_codes else types.FLOAT

  def _shape(self, output):
    """Shape of an output of the model; the batch is left open."""
    name = self.net.nodes[-1].name if output == "logits" else output
    height, width, channels = self.net.shapes[name]
    if name in self.net.node and self.net.node[name].op == "linear":
      return ["batch", channels]
    return ["batch", channels, height, width]

  # ---- Layers

  def _add(self, node: Node, inputs: list[_Tensor]) -> _Tensor:
    """The tensor that a node makes, as it lies in memory."""
    integer = is_integer(self.net, self.bits, node)
    as_codes = integer and not self._is_slow(node)
    reads = [
      self._read(node, tensor, name, as_codes)
      for tensor, name in zip(inputs, node.inputs, strict=True)
    ]
    if node.op == "add":
      # Of Sum there is no integer kernel, which could be put in its place
      op = "Add" if integer else "Sum"
      out = self._node(node.name, op, reads, f"{node.name}.sum")
    elif node.op in ("avg_pool", "max_pool"):
      if inputs[0].was_codes:  # as of Add
        reads = [self._node(node.name, "Sum", reads, f"{node.name}.alone")]
      out = self._pool(node, reads)
    else:
      out = self._weighted(node, reads, integer)
    if node.is_output:
      return _Tensor(out, False)

    # Codes end at the largest magnitude, so of integers a clip is their range's
    if node.activation == "relu":
      out = self._node(node.name, "Relu", [out], f"{node.name}.relu")
    if node.clip and not integer:
      high = self._constant(f"{node.name}.high", np.float32(node.clip))
      low = self._constant(f"{node.name}.low", np.float32(-3e38))
      out = self._node(node.name, "Clip", [out, low, high], f"{node.name}.clip")

    # An integer kernel writes codes, whatever becomes of them
    stored = self.bits[str(self.net.site_of[node.name])] == 8
    if integer or stored:
      out = self._codes(node.name, node.name, out)
    if integer and not stored:
      out = self._values(node.name, node.name, out, False)
    return _Tensor(out, stored, integer and not stored)

  def _is_slow(self, node) -> bool:
    """Whether codes are pooled as the floats that they stand for.

    In the layout of floats, which they are in beside float layers, the maximum
    of bytes takes 7 to 18 ms of a ResNet-18's first pool, and not 0.1. Maxima
    of codes and of what they stand for are the same.
    """
    if node.op != "max_pool":
      return False
    net = self.net
    readers = [each for each in net.nodes if node.name in each.inputs]
    near = [net.node[name] for name in node.inputs if name != INPUT]
    integer = lambda each: is_integer(net, self.bits, each)
    return not (any(map(integer, near)) and any(map(integer, readers)))

  def _read(self, node, tensor, name, integer) -> str:
    """A tensor as a layer reads it, dequantized where it is in codes."""
    codes = tensor.name
    if integer and not tensor.in_codes:
      codes = self._codes(node.name, name, codes)
    if integer or tensor.in_codes:
      return self._values(node.name, name, codes, integer)
    return tensor.name

  def _weighted(self, node, reads, integer):
    """Convolution or product with its bias."""
    name = node.name
    weight = self.network.params[f"{name}_kernel"]
    bias = self.network.params.get(f"{name}_bias")
    bias = np.zeros(weight.shape[-1]) if bias is None else bias
    if node.op == "linear":
      return self._linear(node, reads, weight, bias, integer)

    attributes: dict[str, Any] = dict(
      kernel_shape=list(weight.shape[:2]),
      strides=[node.stride] * 2,
      pads=_pads(node),
      group=weight.shape[3] if node.op == "depthwise" else 1,
    )
    weight = weight.transpose(3, 2, 0, 1)
    if integer:
      inputs = [*reads, *self._integers(node, weight, bias, 0)]
      return self._node(name, "Conv", inputs, f"{name}.acc", **attributes)
    if self.bits[f"{name}.weight"] == 4:
      weight = self._four_bits(name, weight)
    else:
      weight = self._constant(f"{name}.weight", weight)
    out = self._node(
      name, "Conv", [*reads, weight], f"{name}.acc", **attributes
    )
    return self._biased(name, out, bias, 2)

  def _linear(self, node, reads, weight, bias, integer):
    """A product: integers with float results, packed at 4 bits, or floats."""
    name, source = node.name, node.inputs[0]
    height, width, channels = self.net.shapes[source]
    weight = weight.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
    weight = weight.reshape(height * width * channels, -1)
    if source == INPUT or self.net.node[source].op != "linear":
      reads = [self._node(name, "Flatten", reads, f"{name}.flat", axis=1)]
    if integer:
      inputs = [*reads, *self._integers(node, weight, bias, 1)]
      return self._node(name, "Gemm", inputs, f"{name}.acc")
    if self.bits[f"{name}.weight"] == 4:
      weight = self._four_bits(name, weight)
    else:
      weight = self._constant(f"{name}.weight", weight)
    out = self._node(name, "MatMul", [*reads, weight], f"{name}.acc")
    return self._biased(name, out, bias, 0)

  def _biased(self, name, out, bias, pixels):
    bias = self._constant(f"{name}.bias", bias.reshape(-1, *(1,) * pixels))
    return self._node(name, "Add", [out, bias], f"{name}.biased")

  def _pool(self, node, reads):
    shape = self.net.shapes[node.inputs[0]][:2]
    name = node.name
    if node.op == "avg_pool" and (node.kernel or shape) == shape:
      return self._node(name, "GlobalAveragePool", reads, f"{name}.mean")
    attributes: dict[str, Any] = dict(
      kernel_shape=list(node.kernel or shape),
      strides=[node.stride] * 2,
      pads=_pads(node),
    )
    if node.op == "max_pool":
      return self._node(name, "MaxPool", reads, f"{name}.max", **attributes)
    return self._node(
      name,
      "AveragePool",
      reads,
      f"{name}.mean",
      count_include_pad=1,
      **attributes,
    )

  # ---- Numbers

  def _step(self, tensor: str) -> tuple[float, int, bool]:
    """(what a code of 1 stands for, code of 0, whether it is signed)."""
    site = str(self.net.site_of[tensor])
    if site == INPUT_SITE:
      return 1 / 255, (self.net.image_zero or (0,))[0], False
    signed = self.net.is_signed[site]
    range_ = self.network.ranges[site.removesuffix(".out")]
    return range_ / (127 if signed else 255), 128 if signed else 0, signed

  def _scale_of(self, tensor):
    step, zero, _ = self._step(tensor)
    site = str(self.net.site_of[tensor])
    return [
      self._constant(f"{site}.scale", np.float32(step)),
      self._constant(f"{site}.zero", np.uint8(zero)),
    ]

  def _codes(self, layer, tensor, values):
    """`values` rounded to the codes of a tensor, by a node of a layer."""
    out = f"{tensor}.codes_by_{layer}"
    inputs = [values, *self._scale_of(tensor)]
    return self._node(layer, "QuantizeLinear", inputs, out)

  def _values(self, layer, tensor, codes, for_integers):
    """Codes of a tensor dequantized, for an integer kernel or to be floats."""
    out = f"{tensor}.values_for_{layer}"
    scale, zero = self._scale_of(tensor)
    if for_integers:
      inputs = [codes, scale, zero]
      return self._node(layer, "DequantizeLinear", inputs, out)
    step, at_zero, _ = self._step(tensor)
    channels = self.net.shapes[tensor][2]
    if channels == 1:  # a scale for every channel is one for all
      inputs = [codes, scale, zero]
      alone = self._node(layer, "DequantizeLinear", inputs, f"{out}.alone")
      return self._node(layer, "Sum", [alone], out)
    inputs = [
      codes,
      self._constant(f"{tensor}.scales", np.full(channels, step)),
      self._constant(f"{tensor}.zeros", np.full(channels, at_zero, np.uint8)),
    ]
    return self._node(layer, "DequantizeLinear", inputs, out, axis=1)

  def _integers(self, node, weight, bias, axis):
    """Dequantized int8 weights and int32 bias, one scale for each output."""
    name = node.name
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(others), 1e-12) / 127
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    codes = np.rint(weight / scale.reshape(shape)).astype(np.int8)
    sums = scale * self._step(node.inputs[0])[0]
    bias = np.clip(np.rint(bias / sums), -(2**31), 2**31 - 1).astype(np.int32)
    return [
      self._dequantized(f"{name}.weight", codes, scale, axis),
      self._dequantized(f"{name}.bias", bias, sums, 0),
    ]

  def _dequantized(self, name, codes, scale, axis):
    inputs = [
      self._constant(f"{name}.codes", codes),
      self._constant(f"{name}.scale", scale.astype(np.float32)),
    ]
    layer = name.rpartition(".")[0]
    return self._node(layer, "DequantizeLinear", inputs, name, axis=axis)

  def _four_bits(self, name, weight):
    """Dequantized int4 weights; of a linear layer in blocks of inputs."""
    if weight.ndim == 2:
      return self._blocks(name, weight)
    scale = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-12) / 7
    codes = np.rint(weight / scale.reshape(-1, 1, 1, 1))
    return self._int4(name, codes, scale, dict(axis=0))

  def _blocks(self, name, weight):
    rows, columns = weight.shape
    block = BLOCK if rows % BLOCK == 0 else rows
    parts = weight.reshape(rows // block, block, columns)
    scale = np.maximum(np.abs(parts).max(1), 1e-12) / 7
    codes = np.rint(parts / scale[:, None]).reshape(rows, columns)
    return self._int4(name, codes, scale, dict(axis=0, block_size=block))

  def _int4(self, name, codes, scale, attributes):
    self.constants[f"{name}.weight.codes"] = self.onnx.helper.make_tensor(
      f"{name}.weight.codes",
      self.onnx.TensorProto.INT4,
      codes.shape,
      codes.astype(int).ravel().tolist(),
    )
    scale = self._constant(f"{name}.weight.scale", scale.astype(np.float32))
    inputs = [f"{name}.weight.codes", scale]
    out = f"{name}.weight"
    return self._node(name, "DequantizeLinear", inputs, out, **attributes)

  def _constant(self, name, values):
    values = np.asarray(values)
    if values.dtype == np.float64:
      values = values.astype(np.float32)
    self.constants[name] = self.onnx.numpy_helper.from_array(values, name)
    return name

  def _node(self, layer, op, inputs, out, **attributes):
    self.nodes.append(
      self.onnx.helper.make_node(
        op, inputs, [out], name=f"{layer}/{op}/{out}", **attributes
      )
    )
    return out


def _pads(node: Node) -> list[int]:
  (top, bottom), (left, right) = ops.edges(node.padding)
  return [top, left, bottom, right]


def weight_bytes(net: Net, bits: Mapping[str, int]) -> int:
  """Bytes of the weights of an assignment, floats among them."""
  return sum(
    math.ceil(layer.weight_count * bits[net.workload.weight_site(layer)] / 8)
    for layer in net.workload.layers
    if layer.has_weights
  )
