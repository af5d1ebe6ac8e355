"""Rows of a network that is read from a file, operator by operator.

`Table` has rows as `fbq` has them: batch norms, biases, padding and activation
functions belong to the layer before, or else become a 1x1 depthwise layer. The
operators that add rows are in `fbq.nets.import_layers`.
"""

import collections
import dataclasses
import math

import numpy as np

from fbq.nets.axes import Axes, Shape
from fbq.nets.graph import INPUT, Net, Node
from fbq.nets.imported import MOST_NUMBERS, Imported, Tensor
from fbq.nets.node import layer_of, shape_of
from fbq.variables import check_numbers
from hwsim.workload import WEIGHTED_OPS

_EPSILON = 1e-5  # of `fbq.model`'s batch norm
_SHORT = {"depthwise": "dw", "linear": "fc", "avg_pool": "pool"}


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
    self.steps: dict[str, np.ndarray] = {}  # of a tensor or NAME.weight
    self.notes: list[str] = []
    self.mean, self.std = np.zeros(axes.shape[2]), np.ones(axes.shape[2])
    self.codes: tuple[int, int] | None = None
    self._rows: dict[str, _Row] = {}
    self._counts = collections.Counter()

  def moved(self, tensor: Tensor, axes: Axes) -> Tensor:
    """`tensor` in other axes, whose numbers are not touched."""
    return tensor.unpadded()._replace(axes=axes)

  def norm(
    self,
    tensor: Tensor,
    label: str,
    values: dict[str, np.ndarray],
    epsilon: float,
  ) -> Tensor:
    """Batch norm; `values` are its scale, bias, mean and var, [C] each."""
    channels = tensor.plain().axes.shape[2]
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
    if row and row.node.op in WEIGHTED_OPS and not row.norm and var.min() >= 0:
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
    if row and row.node.op in WEIGHTED_OPS:
      if row.norm:
        row.norm["scale"] = row.norm["scale"] * factor
        row.norm["bias"] = row.norm["bias"] * factor + offset
        return tensor
      self.steps.pop(f"{row.node.name}.weight", None)
      row.kernel = row.kernel * factor
      row.bias = (0 if row.bias is None else row.bias * factor) + offset
      row.node = dataclasses.replace(row.node, bias=True)
      return tensor

    # What is done to the image, unless a layer reads it unchanged besides, is
    # left to who brings it. 1x1 layers do it elsewhere.
    tensor.plain()
    if tensor.node == INPUT and tensor.alone and factor.min() > 0:
      self.std = self.std / factor
      self.mean = self.mean - offset * self.std
      return tensor
    return self._own_layer(tensor, label, factor, offset)

  def relu(self, tensor: Tensor, label: str, clip: float = 0.0) -> Tensor:
    """The positive part, at most `clip` unless that is 0."""
    if not (math.isfinite(clip) and clip >= 0):
      raise ValueError(f"clips at {clip}, expected a positive number")
    tensor.plain()
    row = self._last(tensor, active=True)
    if row is None or row.node.op not in (*WEIGHTED_OPS, "add"):
      if not clip and not self.is_negative(tensor):
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
    tensor.plain()
    low = (codes[0] - zero) * scale
    if low == 0 and tensor.node != INPUT and self.is_negative(tensor):
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
    if not self.is_negative(tensor):
      low = max(low, 0.0)
    self.ranges[tensor.node] = (low, high)
    self.steps[tensor.node] = np.asarray(scale, np.float64)

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
    axes = tensor.plain().axes
    if axes.order != "C" or axes.groups[axis] != "C":
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
    sites = {**net.site_of, **{site: site for site in net.workload.sites}}
    steps = {
      site: step
      for name, step in self.steps.items()
      if (site := sites.get(name))
    }
    return Imported(
      *(net, variables, self.mean, self.std, self.codes),
      {name: row.label for name, row in self._rows.items()},
      *(ranges, steps, tensor.head),
      *(self.axes, tensor.axes, tuple(self.notes)),
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

  def add_row(
    self, label, op, tensors, kernel=None, bias=None, kernel_size=(1, 1), **more
  ) -> Tensor:
    """A new row, and its tensor in the order of the file's convolutions."""
    short = _SHORT.get(op, op)
    self._counts[short] += 1
    name = f"{short}{self._counts[short]}"
    inputs = tuple(tensor.node for tensor in tensors)
    outputs = () if kernel is None else kernel.shape[-1:]
    if bias is not None and bias.shape != outputs:
      raise ValueError(f"has a bias of {bias.shape}, expected {outputs}")
    node = Node(
      name, op, inputs, kernel=kernel_size, bias=bias is not None, **more
    )
    shapes = [self.shapes[x] for x in inputs]
    shape = shape_of(node, layer_of(self.name, node, shapes))
    self._keep_shape(name, shape)

    passes = op in ("max_pool", "avg_pool", "concat")
    negative = not passes or any(map(self.is_negative, tensors))
    self._rows[name] = _Row(node, label, negative, kernel, bias)
    return Tensor(name, Axes.of(shape, self.order))

  def _keep_shape(self, name, shape):
    if min(shape) < 1 or math.prod(shape) >= MOST_NUMBERS:
      raise ValueError(
        f"{name} is {shape} as height, width and channels; expected positive "
        f"sizes and fewer than {MOST_NUMBERS:,} numbers"
      )
    self.shapes[name] = shape

  def _own_layer(self, tensor, label, factor, offset):
    """A 1x1 depthwise layer for what no layer before can take."""
    tensor.plain()
    op = "depthwise" if len(factor) > 1 else "conv"
    made = self.add_row(
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
    tensor.plain()
    if row is None or not tensor.alone:
      return None
    if row.node.activation != "none" and not active:
      return None
    self.ranges.pop(tensor.node, None)  # which was before what comes now
    return row

  def is_negative(self, tensor: Tensor) -> bool:
    """Whether a tensor can have negative numbers."""
    row = self._rows.get(tensor.node)
    return row is None or row.can_be_negative
