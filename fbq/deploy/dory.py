"""Files for DORY's Quantlab frontend: ONNX, configuration, golden tensors.

The contract is that of docs/facts/quantization.md 3.7, read from DORY's
sources: integers in an ONNX file, requantization as a chain Mul, Add, Div,
Clip, tensors named by numbers. `fbq.deploy.dory_check` holds the files against
it.
"""

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbq import ops
from fbq.deploy import dory_limits, integer
from fbq.deploy.integer import IntegerNet
from fbq.files import user_path, write_atomically
from fbq.nets.graph import INPUT
from hwsim.pulp import Target

OPSET = 11  # Gemm without a bias; Clip keeps its bounds as attributes


def build(network: IntegerNet, target: Target) -> Any:
  """The onnx.ModelProto that DORY's Quantlab frontend reads.

  Args:
    network: network in integers.
    target: hardware that it is to run on.

  Raises:
    UnsupportedError: see `dory_limits.check_supported`.
  """
  import onnx

  dory_limits.check_supported(network, target)
  builder = _DoryBuilder(network, onnx)
  for node in network.net.nodes:
    builder.add(node)
  return builder.model()


def write(
  network: IntegerNet, target: Target, directory: Path, image: np.ndarray
) -> None:
  """Writes network.onnx, config.json and golden tensors of one image.

  Args:
    network: network in integers.
    target: hardware that it is to run on.
    directory: directory that is written to; made if need be.
    image: codes [H, W, C] of the image that the golden tensors belong to.

  Raises:
    UnsupportedError: see `dory_limits.check_supported`.
  """
  # The model first: what DORY cannot take leaves no half-written directory.
  model = build(network, target)
  directory = user_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_atomically(directory / "network.onnx", model.SerializeToString())
  config = {
    "onnx_file": "network.onnx",
    "BNRelu_bits": network.width,
    "code reserved space": target.code_reserved_bytes,
    "n_inputs": 1,
    "input_bits": network.bits[network.site(INPUT)],
    "input_signed": False,
  }
  text = json.dumps(config, indent=1) + "\n"
  write_atomically(directory / "config.json", text)

  # Golden tensors of every layer, numbered as DORY numbers its layers.
  codes = jnp.asarray(image)[None]
  tensors = integer.integer_tensors(network, codes)
  _write_golden(directory / "input.txt", image)
  for i, node in enumerate(network.net.nodes):
    path = directory / f"out_layer{i}.txt"
    _write_golden(path, np.asarray(tensors[node.name])[0])


def _write_golden(path, codes):
  """One integer a line, followed by a comma, in the order row, column, channel.

  DORY wants a first line that is a comment.
  """
  lines = [f"# {path.stem} {list(codes.shape)}"]
  lines += [f"{value}," for value in np.asarray(codes).ravel().tolist()]
  write_atomically(path, "\n".join(lines) + "\n")


class _DoryBuilder:
  """Collects the nodes and constants of an ONNX graph."""

  def __init__(self, network, onnx):
    self.network, self.onnx = network, onnx
    self.nodes, self.initializers = [], []
    self.tensors = {INPUT: "0"}  # by name of the net's tensor

  def add(self, node):
    part = self.network.layers[node.name]
    inputs = [self.tensors[name] for name in node.inputs]
    if node.op == "add":
      self.tensors[node.name] = self._adder(node, part, inputs)
      return
    if node.op in ("avg_pool", "max_pool"):
      out = self._pool(node, inputs)
    elif node.op == "linear":
      out = self._linear(node, part, inputs)
    else:
      out = self._conv(node, part, inputs)
    if node.op != "max_pool" and "mul" in part:
      out = self._requantize(node, part, out)
    self.tensors[node.name] = out

  def model(self):
    helper, net = self.onnx.helper, self.network.net
    height, width, channels = net.input_shape
    value = lambda name, shape: helper.make_tensor_value_info(
      name, self.onnx.TensorProto.FLOAT, shape
    )
    last = net.nodes[-1].name
    graph = helper.make_graph(
      self.nodes,
      "fbq",
      [value("0", [1, channels, height, width])],
      [value(self.tensors[last], [1, net.shapes[last][2]])],
      self.initializers,
    )
    return helper.make_model(
      graph,
      opset_imports=[helper.make_opsetid("", OPSET)],
      producer_name="fbq",
      ir_version=6,
    )

  def _node(self, op, inputs, **attributes):
    """Adds a node; its output, named by a number as DORY wants."""
    out = str(len(self.nodes) + 1)
    self.nodes.append(
      # DORY knows a global pool by its name.
      self.onnx.helper.make_node(
        op, inputs, [out], name=f"{op}_{out}", **attributes
      )
    )
    return out

  def _constant(self, name, values):
    """Adds integers as float32, as float64 where that would round them.

    Of one number DORY pastes the text into C, and only the text of a float64
    is exact: 2^32 as float32 reads 4294967300.0.
    """
    values = np.asarray(values, np.float64)
    single = values.astype(np.float32)
    if values.ndim and (single == values).all():
      values = single
    self.initializers.append(self.onnx.numpy_helper.from_array(values, name))
    return name

  def _conv(self, node, part, inputs):
    weight = part["weight"].transpose(3, 2, 0, 1)
    (top, bottom), (left, right) = ops.edges(node.padding)
    return self._node(
      "Conv",
      [*inputs, self._constant(f"{node.name}.weight", weight)],
      kernel_shape=list(weight.shape[2:]),
      strides=[node.stride] * 2,
      dilations=[1, 1],
      pads=[top, left, bottom, right],
      group=weight.shape[0] if node.op == "depthwise" else 1,
      weight_bits=int(self.network.bits[f"{node.name}.weight"]),
      bias_bits=32,
    )

  def _linear(self, node, part, inputs):
    """Weights [O, I] for pixels flattened channel by channel, as torch does."""
    height, width, channels = self.network.net.shapes[node.inputs[0]]
    if self._rank(node.inputs[0]) == 4:
      inputs = [self._node("Flatten", inputs, axis=1)]
    weight = part["weight"].reshape(height, width, channels, -1)
    weight = weight.transpose(3, 2, 0, 1).reshape(weight.shape[-1], -1)
    if weight.shape[0] == weight.shape[1]:
      weight = weight.T  # DORY takes square weights for transposed ones
    inputs = [*inputs, self._constant(f"{node.name}.weight", weight)]
    if "bias" in part:
      inputs.append(self._constant(f"{node.name}.bias", part["bias"]))
    return self._node(
      "Gemm",
      inputs,
      alpha=1.0,
      beta=1.0,
      transB=1,
      weight_bits=int(self.network.bits[f"{node.name}.weight"]),
      bias_bits=32,
    )

  def _rank(self, tensor):
    if tensor == INPUT:
      return 4
    node = self.network.net.node[tensor]
    return 2 if node.op == "linear" else 4

  def _pool(self, node, inputs):
    if node.op == "avg_pool" and node.kernel is None:
      return self._node("GlobalAveragePool", inputs)
    (top, bottom), (left, right) = ops.edges(node.padding)
    window = node.kernel or self.network.net.shapes[node.inputs[0]][:2]
    return self._node(
      "AveragePool" if node.op == "avg_pool" else "MaxPool",
      inputs,
      kernel_shape=list(window),
      strides=[node.stride] * 2,
      pads=[top, left, bottom, right],
    )

  def _requantize(self, node, part, out):
    """After a pool scalars, a mean's multiplier times the pixels: the kernel
    divides it by them."""
    mul, add = part["mul"], part["add"]
    if node.op == "avg_pool":
      shape = self.network.net.shapes[node.inputs[0]]
      mul, add = mul[0] * math.prod(node.kernel or shape[:2]), add[0]
    elif node.op != "linear":
      mul, add = mul[:, None, None], add[:, None, None]
    width = self.network.width
    out = self._node(
      "Mul", [out, self._constant(f"{node.name}.mul", mul)], mult_bits=width
    )
    out = self._node(
      "Add", [out, self._constant(f"{node.name}.add", add)], add_bits=width
    )
    scale = self._constant(f"{node.name}.div", 2.0 ** int(part["shift"]))
    out = self._node("Div", [out, scale])
    return self._node(
      "Clip",
      [out],
      min=float(part["low"]),
      max=float(part["high"]),
      out_bits=int(self.network.bits[self.network.site(node.name)]),
    )

  def _adder(self, node, part, inputs):
    """Inputs as they are: DORY insists on a requantization of each.

    The later first: it takes the first one's type for the tensor that the
    layer before has just made.
    """
    identity = {"mul": 1, "add": 0, "shift": 0, "n_levels": 256, "rq": 1}
    attributes = {
      f"in{place}_{key}": value
      for place in (1, 2)
      for key, value in identity.items()
    }
    return self._node(
      "Add",
      sorted(inputs, key=int, reverse=True),
      out_mul=int(part["mul"][0]),
      out_add=int(part["add"][0]),
      out_shift=int(part["shift"]),
      out_n_levels=256,
      out_rq=1,
      out_signed=int(part["low"] < 0),
      add_bits=32,
      **attributes,
    )
