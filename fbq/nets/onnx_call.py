"""One node of an ONNX graph: its inputs, attributes and geometry."""

from typing import Any, NamedTuple

import numpy as np

from fbq.nets.axes import Axes
from fbq.nets.import_table import Table
from fbq.nets.imported import Tensor, constant
from fbq.nets.node import same_padding


class Call(NamedTuple):
  """A node that depends on the image.

  Attributes:
    label: its name.
    inputs: what it reads, by place: a tensor, a constant, or None.
    attributes: its attributes by name.
    table: rows of the network so far.
    batch: images that shapes in the file are for.
    opset: version of the operators.
  """

  label: str
  inputs: tuple[Tensor | np.ndarray | None, ...]
  attributes: dict[str, Any]
  table: Table
  batch: int
  opset: int

  def tensor(self, index: int = 0) -> Tensor:
    """An input that depends on the image."""
    found = self.inputs[index] if index < len(self.inputs) else None
    if not isinstance(found, Tensor):
      raise ValueError(f"input {index} is a constant, expected a tensor")
    return found

  def is_tensor(self, index: int) -> bool:
    return index < len(self.inputs) and isinstance(self.inputs[index], Tensor)

  def array(self, index: int) -> np.ndarray | None:
    """A constant input, or None where it is left out."""
    return constant(self.inputs, index)

  def needed_array(self, index: int, rank: int) -> np.ndarray:
    """A constant input of so many axes."""
    found = self.array(index)
    if found is None or found.ndim != rank or not found.size:
      shape = None if found is None else found.shape
      raise ValueError(
        f"input {index} is of {shape}, expected {rank} axes: layers of two "
        "axes of pixels"
      )
    return found

  def ints(self, index: int, name: str) -> list[int] | None:
    """Whole numbers that are an input or, in early opsets, an attribute."""
    found = self.array(index)
    given = self.attributes.get(name) if found is None else found.ravel()
    if given is None:
      return None
    return [int(x) for x in np.atleast_1d(given)]


def axis_of(axis: int, rank: int) -> int:
  """An axis of a tensor, counted without the batch."""
  found = axis if axis >= 0 else axis + rank + 1
  if not 1 <= found <= rank:
    raise ValueError(
      f"has axis {axis} of {rank + 1}, expected one beside the batch's"
    )
  return found - 1


def is_channels(axes: Axes, axis: int) -> bool:
  """Whether an axis of the file is that of the channels."""
  return axes.groups[axis : axis + 1] == ("C" if axes.shape[2] > 1 else "",)


def per_channel(constant: np.ndarray, axes: Axes) -> np.ndarray:
  """[C] or [1] of a constant that is broadcast to a tensor."""
  rank = len(axes.groups) + 1
  if constant.size == 1 and constant.ndim <= rank:
    return constant.reshape(1)
  shape = (1,) * (rank - constant.ndim) + constant.shape
  place = [i for i, size in enumerate(shape) if size > 1]
  groups = ["batch", *axes.groups]
  if len(shape) != rank or [groups[i] for i in place] != ["C"]:
    raise ValueError(
      f"has a constant of {constant.shape} for a tensor of {axes.sizes}; "
      "expected a number for each channel"
    )
  if constant.size != axes.shape[2]:
    raise ValueError(
      f"has {constant.size} numbers for {axes.shape[2]} channels"
    )
  return constant.reshape(-1)


def geometry(
  attributes: dict[str, Any], tensor: Tensor, kernel: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
  """(strides, padding at (top, bottom, left, right)) of a window."""
  strides = attributes.get("strides", [1, 1])
  dilations = attributes.get("dilations", [1, 1])
  if len(strides) != 2 or min(strides) < 1:
    raise ValueError(f"has strides {strides}, expected two positive ones")
  if set(dilations) != {1}:
    raise ValueError(f"has dilations {dilations}, expected 1")

  # pads are [top, left, bottom, right]; or follow from the sizes
  mode = attributes.get("auto_pad", "NOTSET")
  if mode in ("SAME_UPPER", "SAME_LOWER"):
    pairs = [
      same_padding(size, side, stride)
      for size, side, stride in zip(
        tensor.sizes[-2:], kernel, strides, strict=True
      )
    ]
    if mode == "SAME_LOWER":
      pairs = [pair[::-1] for pair in pairs]
    return (strides[0], strides[1]), (*pairs[0], *pairs[1])
  pads = attributes.get("pads", [0] * 4) if mode == "NOTSET" else [0] * 4
  if len(pads) != 4:
    raise ValueError(f"has pads {pads}, expected four")
  return (strides[0], strides[1]), (pads[0], pads[2], pads[1], pads[3])


def ceiled(
  sizes: tuple[int, ...],
  kernel: tuple[int, int],
  strides: tuple[int, int],
  padding: tuple[int, int, int, int],
) -> tuple[int, int, int, int]:
  """Padding of a pool whose last window may reach over the border."""
  found = []
  for size, side, stride, (before, after) in zip(
    sizes, kernel, strides, (padding[:2], padding[2:]), strict=True
  ):
    steps = -(-(size + before + after - side) // stride)
    if steps * stride >= size + before:  # that window would see padding alone
      steps -= 1
    found += [before, max(after, steps * stride + side - size - before)]
  return found[0], found[1], found[2], found[3]
