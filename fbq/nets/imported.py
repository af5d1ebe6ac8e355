"""A network out of the operators of a file: what every format has in common.

A reader of a format hands over operator after operator; `Table` makes rows of
a `Net` of them, as `fbq` has them: batch norms, biases, padding and activation
functions belong to the layer before, or else become a 1x1 depthwise layer.
"""

import collections
import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.axes import Axes, Shape
from fbq.nets.graph import INPUT, Net, Node
from fbq.nets.node import layer_of, shape_of
from fbq.variables import check_numbers

MOST_OPERATORS = 20_000
MOST_NUMBERS = 2**31  # in a tensor
_EPSILON = 1e-5  # of `fbq.model`'s batch norm
_SHORT = {"depthwise": "dw", "linear": "fc", "avg_pool": "pool"}
_WEIGHTED = ("conv", "depthwise", "linear")
_NO_PAD = (0, 0, 0, 0)


class Imported(NamedTuple):
  """A network and what a file says of it.

  Attributes:
    net: the network.
    variables: "params" and, with batch norm, "batch_stats" of its model.
    mean, std: per channel; the network reads (x - mean) / std of the x that the
      file reads, integers as they are.
    codes: (lowest, highest) integer that the file reads; None where it reads
      floats.
    labels: name of a node -> name of its operator in the file.
    ranges: activation site -> (lowest, highest number), of a quantized file.
    head: "softmax" or "log_softmax" where the file ends in one, else "".
    input_axes, output_axes: how the file lays out images and logits.
    notes: sentences about what differs from the file.
  """

  net: Net
  variables: dict[str, dict[str, Any]]
  mean: np.ndarray
  std: np.ndarray
  codes: tuple[int, int] | None
  labels: dict[str, str]
  ranges: dict[str, tuple[float, float]]
  head: str
  input_axes: Axes
  output_axes: Axes
  notes: tuple[str, ...]

  @property
  def normalization(self) -> tuple[np.ndarray, np.ndarray]:
    """(mean, std) per channel of images in [0, 1], black to white.

    A file that reads integers has black at the lowest; one that reads floats is
    taken to read images in [0, 1].
    """
    low, high = self.codes or (0, 1)
    return (self.mean - low) / (high - low), self.std / (high - low)


class Tensor(NamedTuple):
  """A tensor of a file.

  Attributes:
    node: node whose tensor it is.
    axes: how the file lays it out.
    alone: whether nothing else reads what the node makes.
    pad: zeros at (top, bottom, left, right) that what reads it must add.
    codes: (scale, zero point) where the file has integers here.
    head: function at the end of the network that was dropped before it.
  """

  node: str
  axes: Axes
  alone: bool = True
  pad: tuple[int, int, int, int] = _NO_PAD
  codes: tuple[float, int] | None = None
  head: str = ""

  @property
  def sizes(self) -> tuple[int, ...]:
    """Sizes of its axes in the file, zeros around included."""
    (height, width, channels), (top, bottom, left, right) = (
      self.axes.shape,
      self.pad,
    )
    shape = (height + top + bottom, width + left + right, channels)
    return self.axes._replace(shape=shape).sizes


@dataclasses.dataclass
class _Row:
  """A node with its arrays; `can_be_negative` is of its tensor."""

  node: Node
  label: str
  can_be_negative: bool
  kernel: np.ndarray | None = None
  bias: np.ndarray | None = None
  norm: dict[str, np.ndarray] | None = None


class Table:
  """Rows of a network, added operator by operator.

  Methods raise ValueError with what was met, what was expected and what would
  do; the reader adds the operator's name.
  """

  def __init__(self, name: str, axes: Axes, order: str):
    """A table without rows.

    Args:
      name: name of the network.
      axes: axes of the image in the file.
      order: letters of the axes that convolutions of the file have.
    """
    self.name, self.axes, self.order = name, axes, order
    self.shapes: dict[str, Shape] = {}
    self._keep_shape(INPUT, axes.shape)
    self.ranges: dict[str, tuple[float, float]] = {}
    self.notes: list[str] = []
    self.mean, self.std = np.zeros(axes.shape[2]), np.ones(axes.shape[2])
    self.codes: tuple[int, int] | None = None
    self._rows: dict[str, _Row] = {}
    self._counts = collections.Counter()

  # ---- operators

  def conv(
    self,
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
    channels = self._image(self._no_codes(tensor))[2]
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
    return self._add(
      label,
      op,
      [tensor],
      kernel,
      bias,
      features=0 if op == "depthwise" else outputs,
      kernel_size=(height, width),
      stride=self._stride(tensor, strides, (height, width), padding),
      padding=padding,
    )

  def linear(
    self,
    tensor: Tensor,
    label: str,
    matrix: np.ndarray,
    bias: np.ndarray | None = None,
  ) -> Tensor:
    """A product with a matrix [I, O], along the last axis of the file."""
    axes = self._values(tensor).axes
    if matrix.ndim != 2 or not axes.groups or axes.sizes[-1] != len(matrix):
      raise ValueError(
        f"multiplies {axes.sizes} by a matrix of {matrix.shape}; expected one "
        "with a row for each number of the last axis"
      )
    if axes.is_flat:
      matrix = axes.rows_as_images(matrix)
      features = matrix.shape[1]
      made = self._add(
        label, "linear", [tensor], matrix, bias, features=features
      )
      groups = ("C" if features > 1 else "",)
      return made._replace(axes=Axes((1, 1, features), groups))
    if axes.groups[-1] not in ("C", ""):
      raise ValueError(
        f"multiplies along the axis of {axes.groups[-1]} (height H, width W, "
        "channels C); expected a flattened tensor or channels last"
      )
    kernel = matrix[None, None]
    made = self._add(
      label, "conv", [tensor], kernel, bias, features=matrix.shape[1]
    )
    shape = self.shapes[made.node]
    last = "C" if shape[2] > 1 else ""
    return made._replace(axes=Axes(shape, (*axes.groups[:-1], last)))

  def pool(
    self,
    tensor: Tensor,
    label: str,
    op: str,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, ...] = _NO_PAD,
  ) -> Tensor:
    """Maxima, or means in which zeros around the image count."""
    height, width, _ = self._image(tensor)
    if op == "avg_pool":
      self._no_codes(tensor)
    if op == "max_pool" and any(tensor.pad) and self._is_negative(tensor):
      raise ValueError(
        "takes maxima of an image with zeros around that can be negative; "
        "expected padding of the pool itself, which is below all numbers"
      )
    padding = _sum(tensor.pad, padding)
    whole = kernel == (height, width) and not any(padding)
    return self._add(
      label,
      op,
      [tensor],
      kernel_size=None if whole else kernel,
      stride=self._stride(tensor, strides, kernel, padding),
      padding=padding,
    )._replace(codes=tensor.codes)

  def reduce(
    self, tensor: Tensor, label: str, op: str, axes: list[int], keep: bool
  ) -> Tensor:
    """The pool over the whole image that a mean over file axes is."""
    made = self._values(tensor).axes
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
    pooled = self._add(label, op, [tensor], kernel_size=None)
    return pooled._replace(axes=Axes(self.shapes[pooled.node], groups))

  def add(self, tensors: list[Tensor], label: str) -> Tensor:
    """The sum of two tensors of equal axes."""
    first, second = (self._values(tensor).axes for tensor in tensors)
    if first != second:
      raise ValueError(
        f"adds tensors of {first.sizes} and {second.sizes}, expected equal "
        "sizes and orders of the axes"
      )
    return self._add(label, "add", tensors)._replace(axes=first)

  def concat(self, tensors: list[Tensor], label: str, axis: int) -> Tensor:
    """Tensors side by side along the channels.

    Args:
      tensors: tensors of equal height and width; one alone stays as it is.
      label: name in the file.
      axis: axis of the file, the batch left out.
    """
    all_axes = [self._values(tensor).axes for tensor in tensors]
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
    made = self._add(label, "concat", tensors)
    rest = list(*rests)
    rest.insert(axis, "C")
    return made._replace(axes=Axes(self.shapes[made.node], tuple(rest)))

  def moved(self, tensor: Tensor, axes: Axes) -> Tensor:
    """`tensor` in other axes, whose numbers are not touched."""
    return self._without_pad(tensor)._replace(axes=axes)

  def pad(self, tensor: Tensor, padding: tuple[int, ...]) -> Tensor:
    """`tensor` with zeros around, which what reads it adds."""
    self._image(tensor)
    return tensor._replace(pad=_sum(tensor.pad, padding))

  def norm(
    self,
    tensor: Tensor,
    label: str,
    values: dict[str, np.ndarray],
    epsilon: float,
  ) -> Tensor:
    """Batch norm; `values` are its scale, bias, mean and var, [C] each."""
    channels = self._values(tensor).axes.shape[2]
    if any(value.shape != (channels,) for value in values.values()):
      raise ValueError(
        f"has numbers for {[x.shape for x in values.values()]} channels, "
        f"expected {channels}"
      )
    values = {k: value.astype(np.float64) for k, value in values.items()}
    if np.min(values["var"] + epsilon) <= 0:
      raise ValueError("has a variance that is not positive")

    # Kept as a batch norm, which can be trained, behind a layer that has none.
    row, var = self._last(tensor), values["var"] + epsilon - _EPSILON
    if row and row.node.op in _WEIGHTED and not row.norm and var.min() >= 0:
      mean = values["mean"] - (0 if row.bias is None else row.bias)
      row.norm = {**values, "mean": mean, "var": var}
      row.node = dataclasses.replace(row.node, norm=True, bias=False)
      row.bias = None
      return tensor
    factor = values["scale"] / np.sqrt(values["var"] + epsilon)
    offset = values["bias"] - values["mean"] * factor
    return self.affine(tensor, label, factor, offset)

  def affine(
    self, tensor: Tensor, label: str, factor: np.ndarray, offset: np.ndarray
  ) -> Tensor:
    """factor x + offset, both float64 [C]."""
    row = self._last(tensor)
    if row and row.node.op in _WEIGHTED:
      if row.norm:
        row.norm["scale"] = row.norm["scale"] * factor
        row.norm["bias"] = row.norm["bias"] * factor + offset
        return tensor
      row.kernel = row.kernel * factor
      row.bias = (0 if row.bias is None else row.bias * factor) + offset
      row.node = dataclasses.replace(row.node, bias=True)
      return tensor

    # What is done to the image, unless a layer reads it unchanged besides, is
    # left to who brings it. 1x1 layers do it elsewhere.
    self._values(tensor)
    if tensor.node == INPUT and tensor.alone and factor.min() > 0:
      self.std = self.std / factor
      self.mean = self.mean - offset * self.std
      return tensor
    return self._own_layer(tensor, label, factor, offset)

  def relu(self, tensor: Tensor, label: str, clip: float = 0.0) -> Tensor:
    """The positive part, at most `clip` unless that is 0."""
    if not (math.isfinite(clip) and clip >= 0):
      raise ValueError(f"clips at {clip}, expected a positive number")
    self._values(tensor)
    row = self._last(tensor, active=True)
    if row is None or row.node.op not in (*_WEIGHTED, "add"):
      if not clip and not self._is_negative(tensor):
        return tensor
      ones = np.ones(tensor.axes.shape[2])
      tensor = self._own_layer(tensor, label, ones, None)
      row = self._rows[tensor.node]
    clips = [x for x in (clip, row.node.clip) if x]
    row.node = dataclasses.replace(
      row.node, activation="relu", clip=min(clips, default=0.0)
    )
    row.can_be_negative = False
    return tensor

  def quantize(
    self, tensor: Tensor, label: str, scale: float, zero: int, codes: range
  ) -> Tensor:
    """`tensor` where the file has integers; its range is kept.

    Where the lowest integer means 0, a ReLU was left out for it.

    Args:
      tensor: tensor that is quantized.
      label: name in the file.
      scale: step of the integers.
      zero: integer that means 0.
      codes: the integers that there are.
    """
    if tensor.head:
      return tensor
    self._values(tensor)
    low = (codes[0] - zero) * scale
    if low == 0 and tensor.node != INPUT and self._is_negative(tensor):
      tensor = self.relu(tensor, label, (codes[-1] - zero) * scale)
    self.see_range(tensor, scale, zero, codes)
    return tensor._replace(codes=(scale, zero))

  def see_range(
    self, tensor: Tensor, scale: float, zero: int, codes: range
  ) -> None:
    """Keeps the range that a tensor has in the file, as in `quantize`."""
    if not (math.isfinite(scale) and scale > 0 and zero in codes):
      raise ValueError(f"has scale {scale} and zero point {zero} of {codes}")
    low, high = ((end - zero) * scale for end in (codes[0], codes[-1]))
    self.ranges[tensor.node] = (low, high)

  def dequantize(self, tensor: Tensor, scale: float, zero: int) -> Tensor:
    """`tensor` where the file has its numbers again."""
    if tensor.head:
      return tensor
    if tensor.codes != (scale, zero):
      raise ValueError(
        f"takes integers of (scale, zero point) {tensor.codes} for ones of "
        f"{(scale, zero)}; expected the same: export the network before its "
        "quantization"
      )
    return tensor._replace(codes=None)

  def reads_integers(self, scale: float, zero: int, codes: range) -> None:
    """Notes that the file reads integers, as `quantize` has them."""
    self.codes = codes[0], codes[-1]
    self.mean, self.std = self.mean + zero, self.std / scale

  def end(self, tensor: Tensor, axis: int, head: str) -> Tensor:
    """A softmax at the end of the network, which is left out."""
    axes = self._values(tensor).axes
    if axis >= len(axes.groups) or axes.groups[axis] != axes.order != "C":
      raise ValueError("is not over the classes")
    self.notes.append(f"the {head} at the end is left out: outputs are logits")
    return tensor._replace(head=head)

  # ---- the network

  def finish(self, tensor: Tensor) -> Imported:
    """The network that ends in `tensor`."""
    if not self._rows or tensor.node != list(self._rows)[-1] or any(tensor.pad):
      raise ValueError(
        f"net {self.name!r}: its output is no layer's, or not the last one's"
      )
    last = self._rows[tensor.node]
    if last.node.op == "add":
      raise ValueError(
        f"net {self.name!r}: it ends in {last.label!r}, which adds; expected a "
        "layer with weights that makes the logits"
      )
    last.node = dataclasses.replace(last.node, is_output=True)
    net = Net(
      self.name, self.axes.shape, tuple(x.node for x in self._rows.values())
    )
    variables = self._variables()
    check_numbers(variables)

    # Tensors of one site have one range, the widest.
    ranges: dict[str, tuple[float, float]] = {}
    for name, (low, high) in self.ranges.items():
      if site := net.site_of[name]:
        seen = ranges.get(site, (low, high))
        ranges[site] = (min(low, seen[0]), max(high, seen[1]))
    return Imported(
      *(net, variables, self.mean, self.std, self.codes),
      {name: row.label for name, row in self._rows.items()},
      *(ranges, tensor.head, self.axes, tensor.axes, tuple(self.notes)),
    )

  def _variables(self):
    params, stats = {}, {}
    single = lambda x: np.asarray(x, np.float32)
    for name, row in self._rows.items():
      if row.kernel is not None:
        params[f"{name}_kernel"] = single(row.kernel)
      if row.bias is not None:
        params[f"{name}_bias"] = single(row.bias)
      if row.norm:
        parts = {key: single(value) for key, value in row.norm.items()}
        params[f"{name}_norm"] = {k: parts[k] for k in ("scale", "bias")}
        stats[f"{name}_norm"] = {k: parts[k] for k in ("mean", "var")}
    return {"params": params} | ({"batch_stats": stats} if stats else {})

  # ---- rows

  def _add(
    self, label, op, tensors, kernel=None, bias=None, kernel_size=(1, 1), **more
  ) -> Tensor:
    """A new row, and its tensor in the order of the file's convolutions."""
    short = _SHORT.get(op, op)
    self._counts[short] += 1
    name = f"{short}{self._counts[short]}"
    inputs = tuple(tensor.node for tensor in tensors)
    if bias is not None and bias.shape != kernel.shape[-1:]:
      raise ValueError(
        f"has a bias of {bias.shape}, expected {kernel.shape[-1:]}"
      )
    node = Node(
      name, op, inputs, kernel=kernel_size, bias=bias is not None, **more
    )
    shapes = [self.shapes[x] for x in inputs]
    shape = shape_of(node, layer_of(self.name, node, shapes))
    self._keep_shape(name, shape)

    passes = op in ("max_pool", "avg_pool", "concat")
    negative = not passes or any(map(self._is_negative, tensors))
    self._rows[name] = _Row(node, label, negative, kernel, bias)
    return Tensor(name, Axes.of(shape, self.order))

  def _stride(self, tensor, strides, kernel, padding) -> int:
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

  def _keep_shape(self, name, shape):
    if min(shape) < 1 or math.prod(shape) >= MOST_NUMBERS:
      raise ValueError(
        f"{name} is {shape} as height, width and channels; expected positive "
        f"sizes and fewer than {MOST_NUMBERS:,} numbers"
      )
    self.shapes[name] = shape

  def _own_layer(self, tensor, label, factor, offset):
    """A 1x1 depthwise layer for what no layer before can take."""
    self._values(tensor)
    op = "depthwise" if len(factor) > 1 else "conv"
    made = self._add(
      label,
      op,
      [tensor],
      factor.reshape(1, 1, 1, -1),
      offset,
      features=0 if op == "depthwise" else 1,
    )
    self.notes.append(f"{label} is a 1x1 layer of its own, {made.node}")
    return made._replace(axes=tensor.axes)

  def _last(self, tensor: Tensor, active: bool = False) -> _Row | None:
    """The row that may take what comes after it.

    Args:
      tensor: tensor of the row.
      active: whether it may have an activation function already.
    """
    row = self._rows.get(tensor.node)
    self._values(tensor)
    if row is None or not tensor.alone:
      return None
    if row.node.activation != "none" and not active:
      return None
    self.ranges.pop(tensor.node, None)  # which was before what comes now
    return row

  def _is_negative(self, tensor: Tensor) -> bool:
    row = self._rows.get(tensor.node)
    return row is None or row.can_be_negative

  def _values(self, tensor: Tensor) -> Tensor:
    """`tensor`, of numbers as they are."""
    return self._no_codes(self._without_pad(tensor))

  def _without_pad(self, tensor):
    if any(tensor.pad):
      raise ValueError(
        f"reads a tensor with zeros {tensor.pad} around; only convolutions and "
        "pools take padding"
      )
    return tensor

  def _no_codes(self, tensor):
    if tensor.codes:
      raise ValueError(
        "computes with integers; expected DequantizeLinear before it, or the "
        "network before its quantization"
      )
    if tensor.head:
      raise ValueError(f"reads a {tensor.head}, expected that at the end alone")
    return tensor

  def _image(self, tensor: Tensor) -> Shape:
    """(height, width, channels) of what a convolution or pool reads."""
    if tensor.head or not tensor.axes.is_in(self.order):
      raise ValueError(
        f"reads a tensor of {tensor.axes.sizes}, whose axes are "
        f"{tensor.axes.groups} (height H, width W, channels C); expected "
        f"{', '.join(self.order)} beside the batch"
      )
    return self.shapes[tensor.node]


def _sum(a, b) -> tuple[int, int, int, int]:
  if len(b) != 4 or min(b) < 0:
    raise ValueError(
      f"has padding {tuple(b)}, expected zeros or more on four sides"
    )
  top, bottom, left, right = (x + y for x, y in zip(a, b, strict=True))
  return top, bottom, left, right
