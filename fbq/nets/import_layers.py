"""Operators of files that add rows to a table.

They raise ValueError with what was met, what was expected and what would do;
the reader of the file adds the operator's name.
"""

import numpy as np

from fbq.nets.axes import Axes
from fbq.nets.import_table import Table
from fbq.nets.imported import NO_PAD, Tensor


def conv(
  table: Table,
  tensor: Tensor,
  label: str,
  kernel: np.ndarray,
  bias: np.ndarray | None,
  groups: int,
  strides: tuple[int, int],
  padding: tuple[int, ...],
) -> Tensor:
  """A convolution by a kernel [h, w, I, O].

  Args:
    tensor: tensor that it reads.
    label: its name in the file.
    kernel: for a depthwise one [h, w, 1, C].
    bias: [O], or None.
    groups: groups of channels that do not meet.
    strides: pixels from one output to the next, down and across.
    padding: zeros at (top, bottom, left, right), beside those of `tensor`.
  """
  channels = tensor.numbers().image(table.order)[2]
  height, width, inputs, outputs = kernel.shape
  is_depthwise = groups == channels == outputs and inputs == 1
  if groups != 1 and not is_depthwise:
    raise ValueError(
      f"has {groups} groups, {channels} input and {outputs} output channels; "
      "expected one group, or as many groups as input and output channels: "
      "export the network with plain or depthwise convolutions"
    )
  if inputs * groups != channels:
    raise ValueError(
      f"has weights for {inputs * groups} channels and reads {channels}"
    )
  op = "depthwise" if is_depthwise and channels > 1 else "conv"
  padding = _sum(tensor.pad, padding)
  return table.add_row(
    label,
    op,
    [tensor],
    kernel,
    bias,
    features=0 if op == "depthwise" else outputs,
    kernel_size=(height, width),
    stride=_stride(tensor, strides, (height, width), padding),
    padding=padding,
  )


def linear(
  table: Table,
  tensor: Tensor,
  label: str,
  matrix: np.ndarray,
  bias: np.ndarray | None = None,
) -> Tensor:
  """A product with a matrix [I, O], along the last axis of the file."""
  axes = tensor.plain().axes
  if matrix.ndim != 2 or not axes.groups or axes.sizes[-1] != len(matrix):
    raise ValueError(
      f"multiplies {axes.sizes} by a matrix of {matrix.shape}; expected one "
      "with a row for each number of the last axis"
    )
  if axes.is_flat:
    matrix = axes.rows_as_images(matrix)
    features = matrix.shape[1]
    made = table.add_row(
      label, "linear", [tensor], matrix, bias, features=features
    )
    groups = ("C" if features > 1 else "",)
    return made._replace(axes=Axes((1, 1, features), groups))
  if axes.groups[-1] not in ("C", "") or axes.sizes[-1] != axes.shape[2]:
    raise ValueError(
      f"multiplies along the last of axes {axes.groups} (height H, width W, "
      "channels C); expected a flattened tensor or channels last"
    )
  kernel = matrix[None, None]
  made = table.add_row(
    label, "conv", [tensor], kernel, bias, features=matrix.shape[1]
  )
  shape = table.shapes[made.node]
  last = "C" if shape[2] > 1 else ""
  return made._replace(axes=Axes(shape, (*axes.groups[:-1], last)))


def pool(
  table: Table,
  tensor: Tensor,
  label: str,
  op: str,
  kernel: tuple[int, int],
  strides: tuple[int, int],
  padding: tuple[int, ...] = NO_PAD,
) -> Tensor:
  """Maxima, or means in which zeros around the image count."""
  height, width, _ = tensor.image(table.order)
  if op == "avg_pool":
    tensor.numbers()
  if op == "max_pool" and any(tensor.pad) and table.is_negative(tensor):
    raise ValueError(
      "takes maxima of an image with zeros around that can be negative; "
      "expected padding of the pool itself, which is below all numbers"
    )
  padding = _sum(tensor.pad, padding)
  whole = kernel == (height, width) and not any(padding)
  return table.add_row(
    label,
    op,
    [tensor],
    kernel_size=None if whole else kernel,
    stride=_stride(tensor, strides, kernel, padding),
    padding=padding,
  )._replace(codes=tensor.codes)


def reduce(
  table: Table, tensor: Tensor, label: str, op: str, axes: list[int], keep: bool
) -> Tensor:
  """The pool over the whole image that a mean over file axes is."""
  made = tensor.plain().axes
  if not set(axes) <= set(range(len(made.groups))):
    raise ValueError(f"has axes {axes} beside the batch's of {made.sizes}")
  letters = {letter for axis in axes for letter in made.groups[axis]}
  if letters != {x for x in "HW" if made.side(x) > 1}:
    raise ValueError(
      f"reduces axes of {''.join(sorted(letters)) or 'one number'} (height "
      "H, width W, channels C); expected the whole height and width"
    )
  groups = [x for i, x in enumerate(made.groups) if i not in axes or keep]
  groups = tuple("" if set(x) & {"H", "W"} else x for x in groups)
  pooled = table.add_row(label, op, [tensor], kernel_size=None)
  return pooled._replace(axes=Axes(table.shapes[pooled.node], groups))


def add(table: Table, tensors: list[Tensor], label: str) -> Tensor:
  """The sum of two tensors of equal axes."""
  first, second = (tensor.plain().axes for tensor in tensors)
  if first != second:
    raise ValueError(
      f"adds tensors of {first.sizes} and {second.sizes}, expected equal "
      "sizes and orders of the axes"
    )
  return table.add_row(label, "add", tensors)._replace(axes=first)


def concat(
  table: Table, tensors: list[Tensor], label: str, axis: int
) -> Tensor:
  """Tensors side by side along the channels.

  Args:
    tensors: tensors of equal height and width; one alone stays as it is.
    label: name in the file.
    axis: axis of the file, the batch left out.
  """
  all_axes = [tensor.plain().axes for tensor in tensors]
  rests = {(*x.groups[:axis], *x.groups[axis + 1 :]) for x in all_axes}
  groups = {x.groups[axis] for x in all_axes if axis < len(x.groups)}
  if (
    len(rests) != 1
    or not groups <= {"C", ""}
    or "C" in "".join("".join(rest) for rest in rests)
  ):
    raise ValueError(
      f"joins tensors of {[x.sizes for x in all_axes]} along axis {axis + 1};"
      " expected equal heights and widths, joined along the channels"
    )
  if len(tensors) == 1:
    return tensors[0]
  made = table.add_row(label, "concat", tensors)
  rest = list(*rests)
  rest.insert(axis, "C")
  return made._replace(axes=Axes(table.shapes[made.node], tuple(rest)))


def pad(table: Table, tensor: Tensor, padding: tuple[int, ...]) -> Tensor:
  """`tensor` with zeros around, which what reads it adds."""
  tensor.image(table.order)
  return tensor._replace(pad=_sum(tensor.pad, padding))


def _stride(tensor, strides, kernel, padding) -> int:
  """One stride that makes as many windows as those of both axes."""
  rooms = [
    side + more - size
    for side, more, size in zip(
      tensor.axes.shape[:2],
      (sum(padding[:2]), sum(padding[2:])),
      kernel,
      strict=True,
    )
  ]
  if min(strides) < 1:
    raise ValueError(f"has strides {strides}, expected positive ones")
  pairs = list(zip(rooms, strides, strict=True))
  for stride in sorted(strides):
    if all(room // stride == room // own for room, own in pairs):
      return stride
  raise ValueError(f"has strides {strides}, expected two equal ones")


def _sum(a, b) -> tuple[int, int, int, int]:
  if len(b) != 4 or min(b) < 0:
    raise ValueError(
      f"has padding {tuple(b)}, expected zeros or more on four sides"
    )
  top, bottom, left, right = (x + y for x, y in zip(a, b, strict=True))
  return top, bottom, left, right
