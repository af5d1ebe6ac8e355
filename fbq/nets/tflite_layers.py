"""TFLite operators: each adds a row to a table, changes one, or moves axes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fbq.nets import import_layers as rows
from fbq.nets.import_table import Table
from fbq.nets.imported import Tensor, constant
from fbq.nets.node import same_padding
from fbq.nets.onnx_constants import reshaped_sizes
from fbq.nets.tflite_file import File

_NONE, _RELU, _RELU6 = 0, 1, 3  # ActivationFunctionType of the schema
_SAME, _VALID = 0, 1  # Padding of the schema


class Call(NamedTuple):
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

  @property
  def are_tensors(self) -> bool:
    """Whether all inputs depend on the image."""
    return all(isinstance(found, Tensor) for found in self.inputs)

  def tensor_and_constant(self) -> tuple[Tensor, np.ndarray]:
    """The two inputs, [C] of the second, in whichever order they are."""
    first, second = self.inputs
    if isinstance(second, Tensor):
      first, second = second, first
    if not isinstance(first, Tensor) or not isinstance(second, np.ndarray):
      raise ValueError("lacks an input, expected two")
    return first, _per_channel(second, first)

  def array(self, index: int) -> np.ndarray | None:
    """A constant input, or None where it is left out."""
    return constant(self.inputs, index)

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


def activated(call: Call, made: Tensor, function: int) -> Tensor:
  if function == _NONE:
    return made
  if function not in (_RELU, _RELU6):
    raise ValueError(
      f"ends in activation function {function}, expected none, ReLU or ReLU6"
    )
  return call.table.relu(made, call.label, 6.0 if function == _RELU6 else 0.0)


def _conv(call: Call) -> Tensor:
  weights = call.needed_array(1, 4)  # [O, h, w, I]
  return _convolution(call, weights.transpose(1, 2, 3, 0), 1)


def _depthwise(call: Call) -> Tensor:
  weights = call.needed_array(1, 4)  # [1, h, w, C]
  if len(weights) != 1:
    raise ValueError(f"has weights of {weights.shape}, expected [1, h, w, C]")
  kernel = weights.transpose(1, 2, 0, 3)
  if _is_mean(call, kernel):
    return rows.pool(
      *(call.table, call.tensor, call.label, "avg_pool", kernel.shape[:2]),
      *call.geometry(kernel.shape[:2]),
    )
  channels = call.tensor.axes.shape[2]
  return _convolution(call, kernel, channels)


def _is_mean(call, kernel):
  """Whether a depthwise layer of integers is a mean, as `fbq` writes means.

  Its bias is then a part of a sum, that turns ties upwards.
  """
  step, bias = call.table.steps.get(call.tensor.node), call.array(2)
  count = kernel.shape[0] * kernel.shape[1]
  is_whole = kernel.shape[:2] == call.tensor.sizes[:2]
  if step is None or np.ptp(kernel) > 0 or (count == 1 and not is_whole):
    return False
  most = 0.0 if bias is None else np.abs(bias).max()
  return abs(kernel.flat[0] * count - 1) < 1e-5 and most * count < step / 2


def _convolution(call, kernel, groups):
  geometry = call.geometry(kernel.shape[:2])
  return rows.conv(
    call.table,
    *(call.tensor, call.label, kernel, call.array(2), groups, *geometry),
  )


def _linear(call: Call) -> Tensor:
  matrix, tensor = call.needed_array(1, 2), call.tensor  # [O, I]
  if call.options.WeightsFormat():
    raise ValueError("has shuffled weights, expected the default format")
  if not call.options.KeepNumDims():
    tensor = _reshaped(call, (1, -1))
  return rows.linear(call.table, tensor, call.label, matrix.T, call.array(2))


def _add(call: Call) -> Tensor:
  if call.are_tensors:
    tensors = [x for x in call.inputs if isinstance(x, Tensor)]
    return rows.add(call.table, tensors, call.label)
  tensor, offset = call.tensor_and_constant()
  return call.table.affine(tensor, call.label, np.ones_like(offset), offset)


def _mul(call: Call) -> Tensor:
  if call.are_tensors:
    raise ValueError(
      "multiplies two tensors; expected a constant: convert the network "
      "without gates (SiLU, squeeze and excitation)"
    )
  tensor, factor = call.tensor_and_constant()
  return call.table.affine(tensor, call.label, factor, np.zeros_like(factor))


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


def _relu(call: Call) -> Tensor:
  return call.table.relu(call.tensor, call.label)


def _relu6(call: Call) -> Tensor:
  return call.table.relu(call.tensor, call.label, 6.0)


def _max_pool(call: Call) -> Tensor:
  return _pool(call, "max_pool")


def _avg_pool(call: Call) -> Tensor:
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
  return rows.pool(
    call.table, call.tensor, call.label, op, kernel, strides, padding
  )


def _mean(call: Call) -> Tensor:
  given, rank = call.array(1), len(call.tensor.sizes) + 1
  if given is None:
    raise ValueError("has no axes")
  axes = [(int(axis) % rank) - 1 for axis in given.ravel()]
  keep = call.options.KeepDims()
  return rows.reduce(
    call.table, call.tensor, call.label, "avg_pool", axes, keep
  )


def _concat(call: Call) -> Tensor:
  tensors = [x for x in call.inputs if isinstance(x, Tensor)]
  if len(tensors) != len(call.inputs):
    raise ValueError("joins a constant to the image, expected tensors alone")
  axis = call.options.Axis() % (len(tensors[0].sizes) + 1)
  return rows.concat(call.table, tensors, call.label, axis - 1)


def _pad(call: Call) -> Tensor:
  pads = call.needed_array(1, 2).tolist()
  if len(pads) != 4 or any(pads[0]) or any(pads[3]):
    raise ValueError(f"pads by {pads}, expected height and width alone")
  return rows.pad(call.table, call.tensor, (*pads[1], *pads[2]))


def _reshape(call: Call) -> Tensor:
  """Its shape may be computed; the file says what it is for one image."""
  return _reshaped(call, call.shape)


def _reshaped(call, sizes):
  tensor = call.tensor
  found = reshaped_sizes(sizes, (1, *tensor.sizes))
  if found[:1] != (1,):
    raise ValueError(f"makes {found}, expected the batch to stay")
  return call.table.moved(tensor, tensor.axes.reshaped(found[1:]))


def _transpose(call: Call) -> Tensor:
  order = [int(axis) for axis in call.needed_array(1, 1)]
  if order[:1] != [0]:
    raise ValueError(f"moves the batch, by {order}; expected it to stay")
  axes = call.tensor.axes.transposed(tuple(axis - 1 for axis in order[1:]))
  return call.table.moved(call.tensor, axes)


def _softmax(call: Call) -> Tensor:
  if call.options.Beta() != 1:
    raise ValueError(f"has beta {call.options.Beta()}, expected 1")
  return call.table.end(call.tensor, len(call.tensor.sizes) - 1, "softmax")


def _alias(call: Call) -> Tensor:
  return call.tensor


# Name -> (class of its options in the schema, what makes a tensor of it).
OPERATORS: dict[str, tuple[str, Callable[[Call], Tensor]]] = {
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
