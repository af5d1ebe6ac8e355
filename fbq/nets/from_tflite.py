"""Networks out of TFLite files, of floats or quantized.

Quantized weights become the numbers that they stand for; the ranges of tensors
are kept beside the network. Forms of files: docs/facts/mlperf_tiny.md, 5.
"""

import collections
from pathlib import Path
from typing import Any

import numpy as np

from fbq.nets.axes import Axes
from fbq.nets.graph import INPUT
from fbq.nets.import_table import Table
from fbq.nets.imported import Imported, Tensor, builder, reading
from fbq.nets.tflite_file import DAMAGE, File
from fbq.nets.tflite_layers import OPERATORS, Call, activated


def read(path: str | Path) -> Imported:
  """The network of a TFLite file.

  Args:
    path: file of a network of one image and one tensor of logits.

  Raises:
    ValueError: the file is damaged, or has what `fbq` has not: names the
      operator, what was expected, and what would do.
    ModuleNotFoundError: the package ai-edge-litert is not installed.
  """
  with reading(path, DAMAGE):
    return _Reader(File(path)).network()


net = builder(read)


class _Reader:
  """Goes through the operators of a file in their order."""

  def __init__(self, file: File):
    self.file = file
    self.tensors: dict[int, Tensor] = {}
    self.constants: dict[int, np.ndarray] = {}  # that operators make
    self.origins: dict[int, int] = {}  # of those, the tensors they are made of
    self.outputs = _indices(file.graph, "Outputs")
    self.operators = self._needed()
    self.uses = collections.Counter(self.outputs)
    for operator in self.operators:
      self.uses.update(_read_by(file, operator))

  def network(self) -> Imported:
    self._read_input()

    # In the order of the file, in which every tensor is made before it is read
    for operator in self.operators:
      kind, outputs = self.file.kind(operator), _indices(operator, "Outputs")
      label = self.file.label(outputs[0])
      try:
        self._add(operator, kind, label, outputs[0])
      except ValueError as error:
        raise ValueError(f"node {label!r} ({kind}): {error}") from error
    if self.outputs[0] not in self.tensors:
      raise ValueError("the output does not depend on the image")
    return self.table.finish(self.tensors[self.outputs[0]])

  def _needed(self):
    """The operators that the output depends on, in their order."""
    wanted, found = set(self.outputs), []
    for operator in reversed(self.file.operators()):
      if wanted.intersection(_indices(operator, "Outputs")):
        found.append(operator)
        wanted.update(_read_by(self.file, operator))
    return found[::-1]

  def _read_input(self):
    file, inputs = self.file, _indices(self.file.graph, "Inputs")
    if len(inputs) != 1 or len(self.outputs) != 1:
      raise ValueError(
        f"has {len(inputs)} inputs and {len(self.outputs)} outputs, expected "
        "one image and one tensor of logits"
      )
    sizes = file.shape(inputs[0])
    if len(sizes) not in (2, 4) or min(sizes) < 1 or sizes[0] != 1:
      raise ValueError(
        f"its input has sizes {sizes}, expected one image of known size, [1, H,"
        " W, C] or [1, C]"
      )
    height, width, channels = (1, 1, *sizes[1:])[-3:]
    shape = (height, width, channels)
    axes = Axes.of(shape, "HWC"[-len(sizes) + 1 :])
    self.table = Table(file.path.stem, axes, "HWC")
    self.tensors[inputs[0]] = Tensor(INPUT, axes)

    # Integers are images whose numbers the scale tells.
    if file.dtype(inputs[0]).kind == "f":
      return
    grid = file.grid(inputs[0])
    if grid is None or len(grid.scale) != 1:
      raise ValueError("its input is of integers without a scale")
    codes = _codes(file.dtype(inputs[0]))
    scale, zero = grid.scale.item(), grid.zero.item()
    self.table.reads_integers(scale, zero, codes)
    self.table.see_range(self.tensors[inputs[0]], scale, zero, codes)

  def _add(self, operator, kind, label, out):
    if kind not in OPERATORS:
      raise ValueError(
        f"is not taken; taken are {', '.join(OPERATORS)}: convert the network "
        "with these, or write it as a table (docs/your_own.md)"
      )
    options, handler = OPERATORS[kind]
    read = tuple(map(self._input, _read_by(self.file, operator)))

    # Weights in float16 become floats where they are read.
    if kind == "DEQUANTIZE" and isinstance(read[0], np.ndarray):
      self.constants[out] = read[0].astype(np.float32)
      (self.origins[out],) = _read_by(self.file, operator)
      return
    call = Call(
      self.file,
      label,
      read,
      self.file.options(operator, options) if options else None,
      self.table,
      self.file.shape(out),
    )
    made = handler(call)

    # A ReLU is an attribute of the layer before it.
    if hasattr(call.options, "FusedActivationFunction"):
      made = activated(call, made, call.options.FusedActivationFunction())
    self.tensors[out] = made
    if kind in _WEIGHTED:
      self._see_weights(operator, made)
    grid = self.file.grid(out)
    if grid is None or len(grid.scale) != 1 or made.head:
      return
    codes = _codes(self.file.dtype(out))
    before = self.table.ranges.get(made.node)
    self.table.see_range(made, grid.scale.item(), grid.zero.item(), codes)

    # Integers that another zero point clips at their other end
    if kind == "QUANTIZE" and before:
      low, high = self.table.ranges[made.node]
      self.table.ranges[made.node] = max(low, before[0]), min(high, before[1])

  def _see_weights(self, operator, made):
    """Keeps the steps of the weights of an operator, if they are integers."""
    index = _read_by(self.file, operator)[1]
    grid = self.file.grid(self.origins.get(index, index))
    if grid is not None:
      step = grid.scale if len(grid.scale) > 1 else grid.scale[0]
      site = f"{made.node}.weight"
      self.table.steps[site] = np.asarray(step, np.float64)

  def _input(self, index):
    """What a number stands for: a tensor, a constant, or nothing."""
    if index < 0:
      return None
    if index in self.constants:
      return self.constants[index]
    if index not in self.tensors:
      found = self.file.constant(index)
      if found is None:
        raise ValueError(
          f"reads {self.file.label(index)!r}, which neither a constant nor an "
          "operator before it makes: the file is damaged or goes in a circle"
        )
      return found
    found = self.tensors[index]
    return found._replace(alone=found.alone and self.uses[index] == 1)


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_SHAPED = ("RESHAPE", "SQUEEZE")  # whose shape is that of what they make


def _read_by(file: File, operator: Any) -> list[int]:
  """Tensors that an operator needs: -1 for one that is left out."""
  found = _indices(operator, "Inputs")
  return found[:1] if file.kind(operator) in _SHAPED else found


def _indices(table: Any, field: str) -> list[int]:
  """Inputs or outputs of an operator or of the graph."""
  if not getattr(table, f"{field}Length")():
    return []
  return getattr(table, f"{field}AsNumpy")().tolist()


def _codes(dtype: np.dtype) -> range:
  """All integers of a type."""
  ends = np.iinfo(dtype)
  return range(ends.min, ends.max + 1)
