"""Networks of `fbq` written as ONNX in the ways that exporters write them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fbq import ops
from fbq.nets.graph import INPUT, Net, Node

FLOAT = onnx.TensorProto.FLOAT


class Style(NamedTuple):
  """How an exporter writes what can be written in several ways.

  Attributes:
    opset: version of the operators.
    mean: operator of a mean over the whole image.
    matmul: whether a linear layer is MatMul and Add, or Gemm.
    constants: whether weights are nodes, or initializers.
    batch: batch of the shapes, or a name.
  """

  opset: int = 13
  mean: str = "GlobalAveragePool"
  matmul: bool = False
  constants: bool = False
  batch: int | str = "n"


PLAIN = Style()


class Writer:
  """Collects nodes and arrays of a graph."""

  def __init__(self, style: Style = PLAIN):
    self.style = style
    self.nodes: list[Any] = []
    self.arrays: list[Any] = []

  def node(self, op: str, inputs: list[str], out: str, **attributes) -> str:
    self.nodes.append(
      helper.make_node(op, inputs, [out], name=f"/{out}", **attributes)
    )
    return out

  def array(self, name: str, value: Any, dtype: Any = np.float32) -> str:
    tensor = numpy_helper.from_array(np.asarray(value, dtype), name)
    if self.style.constants:
      self.node("Constant", [], name, value=tensor)
    else:
      self.arrays.append(tensor)
    return name

  def model(self, shape: tuple, out: str, ir_version: int = 9) -> Any:
    """The file: one image of `shape` in, `out` out."""
    batch = self.style.batch
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
      self.nodes,
      "test",
      [value("image", FLOAT, [batch, *shape])],
      [value(out, FLOAT, None)],
      self.arrays,
    )
    opsets = [helper.make_opsetid("", self.style.opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def write(net: Net, variables: Mapping[str, Any], style: Style = PLAIN) -> Any:
  """The onnx.ModelProto of a float network with its batch norms."""
  writer = Writer(style)
  names = {INPUT: "image"}
  flat = set()
  for node in net.nodes:
    inputs = [names[name] for name in node.inputs]
    if node.op == "linear":
      if node.inputs[0] not in flat:
        inputs = [writer.node("Flatten", inputs, f"{node.name}.flat")]
      flat.add(node.name)
    out = _layer(writer, net, node, variables, inputs)
    if node.norm:
      out = _norm(writer, node, variables, out)
    if node.activation == "relu":
      out = _relu(writer, node, out)
    names[node.name] = out
  height, width, channels = net.input_shape
  return writer.model((channels, height, width), out)


def _layer(writer, net, node: Node, variables, inputs) -> str:
  name = node.name
  if node.op == "add":
    return writer.node("Add", inputs, name)
  if node.op == "concat":
    return writer.node("Concat", inputs, name, axis=1)
  (top, bottom), (left, right) = ops.edges(node.padding)
  window: dict[str, Any] = dict(
    strides=[node.stride] * 2, pads=[top, left, bottom, right]
  )
  if node.op in ("avg_pool", "max_pool"):
    if node.kernel is None and node.op == "avg_pool":
      return _mean(writer, inputs, name)
    window["kernel_shape"] = node.kernel or net.shapes[node.inputs[0]][:2]
    if node.op == "max_pool":
      return writer.node("MaxPool", inputs, name, **window)
    return writer.node(
      "AveragePool", inputs, name, count_include_pad=1, **window
    )

  # Weights as PyTorch has them: outputs first, then inputs, channels first
  kernel = np.asarray(variables["params"][f"{name}_kernel"])
  bias = []
  if node.bias:
    values = variables["params"][f"{name}_bias"]
    bias = [writer.array(f"{name}.b", values)]
  if node.op != "linear":
    weight = writer.array(f"{name}.w", kernel.transpose(3, 2, 0, 1))
    groups = kernel.shape[-1] if node.op == "depthwise" else 1
    inputs = [*inputs, weight, *bias]
    return writer.node("Conv", inputs, name, group=groups, **window)
  matrix = kernel.reshape(*net.shapes[node.inputs[0]], -1)
  matrix = matrix.transpose(2, 0, 1, 3).reshape(kernel.shape)
  if not writer.style.matmul:
    inputs = [*inputs, writer.array(f"{name}.w", matrix.T), *bias]
    return writer.node("Gemm", inputs, name, transB=1)
  weight = writer.array(f"{name}.w", matrix)
  product = writer.node("MatMul", [*inputs, weight], f"{name}.product")
  return writer.node("Add", [*bias, product], name) if bias else product


def _mean(writer, inputs, name):
  if writer.style.mean == "GlobalAveragePool":
    return writer.node("GlobalAveragePool", inputs, name)
  if writer.style.opset < 18:
    return writer.node("ReduceMean", inputs, name, axes=[-1, 2])
  axes = writer.array(f"{name}.axes", [2, 3], np.int64)
  return writer.node("ReduceMean", [*inputs, axes], name, keepdims=1)


def _norm(writer, node, variables, out):
  name = f"{node.name}_norm"
  parts = {**variables["params"][name], **variables["batch_stats"][name]}
  arrays = [
    writer.array(f"{name}.{key}", parts[key])
    for key in ("scale", "bias", "mean", "var")
  ]
  return writer.node("BatchNormalization", [out, *arrays], name)


def _relu(writer, node, out):
  name = f"{node.name}.relu"
  if not node.clip:
    return writer.node("Relu", [out], name)
  ends = [
    writer.array(f"{name}.{end}", value)
    for end, value in (("low", 0.0), ("high", node.clip))
  ]
  return writer.node("Clip", [out, *ends], name)
