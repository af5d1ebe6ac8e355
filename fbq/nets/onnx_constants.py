"""ONNX operators on constants: numpy, on arrays that stay small.

Exporters leave arithmetic on shapes and weights in a graph. All of it is done
when a file is read, for the batch and the image that it is read with.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Attributes = dict[str, Any]
Arrays = Sequence[Any]  # None stands for an input that is left out
_LARGEST = 2**24  # numbers that an operator makes of fewer


def value(op: str, inputs: Arrays, attributes: Attributes) -> np.ndarray:
  """What an operator makes of constants.

  Args:
    op: one of `OPERATORS`.
    inputs: its inputs.
    attributes: its attributes by name.

  Raises:
    ValueError: they do not fit the operator, or make too many numbers.
  """
  try:
    if op in _GROWTH:
      _check_growth(_GROWTH[op](inputs, attributes), inputs)
    with np.errstate(all="ignore"):
      return np.asarray(OPERATORS[op](inputs, attributes))
  except (TypeError, IndexError, KeyError, AttributeError) as error:
    raise ValueError(f"on constants: {error}") from error


def dequantized(inputs: Arrays, attributes: Attributes) -> np.ndarray:
  """Integers in their numbers, float32: scale (x - zero point)."""
  x, scale, zero = (*inputs, None)[:3]
  if attributes.get("block_size"):
    raise ValueError("has scales of blocks, expected one for each channel")
  scale = np.asarray(scale, np.float32)
  shape = [1] * x.ndim
  if scale.size > 1:
    shape[attributes.get("axis", 1)] = scale.size
  # Offsets of int32 biases need float64 before they are scaled.
  whole = x.astype(np.float64)
  if zero is not None:
    whole = whole - np.asarray(zero, np.float64).reshape(shape)
  return (whole * scale.reshape(shape)).astype(np.float32)


def reshaped_sizes(
  wanted: Sequence[int], sizes: tuple[int, ...], allow_zero: bool = False
) -> tuple[int, ...]:
  """Sizes after a Reshape of ONNX or TFLite, without its 0s and -1."""
  found = [
    sizes[i] if size == 0 and not allow_zero and i < len(sizes) else int(size)
    for i, size in enumerate(wanted)
  ]
  if found.count(-1) == 1:
    rest = -math.prod(found)
    found[found.index(-1)] = math.prod(sizes) // max(rest, 1)
  if min(found, default=1) < 0 or math.prod(found) != math.prod(sizes):
    raise ValueError(f"makes {tuple(wanted)} of {sizes}")
  return tuple(found)


def _axes(inputs, attributes):
  given = attributes.get("axes") if len(inputs) < 2 else inputs[1]
  return None if given is None else tuple(int(x) for x in np.ravel(given))


def _slice(inputs, attributes):
  x = inputs[0]
  if len(inputs) > 1:  # since opset 10
    starts, ends, axes, steps = (*inputs[1:], None, None)[:4]
  else:
    starts, ends = attributes["starts"], attributes["ends"]
    axes, steps = attributes.get("axes"), None
  axes = range(len(starts)) if axes is None else axes
  steps = [1] * len(starts) if steps is None else steps
  place = [slice(None)] * x.ndim
  for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
    end = None if step < 0 and end < -x.shape[axis] else int(end)
    place[axis] = slice(int(start), end, int(step))
  return x[tuple(place)]


def _cast(inputs, attributes):
  import onnx

  dtype = onnx.helper.tensor_dtype_to_np_dtype(attributes["to"])
  return inputs[0].astype(dtype)


def _check_growth(sizes, inputs):
  """Raises ValueError where sizes are no sizes, or those of a trap."""
  count = math.prod(sizes)
  most = max(_LARGEST, *(x.size for x in inputs if x is not None))
  if min(sizes, default=1) < 0 or count > most:
    raise ValueError(
      f"makes a constant of {tuple(sizes)}, expected at most {most:,} numbers"
    )


def _filled(inputs, attributes):
  value = attributes.get("value")
  return np.full(
    tuple(map(int, inputs[0])), 0 if value is None else value.ravel()[0]
  )


def _divide(inputs, attributes):
  a, b = inputs
  if np.issubdtype(a.dtype, np.integer):
    return np.trunc(a / np.where(b == 0, 1, b)).astype(a.dtype)
  return a / b


def _broadcast(inputs, attributes):
  return np.broadcast_shapes(*(x.shape for x in inputs))


def _gathered(inputs, attributes):
  x, picked = inputs
  return x.size // max(1, x.shape[attributes.get("axis", 0)]), picked.size


def _expanded(inputs, attributes):
  return np.broadcast_shapes(inputs[0].shape, tuple(map(int, inputs[1])))


def _unsqueezed(inputs, attributes):
  return np.expand_dims(inputs[0], _axes(inputs, attributes) or ())


def _of_two(function):
  return lambda inputs, attributes: function(inputs[0], inputs[1])


def _of_one(function):
  return lambda inputs, attributes: function(inputs[0])


OPERATORS: dict[str, Callable[[Arrays, Attributes], np.ndarray]] = {
  "Add": _of_two(np.add),
  "Cast": _cast,
  "CastLike": _of_two(lambda x, y: x.astype(y.dtype)),
  "Ceil": _of_one(np.ceil),
  "Concat": lambda x, a: np.concatenate(x, a["axis"]),
  "ConstantOfShape": _filled,
  "DequantizeLinear": dequantized,
  "Div": _divide,
  "Expand": lambda x, a: np.broadcast_to(x[0], _expanded(x, a)),
  "Floor": _of_one(np.floor),
  "Gather": lambda x, a: np.take(x[0], x[1], a.get("axis", 0)),
  "Identity": _of_one(np.asarray),
  "Max": _of_two(np.maximum),
  "Min": _of_two(np.minimum),
  "Mul": _of_two(np.multiply),
  "Neg": _of_one(np.negative),
  "Pow": _of_two(np.power),
  "Reshape": lambda x, a: x[0].reshape(
    reshaped_sizes(x[1], x[0].shape, a.get("allowzero", 0))
  ),
  "Slice": _slice,
  "Sqrt": _of_one(np.sqrt),
  "Squeeze": lambda x, a: np.squeeze(x[0], _axes(x, a)),
  "Sub": _of_two(np.subtract),
  "Transpose": lambda x, a: np.transpose(x[0], a.get("perm")),
  "Unsqueeze": _unsqueezed,
}
# Operator -> sizes, or factors of the count, of what it makes; the others make
# no more than they read.
_GROWTH: dict[str, Callable[[Arrays, Attributes], Sequence[int]]] = {
  **dict.fromkeys(
    ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub"), _broadcast
  ),
  "Concat": lambda x, a: (sum(part.size for part in x),),
  "ConstantOfShape": lambda x, a: tuple(map(int, x[0])),
  "Expand": _expanded,
  "Gather": _gathered,
}
