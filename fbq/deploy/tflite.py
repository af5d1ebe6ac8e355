"""A network as a TFLite file of int8 activations and int8 or int4 weights.

Codes of every width stand in int8, with the step of fbq as their scale, and as
high as they go: the zero point is 127 less the highest code, so that int8's own
end clips at that one, and a ReLU at zero. Batch norm is in the scales of
weights and in the biases (`fbq.deploy.tflite_requant`).

A mean is a depthwise convolution by ones: LiteRT's own means round halves by
which kernel is at hand, away from zero of what is stored or to even, and the
integer network up. The logits are sums in float32, exact but for its noise: in
int8 classes would tie.
"""

import functools
from typing import NamedTuple

import numpy as np

from fbq import ops
from fbq.deploy import tflite_requant
from fbq.deploy.integer import IntegerNet
from fbq.deploy.lowering import UnsupportedError
from fbq.deploy.tflite_writer import Grid, Writer
from fbq.nets.graph import INPUT, Node
from fbq.nets.node import same_padding

_SAME, _VALID = 0, 1  # Padding of the schema
_NONE, _RELU = 0, 1  # ActivationFunctionType of the schema


class Built(NamedTuple):
  """A file, and how near it is.

  Attributes:
    data: the file.
    layers: by name, the constants of layers with weights and of means.
    weight_bytes: bytes of weights and biases in it.
  """

  data: bytes
  layers: dict[str, tflite_requant.Stored]
  weight_bytes: int


def build(
  network: IntegerNet, int4: bool = True, portable: bool = True
) -> Built:
  """The TFLite file of a network: int8 images [1, H, W, C] to logits.

  A pixel of code c, 0 to 255, is given as c - 128.

  Args:
    network: network in integers, of any width of requantization.
    int4: whether weights of 4 and 2 bits are stored in int4; else in int8,
      which takes more memory and leaves room for finer biases.
    portable: whether weights of -128 are written as -127, which every
      processor runs; see `tflite_requant.store`.

  Raises:
    UnsupportedError: names a layer that the format has not.
    ModuleNotFoundError: the package ai-edge-litert is not installed.
  """
  return _Builder(network, int4, portable).build()


class _Builder:
  """Adds layer after layer; tensors have the names of the net."""

  def __init__(self, network, int4, portable):
    self.network, self.int4, self.portable = network, int4, portable
    self.writer = Writer()
    self.layers: dict[str, tflite_requant.Stored] = {}
    self.weight_bytes = 0
    self.tensors: dict[str, int] = {}

  def build(self) -> Built:
    net = self.network.net
    image = self._tensor(INPUT, INPUT)
    self.tensors[INPUT] = image
    for node in net.nodes:
      try:
        self.tensors[node.name] = self._add(node)
      except ValueError as error:
        raise UnsupportedError(
          f"net {net.name!r}: layer {node.name!r} ({node.op}) is not written "
          f"for TFLite: {error}"
        ) from error
    facts = {"net": net.name, "bits": dict(self.network.bits)}
    logits = self.tensors[net.nodes[-1].name]
    data = self.writer.finish(image, logits, facts)
    return Built(data, self.layers, self.weight_bytes)

  def _add(self, node: Node) -> int:
    if node.is_output:
      return self._logits(node)
    if node.op == "max_pool":
      return self._max_pool(node)
    low = self.network.ends(node.name)[0]
    fused = dict(fusedActivationFunction=_RELU if low == 0 else _NONE)
    if node.op == "add":
      read = [self.tensors[name] for name in node.inputs]
      add = functools.partial(self._operator, "ADD", read, "AddOptions")
      return self._clipped(node, functools.partial(add, **fused))
    return self._clipped(node, functools.partial(self._weighted, node, **fused))

  # ---- activations

  def _zero(self, tensor: str) -> int:
    """The integer that stands for code 0."""
    net = self.network.net
    if tensor == INPUT:
      zeros = set(net.image_zero or (0,))
      if len(zeros) > 1:
        raise UnsupportedError(
          f"no TFLite for {net.name}: its image is padded with zero "
          f"{net.image_zero}, and TFLite has one number for all channels"
        )
      return zeros.pop() - 128
    node = net.node[tensor]
    if node.op == "max_pool":  # whose codes stay what they are
      return self._zero(node.inputs[0])
    low, high = self.network.ends(tensor)
    return -128 - low if low < 0 else 127 - high

  def _grid(self, tensor: str) -> Grid:
    return Grid(np.float32(self.network.step(tensor)), self._zero(tensor))

  def _tensor(self, tensor: str, name: str, shape=None, zero=None) -> int:
    """A new tensor with the grid of one of the net."""
    grid = self._grid(tensor)
    grid = grid if zero is None else grid._replace(zero=zero)
    shape = shape or self.network.net.shapes[tensor]
    if self._is_flat(tensor):
      shape = shape[2:]
    return self.writer.tensor(name, (1, *shape), "int8", grid)

  def _is_flat(self, tensor: str) -> bool:
    """Whether it comes out of a linear layer, without height and width."""
    net = self.network.net
    return tensor in net.node and net.node[tensor].op == "linear"

  def _clipped(self, node: Node, add) -> int:
    """What `add` makes, clipped at both ends of the layer's codes.

    Codes below zero are clipped by int8's lower end, in the second of two
    tensors, unless they fill int8.
    """
    low, high = self.network.ends(node.name)
    if low == 0 or high - low == 255:
      return add(self._tensor(node.name, node.name))
    before = add(
      self._tensor(node.name, f"{node.name}.before", zero=127 - high)
    )
    return self._operator(
      "QUANTIZE",
      [before],
      "QuantizeOptions",
      self._tensor(node.name, node.name),
    )

  def _operator(self, kind, inputs, options, output, **fields) -> int:
    return self.writer.operator(kind, inputs, output, options, **fields)

  # ---- layers

  def _window(self, node: Node) -> tuple[int, dict[str, int]]:
    """(tensor to read, options): padded before, unless TFLite would alike."""
    source = node.inputs[0]
    height, width, channels = self.network.net.shapes[source]
    kernel = node.kernel or (height, width)
    edges = ops.edges(node.padding)
    options = dict(strideH=node.stride, strideW=node.stride, padding=_VALID)
    if not np.any(edges):
      return self.tensors[source], options
    same = tuple(
      same_padding(size, side, node.stride)
      for size, side in zip((height, width), kernel, strict=True)
    )
    if edges == same:
      return self.tensors[source], {**options, "padding": _SAME}

    # It pads with what stands for 0
    if node.op == "max_pool" and self.network.ends(source)[0] < 0:
      raise ValueError(
        f"takes maxima of signed numbers, padded by {edges} where TFLite's "
        f"SAME is {same}; set its padding to that, or put a ReLU before it"
      )
    rows, columns = edges
    shape = (height + sum(rows), width + sum(columns), channels)
    pads = self.writer.constant(
      f"{node.name}.pads", [(0, 0), rows, columns, (0, 0)], "int32"
    )
    padded = self._tensor(source, f"{node.name}.padded", shape)
    read = [self.tensors[source], pads]
    return self._operator("PAD", read, "PadOptions", padded), options

  def _max_pool(self, node: Node) -> int:
    read, options = self._window(node)
    shape = self.network.net.shapes[node.inputs[0]]
    height, width = node.kernel or shape[:2]
    out = self._tensor(node.name, node.name)
    return self._operator(
      *("MAX_POOL_2D", [read], "Pool2DOptions", out),
      **options,
      filterHeight=height,
      filterWidth=width,
    )

  def _weighted(self, node: Node, out: int, **fused) -> int:
    """A convolution, product or mean that makes the tensor `out`."""
    network, name = self.network, node.name
    stored = tflite_requant.store(network, node, self.int4, self.portable)
    self.layers[name] = stored

    # TFLite's order; depthwise weights have their channels last
    is_depthwise = node.op in ("depthwise", "avg_pool")
    axis = 3 if is_depthwise else 0
    rows = np.moveaxis(stored.weight, -2 if is_depthwise else -1, 0)
    weights = self._constant(
      f"{name}.weight", rows, stored.bits, stored.scale, axis
    )
    step = np.float32(network.step(node.inputs[0]))
    biases = self.writer.constant(
      f"{name}.bias", stored.bias, "int32", Grid(step * stored.scale)
    )
    self.weight_bytes += 4 * len(stored.bias)

    # A product flattens what it reads by itself
    if node.op == "linear":
      read = [self.tensors[node.inputs[0]], weights, biases]
      return self._operator(
        *("FULLY_CONNECTED", read, "FullyConnectedOptions", out), **fused
      )
    source, options = self._window(node)
    read = [source, weights, biases]
    if is_depthwise:
      options |= dict(depthMultiplier=1, **fused)
      kind = "DepthwiseConv2DOptions"
      return self._operator("DEPTHWISE_CONV_2D", read, kind, out, **options)
    options |= fused
    return self._operator("CONV_2D", read, "Conv2DOptions", out, **options)

  def _logits(self, node: Node) -> int:
    """Sums in float32 of codes and weights in their own numbers."""
    network, name = self.network, node.name
    height, width, channels = network.net.shapes[node.inputs[0]]
    weight = network.layers[name]["weight"].astype(np.int64).T
    narrow = self.int4 and network.bits[f"{name}.weight"] <= 4
    step = np.float32(network.steps[f"{name}.weight"])
    codes = self._constant(f"{name}.codes", weight, 4 if narrow else 8, step, 0)

    # Both are made floats in the file, which keeps them small
    dequantized = functools.partial(
      self._operator, "DEQUANTIZE", options="DequantizeOptions"
    )
    weights = dequantized(
      inputs=[codes],
      output=self.writer.tensor(f"{name}.weight", weight.shape, "float32"),
    )
    shape = (channels,)
    if not self._is_flat(node.inputs[0]):
      shape = (height, width, channels)
    features = dequantized(
      inputs=[self.tensors[node.inputs[0]]],
      output=self.writer.tensor(f"{name}.in", (1, *shape), "float32"),
    )
    offset = network.affine[name].offset
    bias = self.writer.constant(f"{name}.bias", offset, "float32")
    self.weight_bytes += 4 * len(offset)
    out = self.writer.tensor(name, (1, len(offset)), "float32")
    read = [features, weights, bias]
    return self._operator("FULLY_CONNECTED", read, "FullyConnectedOptions", out)

  def _constant(self, name, codes, bits, scale, axis) -> int:
    """A constant of weights in `bits` bits."""
    self.weight_bytes += -(-codes.size * bits // 8)
    return self.writer.constant(name, codes, f"int{bits}", Grid(scale, 0, axis))
