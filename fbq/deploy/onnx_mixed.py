"""ONNX of float and 8-bit layers side by side, as ONNX Runtime runs both fast.

`fbq.deploy.mixed_layers` says which layers are which and what is converted
where, all of which stands in the file; `fbq.deploy.onnx_numbers` how codes and
constants are written.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fbq import ops, precision
from fbq.deploy import onnx_qdq
from fbq.deploy.mixed_layers import FLOAT, check_supported, is_integer
from fbq.deploy.onnx_numbers import Graph
from fbq.deploy.onnx_qdq import IR_VERSION, OPSET
from fbq.nets.graph import INPUT, Net, Node
from fbq.ptq import folding


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
  """Writes the layers of a network under an assignment."""

  def __init__(self, network: FloatNet, bits: Mapping[str, int]):
    self.net, self.bits, self.params = network.net, bits, network.params
    self.graph = Graph(network.net, network.ranges)
    self.onnx = self.graph.onnx

  def model(self, taps: bool):
    helper, net = self.onnx.helper, self.net
    height, width, channels = net.input_shape
    tensors = {INPUT: _Tensor(INPUT, True)}
    for node in net.nodes:
      tensors[node.name] = self._add(node, [tensors[n] for n in node.inputs])

    # The logits have a fixed name, so that whoever runs it need not look
    last = net.nodes[-1].name
    self.graph.node(last, "Identity", [tensors[last].name], "logits")
    outputs = ["logits"]
    for node in net.nodes[:-1] if taps else ():
      self.graph.node(
        node.name, "Identity", [tensors[node.name].name], node.name
      )
      outputs.append(node.name)
    graph = helper.make_graph(
      self.graph.nodes,
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
      list(self.graph.constants.values()),
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
      out = self.graph.node(node.name, op, reads, f"{node.name}.sum")
    elif node.op in ("avg_pool", "max_pool"):
      if inputs[0].was_codes:  # as of Add
        reads = [self.graph.node(node.name, "Sum", reads, f"{node.name}.alone")]
      out = self._pool(node, reads)
    else:
      out = self._weighted(node, reads, integer)
    if node.is_output:
      return _Tensor(out, False)

    # Codes end at the largest magnitude, so of integers a clip is their range's
    if node.activation == "relu":
      out = self.graph.node(node.name, "Relu", [out], f"{node.name}.relu")
    if node.clip and not integer:
      high = self.graph.constant(f"{node.name}.high", np.float32(node.clip))
      low = self.graph.constant(f"{node.name}.low", np.float32(-3e38))
      out = self.graph.node(
        node.name, "Clip", [out, low, high], f"{node.name}.clip"
      )

    # An integer kernel writes codes, whatever becomes of them
    stored = self.bits[str(self.net.site_of[node.name])] == 8
    if integer or stored:
      out = self.graph.codes(node.name, node.name, out)
    if integer and not stored:
      out = self.graph.values(node.name, node.name, out, False)
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
      codes = self.graph.codes(node.name, name, codes)
    if integer or tensor.in_codes:
      return self.graph.values(node.name, name, codes, integer)
    return tensor.name

  def _weighted(self, node, reads, integer):
    """Convolution or product with its bias."""
    name = node.name
    weight = self.params[f"{name}_kernel"]
    bias = self.params.get(f"{name}_bias")
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
      inputs = [*reads, *self.graph.integers(node, weight, bias, 0)]
      return self.graph.node(name, "Conv", inputs, f"{name}.acc", **attributes)
    if self.bits[f"{name}.weight"] == 4:
      weight = self.graph.four_bits(name, weight)
    else:
      weight = self.graph.constant(f"{name}.weight", weight)
    out = self.graph.node(
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
      reads = [self.graph.node(name, "Flatten", reads, f"{name}.flat", axis=1)]
    if integer:
      inputs = [*reads, *self.graph.integers(node, weight, bias, 1)]
      return self.graph.node(name, "Gemm", inputs, f"{name}.acc")
    if self.bits[f"{name}.weight"] == 4:
      weight = self.graph.four_bits(name, weight)
    else:
      weight = self.graph.constant(f"{name}.weight", weight)
    out = self.graph.node(name, "MatMul", [*reads, weight], f"{name}.acc")
    return self._biased(name, out, bias, 0)

  def _biased(self, name, out, bias, pixels):
    bias = self.graph.constant(f"{name}.bias", bias.reshape(-1, *(1,) * pixels))
    return self.graph.node(name, "Add", [out, bias], f"{name}.biased")

  def _pool(self, node, reads):
    shape = self.net.shapes[node.inputs[0]][:2]
    name = node.name
    if node.op == "avg_pool" and (node.kernel or shape) == shape:
      return self.graph.node(name, "GlobalAveragePool", reads, f"{name}.mean")
    attributes: dict[str, Any] = dict(
      kernel_shape=list(node.kernel or shape),
      strides=[node.stride] * 2,
      pads=_pads(node),
    )
    if node.op == "max_pool":
      return self.graph.node(
        name, "MaxPool", reads, f"{name}.max", **attributes
      )
    return self.graph.node(
      name,
      "AveragePool",
      reads,
      f"{name}.mean",
      count_include_pad=1,
      **attributes,
    )


def _pads(node: Node) -> list[int]:
  (top, bottom), (left, right) = ops.edges(node.padding)
  return [top, left, bottom, right]
