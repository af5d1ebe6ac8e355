"""ONNX files that were cut, rewired, reshaped, or given other operators."""

import collections

import deploy_cases
import numpy as np
import onnx
from fuzz import fuzzing
from onnx_writer import Style, write

from fbq.nets import from_onnx

NET = deploy_cases.MIX
SIZES = (-1, 0, 1, 2, 7, 2**31, 2**62, -(2**63))
OPERATORS = (
  *("Add", "Clip", "Concat", "Conv", "Flatten", "Gemm", "Identity", "MatMul"),
  *("MaxPool", "Pad", "Relu", "ReduceMean", "Reshape", "Shape", "Softmax"),
  *("Transpose", "Expand", "Gather", "Slice", "ConstantOfShape", "If"),
  *("QuantizeLinear", "DequantizeLinear", "Squeeze", "BatchNormalization"),
)


def run(seed: int, count: int) -> collections.Counter:
  """Files of two exporters in turn."""
  variables = deploy_cases.variables(NET)
  styles = Style(), Style(18, "ReduceMean", True, True, 1)
  models = [write(NET, variables, style) for style in styles]

  def mutate(random):
    model = onnx.ModelProto()
    model.CopyFrom(models[random.integers(len(models))])
    for _ in range(random.integers(0, 3)):
      change(model.graph, random)
    data = model.SerializeToString()
    if random.random() < 0.4:
      data = fuzzing.bytes_changed(data, random)
    return data

  return fuzzing.fuzz(mutate, from_onnx.read, wrong, ".onnx", seed, count)


def change(graph, random):
  """One node, attribute, name or size that is another."""
  pick = lambda items: items[random.integers(len(items))]
  node = pick(graph.node)
  names = [name for each in graph.node for name in (*each.input, *each.output)]
  kind = random.integers(8)
  if kind == 0:
    node.op_type = pick(OPERATORS)
  elif kind == 1 and node.input:
    node.input[random.integers(len(node.input))] = pick(names)
  elif kind == 2:
    node.input.append(pick(names))
  elif kind == 3 and node.attribute:
    attribute = pick(node.attribute)
    attribute.i = pick(SIZES)
    for place in range(len(attribute.ints)):
      if random.random() < 0.5:
        attribute.ints[place] = pick(SIZES)
  elif kind == 4 and node.attribute:
    node.attribute.remove(pick(node.attribute))
  elif kind == 5:
    graph.node.remove(node)
  elif kind == 6:
    dims = graph.input[0].type.tensor_type.shape.dim
    pick(dims).dim_value = pick(SIZES)
  elif graph.initializer:
    tensor = pick(graph.initializer)
    tensor.dims[random.integers(len(tensor.dims))] = pick(SIZES)


def wrong(path, found):
  """Every layer has the weights that its geometry asks for."""
  params = found.variables["params"]
  for node, layer in zip(
    found.net.nodes, found.net.workload.layers, strict=True
  ):
    if not node.has_weights:
      continue
    kernel = params[f"{node.name}_kernel"]
    inputs = 1 if node.op == "depthwise" else layer.in_channels
    window = (layer.kernel_height, layer.kernel_width)
    window = () if node.op == "linear" else window
    if kernel.shape != (*window, inputs, layer.out_channels):
      return f"{node.name} has a kernel of {kernel.shape}"
    if node.bias != (f"{node.name}_bias" in params):
      return f"{node.name} has or lacks a bias"
    if node.norm != (f"{node.name}_norm" in params):
      return f"{node.name} has or lacks a norm"
  if not all(np.isfinite(x).all() for x in (found.mean, found.std)):
    return f"a normalization of {found.mean}, {found.std}"
  return ""
