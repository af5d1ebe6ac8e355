"""Networks out of TFLite files, of floats or quantized.

Quantized weights become the numbers that they stand for; the ranges of tensors
are kept beside the network. Forms of files: docs/facts/mlperf_tiny.md, 5.
"""

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.axes import Axes
from fbq.nets.graph import INPUT, Net
from fbq.nets.imported import Imported, Table, Tensor
from fbq.nets.node import same_padding
from fbq.nets.onnx_constants import reshaped_sizes
from fbq.nets.tflite_file import DAMAGE, File

_NONE, _RELU, _RELU6 = 0, 1, 3  # ActivationFunctionType of the schema
_SAME, _VALID = 0, 1  # Padding of the schema


def read(path: str | Path) -> Imported:
  """The network of a TFLite file.

  Args:
    path: file of a network of one image and one tensor of logits.

  Raises:
    ValueError: the file is damaged, or has what `fbq` has not: names the
      operator, what was expected, and what would do.
    ModuleNotFoundError: the package ai-edge-litert is not installed.
  """
  try:
    with np.errstate(all="ignore"):  # numbers are checked at the end
      return _Reader(File(path)).network()
  except DAMAGE as error:
    raise ValueError(f"{path} is damaged: {str(error)[:200]}") from error
  except ModuleNotFoundError:
    raise
  except ValueError as error:
    raise ValueError(f"{path}: {str(error)[:1000]}") from error


def net(file: str) -> Net:
  """The network of a TFLite file without its weights; see `read`."""
  return read(file).net


class _Reader:
  """Goes through the operators of a file in their order."""

  def __init__(self, file: File):
    self.file = file
    self.tensors: dict[int, Tensor] = {}
    self.constants: dict[int, np.ndarray] = {}  # that operators make
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
    shape = (1, 1, *sizes[1:])[-3:]
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
    self.table.reads_integers(grid.scale.item(), grid.zero.item(), codes)

  def _add(self, operator, kind, label, out):
    if kind not in _OPERATORS:
      raise ValueError(
        f"is not taken; taken are {', '.join(_OPERATORS)}: convert the network "
        "with these, or write it as a table (docs/your_own.md)"
      )
    options, handler = _OPERATORS[kind]
    read = tuple(map(self._input, _read_by(self.file, operator)))

    # Weights in float16 become floats where they are read.
    if kind == "DEQUANTIZE" and isinstance(read[0], np.ndarray):
      self.constants[out] = read[0].astype(np.float32)
      return
    call = _Call(
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
      made = _activated(call, made, call.options.FusedActivationFunction())
    self.tensors[out] = made
    grid = self.file.grid(out)
    if grid and len(grid.scale) == 1 and not made.head:
      codes = _codes(self.file.dtype(out))
      self.table.see_range(made, grid.scale.item(), grid.zero.item(), codes)

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


class _Call(NamedTuple):
  """An operator: its inputs by place, its options, the shape it makes."""

  file: File
  label: str
  inputs: tuple[Tensor | np.ndarray | None, ...]
  options: Any
  table: Table
  shape: tuple[int, ...]

  @property
  def tensor(self) -> Tensor:
    """The first input, which depends on the image."""
    if not self.inputs or not isinstance(self.inputs[0], Tensor):
      raise ValueError("reads a constant, expected a tensor")
    return self.inputs[0]

  def array(self, index: int) -> np.ndarray | None:
    """A constant input, or None where it is left out."""
    found = self.inputs[index] if index < len(self.inputs) else None
    if isinstance(found, Tensor):
      raise ValueError(
        f"input {index} depends on the image, expected a constant"
      )
    return found

  def needed_array(self, index: int, rank: int) -> np.ndarray:
    found = self.array(index)
    if found is None or found.ndim != rank or not found.size:
      raise ValueError(f"input {index} is no constant of {rank} axes")
    return found

  def geometry(
    self, kernel: tuple[int, int]
  ) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """(strides, padding at (top, bottom, left, right)) of a window."""
    options = self.options
    strides = options.StrideH(), options.StrideW()
    if min(strides) < 1:
      raise ValueError(f"has strides {strides}, expected positive ones")
    if hasattr(options, "DilationHFactor"):
      dilations = options.DilationHFactor(), options.DilationWFactor()
      if dilations != (1, 1):
        raise ValueError(f"has dilations {dilations}, expected 1")
    if options.Padding() == _VALID:
      return strides, (0, 0, 0, 0)
    if options.Padding() != _SAME:
      raise ValueError(f"has padding {options.Padding()}, expected SAME, VALID")
    rows, columns = (
      same_padding(size, side, stride)
      for size, side, stride in zip(
        self.tensor.sizes[:2], kernel, strides, strict=True
      )
    )
    return strides, (*rows, *columns)


def _activated(call: _Call, made: Tensor, function: int) -> Tensor:
  if function == _NONE:
    return made
  if function not in (_RELU, _RELU6):
    raise ValueError(
      f"ends in activation function {function}, expected none, ReLU or ReLU6"
    )
  return call.table.relu(made, call.label, 6.0 if function == _RELU6 else 0.0)


def _conv(call: _Call) -> Tensor:
  weights = call.needed_array(1, 4)  # [O, h, w, I]
  return _convolution(call, weights.transpose(1, 2, 3, 0), 1)


def _depthwise(call: _Call) -> Tensor:
  weights = call.needed_array(1, 4)  # [1, h, w, C]
  if len(weights) != 1:
    raise ValueError(f"has weights of {weights.shape}, expected [1, h, w, C]")
  kernel = weights.transpose(1, 2, 0, 3)
  channels = call.tensor.axes.shape[2]
  return _convolution(call, kernel, channels)


def _convolution(call, kernel, groups):
  geometry = call.geometry(kernel.shape[:2])
  return call.table.conv(
    *(call.tensor, call.label, kernel, call.array(2), groups, *geometry)
  )


def _linear(call: _Call) -> Tensor:
  matrix, tensor = call.needed_array(1, 2), call.tensor  # [O, I]
  if call.options.WeightsFormat():
    raise ValueError("has shuffled weights, expected the default format")
  if not call.options.KeepNumDims():
    tensor = _reshaped(call, (1, -1))
  return call.table.linear(tensor, call.label, matrix.T, call.array(2))


def _add(call: _Call) -> Tensor:
  if all(isinstance(x, Tensor) for x in call.inputs):
    return call.table.add(list(call.inputs), call.label)
  index = 0 if isinstance(call.inputs[0], Tensor) else 1
  offset = call.array(1 - index)
  offset = _per_channel(offset, call.inputs[index])
  ones = np.ones_like(offset)
  return call.table.affine(call.inputs[index], call.label, ones, offset)


def _mul(call: _Call) -> Tensor:
  if all(isinstance(x, Tensor) for x in call.inputs):
    raise ValueError(
      "multiplies two tensors; expected a constant: convert the network "
      "without gates (SiLU, squeeze and excitation)"
    )
  index = 0 if isinstance(call.inputs[0], Tensor) else 1
  factor = _per_channel(call.array(1 - index), call.inputs[index])
  zeros = np.zeros_like(factor)
  return call.table.affine(call.inputs[index], call.label, factor, zeros)


def _per_channel(constant, tensor):
  """float64 [C] of a constant of one number, or of one for each channel."""
  channels = tensor.axes.shape[2]
  is_last = constant.shape[-1:] == (channels,) == (constant.size,)
  if constant.size != 1 and not (is_last and tensor.axes.groups[-1] == "C"):
    raise ValueError(
      f"has a constant of {constant.shape} for a tensor of {tensor.sizes}; "
      "expected a number for each channel"
    )
  return np.broadcast_to(constant.reshape(-1).astype(np.float64), channels)


def _relu(call: _Call) -> Tensor:
  return call.table.relu(call.tensor, call.label)


def _relu6(call: _Call) -> Tensor:
  return call.table.relu(call.tensor, call.label, 6.0)


def _max_pool(call: _Call) -> Tensor:
  return _pool(call, "max_pool")


def _avg_pool(call: _Call) -> Tensor:
  return _pool(call, "avg_pool")


def _pool(call, op):
  kernel = call.options.FilterHeight(), call.options.FilterWidth()
  if min(kernel) < 1:
    raise ValueError(f"has a window of {kernel}, expected positive sizes")
  strides, padding = call.geometry(kernel)
  if op == "avg_pool" and any(padding):
    raise ValueError(
      f"has padding {padding} that does not count in means; expected VALID"
    )
  return call.table.pool(call.tensor, call.label, op, kernel, strides, padding)


def _mean(call: _Call) -> Tensor:
  given, rank = call.array(1), len(call.tensor.sizes) + 1
  if given is None:
    raise ValueError("has no axes")
  axes = [(int(axis) % rank) - 1 for axis in given.ravel()]
  keep = call.options.KeepDims()
  return call.table.reduce(call.tensor, call.label, "avg_pool", axes, keep)


def _concat(call: _Call) -> Tensor:
  tensors = [x for x in call.inputs if isinstance(x, Tensor)]
  if len(tensors) != len(call.inputs):
    raise ValueError("joins a constant to the image, expected tensors alone")
  axis = call.options.Axis() % (len(tensors[0].sizes) + 1)
  return call.table.concat(tensors, call.label, axis - 1)


def _pad(call: _Call) -> Tensor:
  pads = call.needed_array(1, 2).tolist()
  if len(pads) != 4 or any(pads[0]) or any(pads[3]):
    raise ValueError(f"pads by {pads}, expected height and width alone")
  return call.table.pad(call.tensor, (*pads[1], *pads[2]))


def _reshape(call: _Call) -> Tensor:
  """Its shape may be computed; the file says what it is for one image."""
  return _reshaped(call, call.shape)


def _reshaped(call, sizes):
  tensor = call.tensor
  found = reshaped_sizes(sizes, (1, *tensor.sizes))
  if found[:1] != (1,):
    raise ValueError(f"makes {found}, expected the batch to stay")
  return call.table.moved(tensor, tensor.axes.reshaped(found[1:]))


def _transpose(call: _Call) -> Tensor:
  order = [int(axis) for axis in call.needed_array(1, 1)]
  if order[:1] != [0]:
    raise ValueError(f"moves the batch, by {order}; expected it to stay")
  axes = call.tensor.axes.transposed(tuple(axis - 1 for axis in order[1:]))
  return call.table.moved(call.tensor, axes)


def _softmax(call: _Call) -> Tensor:
  if call.options.Beta() != 1:
    raise ValueError(f"has beta {call.options.Beta()}, expected 1")
  return call.table.end(call.tensor, len(call.tensor.sizes) - 1, "softmax")


def _alias(call: _Call) -> Tensor:
  return call.tensor


# Name -> (class of its options in the schema, what makes a tensor of it).
_OPERATORS: dict[str, tuple[str, Callable[[_Call], Tensor]]] = {
  "ADD": ("AddOptions", _add),
  "AVERAGE_POOL_2D": ("Pool2DOptions", _avg_pool),
  "CONCATENATION": ("ConcatenationOptions", _concat),
  "CONV_2D": ("Conv2DOptions", _conv),
  "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _depthwise),
  "DEQUANTIZE": ("", _alias),
  "FULLY_CONNECTED": ("FullyConnectedOptions", _linear),
  "MAX_POOL_2D": ("Pool2DOptions", _max_pool),
  "MEAN": ("ReducerOptions", _mean),
  "MUL": ("MulOptions", _mul),
  "PAD": ("", _pad),
  "QUANTIZE": ("", _alias),
  "RELU": ("", _relu),
  "RELU6": ("", _relu6),
  "RESHAPE": ("", _reshape),
  "SOFTMAX": ("SoftmaxOptions", _softmax),
  "SQUEEZE": ("", _reshape),
  "TRANSPOSE": ("", _transpose),
}
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
