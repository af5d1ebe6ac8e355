"""Nodes and constants of an ONNX model in the making: its numbers in codes.

An integer layer is written with the zero points, biases and ranges with which
ONNX Runtime 1.31 fuses it into one kernel. What a float layer reads in codes
has a scale for every channel, all the same: a float convolution between two
tensors of one scale ONNX Runtime takes for one that somebody forgot to
quantize, rounds its weights, and runs it in integers (its
WeightBiasQuantization).

Weights of 4 bits are dequantized as they are read; those of a linear layer are
in blocks of 32 inputs, which ONNX Runtime multiplies packed (MatMulNBits). That
kernel, which it takes for linear layers of 8 bits too, rounds what it reads to
8 bits, block by block.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fbq.nets.graph import INPUT_SITE, Net

BLOCK = 32  # inputs of a linear layer that share a scale at 4 bits


class Graph:
  """Collects nodes and constants.

  Attributes:
    nodes: onnx.NodeProto in the order of computation.
    constants: onnx.TensorProto by name.
  """

  def __init__(self, net: Net, ranges: Mapping[str, float]):
    """Of a network whose tensors reach as far as `ranges` say, by node."""
    import onnx

    self.onnx, self.net, self.ranges = onnx, net, ranges
    self.nodes: list[Any] = []
    self.constants: dict[str, Any] = {}

  def _step(self, tensor: str) -> tuple[float, int, bool]:
    """(what a code of 1 stands for, code of 0, whether it is signed)."""
    site = str(self.net.site_of[tensor])
    if site == INPUT_SITE:
      return 1 / 255, (self.net.image_zero or (0,))[0], False
    signed = self.net.is_signed[site]
    range_ = self.ranges[site.removesuffix(".out")]
    return range_ / (127 if signed else 255), 128 if signed else 0, signed

  def _scale_of(self, tensor):
    step, zero, _ = self._step(tensor)
    site = str(self.net.site_of[tensor])
    return [
      self.constant(f"{site}.scale", np.float32(step)),
      self.constant(f"{site}.zero", np.uint8(zero)),
    ]

  def codes(self, layer, tensor, values):
    """`values` rounded to the codes of a tensor, by a node of a layer."""
    out = f"{tensor}.codes_by_{layer}"
    inputs = [values, *self._scale_of(tensor)]
    return self.node(layer, "QuantizeLinear", inputs, out)

  def values(self, layer, tensor, codes, for_integers):
    """Codes of a tensor dequantized, for an integer kernel or to be floats."""
    out = f"{tensor}.values_for_{layer}"
    scale, zero = self._scale_of(tensor)
    if for_integers:
      inputs = [codes, scale, zero]
      return self.node(layer, "DequantizeLinear", inputs, out)
    step, at_zero, _ = self._step(tensor)
    channels = self.net.shapes[tensor][2]
    if channels == 1:  # a scale for every channel is one for all
      inputs = [codes, scale, zero]
      alone = self.node(layer, "DequantizeLinear", inputs, f"{out}.alone")
      return self.node(layer, "Sum", [alone], out)
    inputs = [
      codes,
      self.constant(f"{tensor}.scales", np.full(channels, step)),
      self.constant(f"{tensor}.zeros", np.full(channels, at_zero, np.uint8)),
    ]
    return self.node(layer, "DequantizeLinear", inputs, out, axis=1)

  def integers(self, node, weight, bias, axis):
    """Dequantized int8 weights and int32 bias, one scale for each output."""
    name = node.name
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(others), 1e-12) / 127
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    codes = np.rint(weight / scale.reshape(shape)).astype(np.int8)
    sums = scale * self._step(node.inputs[0])[0]
    bias = np.clip(np.rint(bias / sums), -(2**31), 2**31 - 1).astype(np.int32)
    return [
      self._dequantized(f"{name}.weight", codes, scale, axis),
      self._dequantized(f"{name}.bias", bias, sums, 0),
    ]

  def _dequantized(self, name, codes, scale, axis):
    inputs = [
      self.constant(f"{name}.codes", codes),
      self.constant(f"{name}.scale", scale.astype(np.float32)),
    ]
    layer = name.rpartition(".")[0]
    return self.node(layer, "DequantizeLinear", inputs, name, axis=axis)

  def four_bits(self, name, weight):
    """Dequantized int4 weights; of a linear layer in blocks of inputs."""
    if weight.ndim == 2:
      return self._blocks(name, weight)
    scale = np.maximum(np.abs(weight).max((1, 2, 3)), 1e-12) / 7
    codes = np.rint(weight / scale.reshape(-1, 1, 1, 1))
    return self._int4(name, codes, scale, dict(axis=0))

  def _blocks(self, name, weight):
    rows, columns = weight.shape
    block = BLOCK if rows % BLOCK == 0 else rows
    parts = weight.reshape(rows // block, block, columns)
    scale = np.maximum(np.abs(parts).max(1), 1e-12) / 7
    codes = np.rint(parts / scale[:, None]).reshape(rows, columns)
    return self._int4(name, codes, scale, dict(axis=0, block_size=block))

  def _int4(self, name, codes, scale, attributes):
    self.constants[f"{name}.weight.codes"] = self.onnx.helper.make_tensor(
      f"{name}.weight.codes",
      self.onnx.TensorProto.INT4,
      codes.shape,
      codes.astype(int).ravel().tolist(),
    )
    scale = self.constant(f"{name}.weight.scale", scale.astype(np.float32))
    inputs = [f"{name}.weight.codes", scale]
    out = f"{name}.weight"
    return self.node(name, "DequantizeLinear", inputs, out, **attributes)

  def constant(self, name, values):
    values = np.asarray(values)
    if values.dtype == np.float64:
      values = values.astype(np.float32)
    self.constants[name] = self.onnx.numpy_helper.from_array(values, name)
    return name

  def node(self, layer, op, inputs, out, **attributes):
    self.nodes.append(
      self.onnx.helper.make_node(
        op, inputs, [out], name=f"{layer}/{op}/{out}", **attributes
      )
    )
    return out
