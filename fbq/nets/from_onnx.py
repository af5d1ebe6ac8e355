"""Networks out of ONNX files, as PyTorch's exporters and others write them.

Operators that compute with numbers become rows of a `Table`
(`fbq.nets.onnx_layers`); those that only move them vanish
(`fbq.nets.onnx_moves`), as do those on constants (`fbq.nets.onnx_constants`).
What exporters write, by operator and version: docs/facts/mlperf_tiny.md, 6.
"""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fbq.nets import onnx_constants, onnx_file
from fbq.nets import onnx_layers as layers
from fbq.nets import onnx_moves as moves
from fbq.nets.axes import Axes
from fbq.nets.graph import INPUT
from fbq.nets.import_table import Table
from fbq.nets.imported import Imported, Tensor, builder, reading
from fbq.nets.onnx_call import Call

# What a node raises whose attributes are of other types than its operator's.
_MALFORMED = (ValueError, TypeError, OverflowError, IndexError)
_MOST_MADE = 2**30  # numbers of all constants together


def read(path: str | Path) -> Imported:
  """The network of an ONNX file.

  Batch norms behind layers stay batch norms, their epsilon made up for in the
  running variance.

  Args:
    path: file of a network of one image and one tensor of logits.

  Raises:
    ValueError: the file is damaged, or has what `fbq` has not: names the
      operator, what was expected, and what would do.
    ModuleNotFoundError: the package onnx is not installed.
  """
  path, graph, opset = onnx_file.load(path)
  with reading(path):
    return _Reader(path, graph, opset).network()


net = builder(read)


class _Reader:
  """Goes through the nodes of a graph in their order.

  Every tensor is in `tensors`, if it depends on the image, or in `constants`.
  """

  def __init__(self, path, graph, opset):
    self.path, self.graph, self.opset = path, graph, opset
    self.constants: dict[str, np.ndarray] = {}
    self.tensors: dict[str, Tensor] = {}
    self.made = 0
    self.nodes = _needed(graph)
    self.uses = collections.Counter(
      name
      for node in self.nodes
      if node.op_type != "Shape"  # which reads no number
      for name in node.input
    )
    self.uses.update(output.name for output in graph.output)

  def network(self) -> Imported:
    for tensor in self.graph.initializer:
      try:
        self.constants[tensor.name] = onnx_file.array(tensor, self.path.parent)
      except ValueError as error:
        raise ValueError(f"constant {tensor.name[:200]!r} {error}") from error
    self._read_input()

    # In the order of the file, in which every tensor is made before it is read
    for node in self.nodes:
      op = node.op_type
      if node.domain not in ("", "ai.onnx"):
        op = f"{node.domain}.{op}"
      label = (node.name or node.output[0])[:200]
      try:
        self._add(node, op, label)
      except _MALFORMED as error:
        raise ValueError(f"node {label!r} ({op[:200]}): {error}") from error
    name = self.graph.output[0].name
    if name not in self.tensors:
      raise ValueError(f"output {name[:200]!r} does not depend on the image")
    return self.table.finish(self.tensors[name])

  def _read_input(self):
    """The image: one tensor of floats of known size."""
    import onnx

    inputs = [x for x in self.graph.input if x.name not in self.constants]
    if len(inputs) != 1 or len(self.graph.output) != 1:
      raise ValueError(
        f"has {len(inputs)} inputs and {len(self.graph.output)} outputs, "
        "expected one image and one tensor of logits: export the network with "
        "these alone"
      )
    name, kind = inputs[0].name, inputs[0].type.tensor_type
    if onnx.TensorProto.DataType.Name(kind.elem_type) not in onnx_file.FLOATS:
      raise ValueError(
        f"input {name[:200]!r} is not of floats; export the network with them"
      )
    batch, *sizes = [x.dim_value for x in kind.shape.dim] or [0]
    if len(sizes) not in (1, 3) or min(sizes) < 1 or batch < 0:
      raise ValueError(
        f"input {name[:200]!r} has sizes {(batch, *sizes)}, 0 for unknown "
        "ones; expected a batch of images of known size, [N, C, H, W] or "
        "[N, C]: export the network with a fixed height and width"
      )
    self.batch = batch or 1

    # TensorFlow's exporter keeps its order, and turns it first thing.
    readers = [node for node in self.nodes if name in node.input]
    is_last = len(sizes) == 3 and all(
      node.op_type == "Transpose"
      and _attributes(node, self.path.parent).get("perm") == [0, 3, 1, 2]
      for node in readers
    )
    order = "HWC" if is_last else "CHW"[: len(sizes)]
    sides = dict(zip(order, sizes, strict=True))
    shape = (sides.get("H", 1), sides.get("W", 1), sides["C"])
    axes = Axes.of(shape, order)
    self.table = Table(self.path.stem, axes, "CHW")
    self.tensors[name] = Tensor(INPUT, axes)

  def _add(self, node, op, label):
    """One node: folded, aliased, or a row of the table."""
    inputs = list(node.input)
    attributes = _attributes(node, self.path.parent)
    for name in inputs:
      if name and name not in self.tensors and name not in self.constants:
        raise ValueError(
          f"reads {name[:200]!r}, which neither a constant nor a node before "
          "it makes: the file is damaged or goes in a circle"
        )

    # What depends on no image
    out = node.output[0]
    if op == "Constant":
      self._keep(out, _constant(attributes))
      return
    if op == "Shape" and inputs[0] in self.tensors:
      sizes = (self.batch, *self.tensors[inputs[0]].sizes)
      chosen = slice(attributes.get("start", 0), attributes.get("end"))
      self._keep(out, np.array(sizes[chosen], np.int64))
      return
    if op in onnx_constants.OPERATORS and not any(
      name in self.tensors for name in inputs
    ):
      arrays = [self.constants.get(name) for name in inputs]
      self._keep(out, onnx_constants.value(op, arrays, attributes))
      return

    # What does
    if op not in _OPERATORS:
      raise ValueError(
        f"is not taken; taken are {', '.join(_OPERATORS)}: export the network "
        "with these, or write it as a table (docs/your_own.md)"
      )
    if any(self.uses[name] for name in node.output[1:] if name):
      raise ValueError("has a second output that is read; expected one")
    read = tuple(map(self._input, inputs))
    self.tensors[out] = _OPERATORS[op](
      Call(label, read, attributes, self.table, self.batch, self.opset)
    )

  def _input(self, name):
    """What stands under a name: a tensor, a constant, or nothing."""
    if name not in self.tensors:
      return self.constants.get(name)
    found = self.tensors[name]
    return found._replace(alone=found.alone and self.uses[name] == 1)

  def _keep(self, name, array):
    self.made += array.size
    if self.made > _MOST_MADE:
      raise ValueError(f"constants have more than {_MOST_MADE:,} numbers")
    self.constants[name] = array


# Operators that depend on the image.
_OPERATORS: dict[str, Callable[[Call], Tensor]] = {
  "Add": layers.add,
  "AveragePool": layers.averagepool,
  "BatchNormalization": layers.batchnormalization,
  "Cast": moves.cast,
  "Clip": layers.clip,
  "Concat": layers.concat,
  "Conv": layers.conv,
  "DequantizeLinear": moves.dequantizelinear,
  "Div": layers.div,
  "Dropout": moves.alias,
  "Flatten": moves.flatten,
  "Gemm": layers.gemm,
  "GlobalAveragePool": layers.globalaveragepool,
  "GlobalMaxPool": layers.globalmaxpool,
  "Identity": moves.alias,
  "LogSoftmax": layers.logsoftmax,
  "MatMul": layers.matmul,
  "Max": layers.maximum,
  "MaxPool": layers.maxpool,
  "Mul": layers.mul,
  "Pad": layers.pad,
  "QuantizeLinear": moves.quantizelinear,
  "ReduceMean": layers.reducemean,
  "Relu": layers.relu,
  "Reshape": moves.reshape,
  "Softmax": layers.softmax,
  "Squeeze": moves.squeeze,
  "Sub": layers.sub,
  "Transpose": moves.transpose,
  "Unsqueeze": moves.unsqueeze,
}


def _needed(graph) -> list[Any]:
  """The nodes that the outputs depend on, in the order of the file."""
  wanted = {output.name for output in graph.output}
  found = []
  for node in reversed(graph.node):
    if wanted.intersection(node.output):
      found.append(node)
      wanted.update(node.input)
  return found[::-1]


def _attributes(node, folder) -> dict[str, Any]:
  """Attributes by name: numbers, texts, lists of numbers, arrays."""
  import onnx

  found = {}
  for attribute in node.attribute:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
      value = onnx_file.array(value, folder)
    elif isinstance(value, bytes):
      value = value.decode(errors="replace")
    found[attribute.name] = value
  return found


def _constant(attributes):
  if len(attributes) != 1:
    raise ValueError(f"has attributes {sorted(attributes)}, expected one")
  return np.asarray(*attributes.values())
