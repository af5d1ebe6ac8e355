"""ONNX operators that compute: each adds a row to a table, or changes one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fbq.nets import import_layers as rows
from fbq.nets.imported import Tensor
from fbq.nets.onnx_call import (
  Call,
  axis_of,
  ceiled,
  geometry,
  is_channels,
  per_channel,
)

# ---- layers


def conv(call: Call) -> Tensor:
  tensor, weights = call.tensor(), call.needed_array(1, 4)
  kernel = weights.shape[2], weights.shape[3]
  said = call.attributes.get("kernel_shape", kernel)
  if tuple(said) != kernel:
    raise ValueError(f"has weights of {weights.shape} and kernel_shape {said}")
  strides, padding = geometry(call.attributes, tensor, kernel)
  return rows.conv(
    call.table,
    tensor,
    call.label,
    weights.transpose(2, 3, 1, 0),
    call.array(2),
    call.attributes.get("group", 1),
    strides,
    padding,
  )


def gemm(call: Call) -> Tensor:
  scales = call.attributes.get("alpha", 1.0), call.attributes.get("beta", 1.0)
  if scales != (1.0, 1.0) or call.attributes.get("transA"):
    raise ValueError(
      f"has (alpha, beta) {scales} and transA "
      f"{call.attributes.get('transA', 0)}, expected (1, 1) and 0"
    )
  matrix = call.needed_array(1, 2)
  matrix = matrix.T if call.attributes.get("transB") else matrix
  bias = call.array(2)
  if bias is not None:
    bias = np.broadcast_to(bias, (1, matrix.shape[1]))[0]
  return rows.linear(call.table, call.tensor(), call.label, matrix, bias)


def matmul(call: Call) -> Tensor:
  matrix = call.needed_array(1, 2)
  return rows.linear(call.table, call.tensor(), call.label, matrix)


def batchnormalization(call: Call) -> Tensor:
  tensor = call.tensor()
  if call.attributes.get("training_mode") or not is_channels(tensor.axes, 0):
    raise ValueError(
      "is not of the second axis in evaluation; export the network with "
      "net.eval()"
    )
  arrays = [call.needed_array(i, 1) for i in range(1, 5)]
  values = dict(zip(("scale", "bias", "mean", "var"), arrays, strict=True))
  return call.table.norm(
    tensor, call.label, values, call.attributes.get("epsilon", 1e-5)
  )


def _arithmetic(call: Call, affine: Callable[..., Any]) -> Tensor:
  """A tensor and a constant: factor and offset per channel."""
  index = 0 if call.is_tensor(0) else 1
  tensor = call.tensor(index)
  constant = call.array(1 - index)
  if constant is None:
    raise ValueError("lacks an input, expected two")
  channels = tensor.axes.shape[2]
  values = per_channel(constant, tensor.axes).astype(np.float64)
  factor, offset = affine(np.broadcast_to(values, channels), index)
  return call.table.affine(tensor, call.label, factor, offset)


def add(call: Call) -> Tensor:
  if all(call.is_tensor(i) for i in (0, 1)):
    tensors = [call.tensor(i) for i in (0, 1)]
    return rows.add(call.table, tensors, call.label)
  return _arithmetic(call, lambda c, _: (np.ones_like(c), c))


def sub(call: Call) -> Tensor:
  def affine(c, index):
    ones = np.ones_like(c)
    return (-ones, c) if index else (ones, -c)

  return _arithmetic(call, affine)


def mul(call: Call) -> Tensor:
  if all(call.is_tensor(i) for i in (0, 1)):
    raise ValueError(
      "multiplies two tensors; expected a constant: export the network "
      "without gates (SiLU, squeeze and excitation)"
    )
  return _arithmetic(call, lambda c, _: (c, np.zeros_like(c)))


def div(call: Call) -> Tensor:
  def affine(c, index):
    if index or not c.all():
      raise ValueError("divides by what is no constant other than 0")
    return 1 / c, np.zeros_like(c)

  return _arithmetic(call, affine)


# ---- activation functions


def relu(call: Call) -> Tensor:
  return call.table.relu(call.tensor(), call.label)


def clip(call: Call) -> Tensor:
  ends = [
    call.attributes.get(name) if found is None else found.item()
    for name, found in (
      ("min", call.array(1)),
      ("max", call.array(2)),
    )
  ]
  low, high = ends
  if low != 0 or (high is not None and high <= 0):
    raise ValueError(
      f"has bounds {low} and {high}, expected 0 and a positive number or "
      "none: export the network with ReLU or ReLU6"
    )
  clip = 0.0 if high is None or high >= 3e38 else high
  return call.table.relu(call.tensor(), call.label, clip)


def maximum(call: Call) -> Tensor:
  index = 0 if call.is_tensor(0) else 1
  bound = call.array(1 - index)
  if len(call.inputs) != 2 or bound is None or bound.size != 1 or bound.any():
    raise ValueError("is not of one tensor and 0, which would be a ReLU")
  return call.table.relu(call.tensor(index), call.label)


def softmax(call: Call, head: str = "softmax") -> Tensor:
  axes = call.tensor().axes
  default = -1 if call.opset >= 13 else 1
  axis = axis_of(call.attributes.get("axis", default), len(axes.groups))
  return call.table.end(call.tensor(), axis, head)


def logsoftmax(call: Call) -> Tensor:
  return softmax(call, "log_softmax")


# ---- pools and joins


def maxpool(call: Call) -> Tensor:
  return _pool(call, "max_pool")


def averagepool(call: Call) -> Tensor:
  return _pool(call, "avg_pool")


def _pool(call: Call, op: str) -> Tensor:
  tensor = call.tensor()
  kernel = tuple(call.attributes.get("kernel_shape", ()))
  if len(kernel) != 2 or min(kernel) < 1:
    raise ValueError(f"has kernel_shape {kernel}, expected two sizes")
  strides, padding = geometry(call.attributes, tensor, kernel)
  inside = any(padding) and not call.attributes.get("count_include_pad")
  if op == "avg_pool" and inside:
    raise ValueError(
      f"has padding {padding} that does not count in means; expected none, "
      "or count_include_pad"
    )
  if call.attributes.get("ceil_mode"):
    more = ceiled(tensor.sizes[-2:], kernel, strides, padding)
    if op == "avg_pool" and more != padding:
      raise ValueError("rounds sizes up; expected ceil_mode=False")
    padding = more
  return rows.pool(call.table, tensor, call.label, op, kernel, strides, padding)


def globalaveragepool(call: Call) -> Tensor:
  axes = list(range(1, len(call.tensor().axes.groups)))
  return rows.reduce(
    call.table, call.tensor(), call.label, "avg_pool", axes, True
  )


def globalmaxpool(call: Call) -> Tensor:
  axes = list(range(1, len(call.tensor().axes.groups)))
  return rows.reduce(
    call.table, call.tensor(), call.label, "max_pool", axes, True
  )


def reducemean(call: Call) -> Tensor:
  tensor = call.tensor()
  rank = len(tensor.axes.groups)
  given = call.ints(1, "axes") or [*range(rank + 1)]
  axes = [axis_of(axis, rank) for axis in given]
  keep = bool(call.attributes.get("keepdims", 1))
  return rows.reduce(call.table, tensor, call.label, "avg_pool", axes, keep)


def concat(call: Call) -> Tensor:
  tensors = [call.tensor(i) for i in range(len(call.inputs))]
  rank = len(tensors[0].axes.groups)
  axis = axis_of(call.attributes.get("axis", 1), rank)
  return rows.concat(call.table, tensors, call.label, axis)


def pad(call: Call) -> Tensor:
  tensor = call.tensor()
  rank = len(tensor.axes.groups) + 1
  pads = call.ints(1, "pads") or []
  value = call.array(2)
  value = call.attributes.get("value", 0.0) if value is None else value.item()
  mode = call.attributes.get("mode", "constant")
  axes = call.ints(3, "") or [*range(rank)]
  if mode != "constant" or value or len(pads) != 2 * len(axes):
    raise ValueError(
      f"pads in mode {mode!r} with {value}, by {pads}; expected zeros"
    )
  sides = {"H": (0, 0), "W": (0, 0)}
  ends = zip(axes, pads, pads[len(axes) :], strict=False)
  for axis, before, after in ends:
    letter = f"N{call.table.order}"[axis] if rank == 4 else "N"
    if letter in sides:
      sides[letter] = (before, after)
    elif before or after:
      raise ValueError(f"pads axis {axis}, expected height and width alone")
  return rows.pad(call.table, tensor, (*sides["H"], *sides["W"]))
