"""ONNX operators that move numbers or write them as integers: no rows."""

import numpy as np

from fbq.nets import onnx_constants, onnx_file
from fbq.nets.imported import Tensor
from fbq.nets.onnx_call import Call, axis_of

# ---- what moves no number


def alias(call: Call) -> Tensor:
  return call.tensor()


def cast(call: Call) -> Tensor:
  """To other floats; what is lost of numbers the comparison tells."""
  import onnx

  kind = onnx.TensorProto.DataType.Name(call.attributes["to"])
  if kind not in onnx_file.FLOATS:
    raise ValueError(f"makes {kind}, expected floats")
  return call.tensor()


def flatten(call: Call) -> Tensor:
  axes = call.tensor().axes
  if call.attributes.get("axis", 1) not in (1, -len(axes.groups)):
    raise ValueError("flattens the batch with the image, expected axis 1")
  return _reshaped(call, (-1,))


def reshape(call: Call) -> Tensor:
  wanted = call.ints(1, "shape") or []
  sizes = (call.batch, *call.tensor().axes.sizes)
  found = onnx_constants.reshaped_sizes(
    wanted, sizes, call.attributes.get("allowzero", 0)
  )
  if not found or found[0] != call.batch:
    raise ValueError(f"makes {found} of {sizes}, expected the batch to stay")
  return _reshaped(call, found[1:])


def _reshaped(call: Call, sizes: tuple[int, ...]) -> Tensor:
  tensor = call.tensor()
  sizes = onnx_constants.reshaped_sizes(sizes, tensor.axes.sizes)
  return call.table.moved(tensor, tensor.axes.reshaped(sizes))


def squeeze(call: Call) -> Tensor:
  sizes = call.tensor().axes.sizes
  given = call.ints(1, "axes")
  if given is None:
    raise ValueError("has no axes, and would squeeze a batch of one too")
  axes = {axis_of(axis, len(sizes)) for axis in given}
  if any(sizes[axis] != 1 for axis in axes):
    raise ValueError(f"squeezes axes {given} of {(call.batch, *sizes)}")
  rest = [size for i, size in enumerate(sizes) if i not in axes]
  return _reshaped(call, tuple(rest))


def unsqueeze(call: Call) -> Tensor:
  sizes = [*call.tensor().axes.sizes]
  given = call.ints(1, "axes") or []
  rank = len(sizes) + len(given)
  for axis in sorted(axis_of(axis, rank) for axis in given):
    sizes.insert(axis, 1)
  return _reshaped(call, tuple(sizes))


def transpose(call: Call) -> Tensor:
  tensor = call.tensor()
  rank = len(tensor.axes.groups) + 1
  order = call.attributes.get("perm", [*range(rank)][::-1])
  if order[:1] != [0]:
    raise ValueError(f"moves the batch, by {order}; expected it to stay")
  axes = tensor.axes.transposed(tuple(axis - 1 for axis in order[1:]))
  return call.table.moved(tensor, axes)


# ---- quantized files


def quantizelinear(call: Call) -> Tensor:
  scale, zero, codes = _grid(call)
  return call.table.quantize(call.tensor(), call.label, scale, zero, codes)


def dequantizelinear(call: Call) -> Tensor:
  scale, zero, _ = _grid(call)
  return call.table.dequantize(call.tensor(), scale, zero)


def _grid(call: Call) -> tuple[float, int, range]:
  """(scale, zero point, all integers) of a tensor."""
  scale, zero = call.array(1), call.array(2)
  zero = np.zeros((), np.uint8) if zero is None else zero
  if scale is None or scale.size != 1 or zero.size != 1:
    raise ValueError("has a scale for each channel, expected one")
  if zero.dtype not in (np.uint8, np.int8, np.uint16, np.int16):
    raise ValueError(f"makes {zero.dtype}, expected 8 or 16 bits")
  ends = np.iinfo(zero.dtype)
  return scale.item(), zero.item(), range(ends.min, ends.max + 1)
