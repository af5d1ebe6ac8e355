"""Files for DORY's Quantlab frontend: ONNX, configuration, golden tensors.

The contract is that of docs/facts/quantization.md 3.7, read from DORY's
sources: integers in an ONNX file, requantization as a chain Mul, Add, Div,
Clip, tensors named by numbers. `fbq.deploy.dory_check` holds the files against
it.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbq import ops
from fbq.deploy import integer
from fbq.deploy.integer import IntegerNet
from fbq.deploy.lowering import UnsupportedError
from fbq.files import user_path, write_atomically
from fbq.nets.graph import INPUT

OPSET = 11  # Gemm without a bias; Clip keeps its bounds as attributes
CODE_BYTES = 150_000  # of L2 kept free for the program


def check_supported(network: IntegerNet) -> None:
  """Raises UnsupportedError for the first layer that DORY or a kernel refuses.

  The message names the layer and what to change.
  """
  for problem in _problems(network):
    raise UnsupportedError(f"DORY cannot take {network.net.name}: {problem}")


def _problems(network: IntegerNet) -> Iterator[str]:
  # Who reads a tensor matters where DORY changes it for one reader.
  net, bits = network.net, network.bits
  readers: dict[str, list[str]] = {name: [] for name in (INPUT, *net.node)}
  for node in net.nodes:
    for name in node.inputs:
      readers[name].append(node.name)
  for node in net.nodes:
    where = f"layer {node.name!r} ({node.op})"
    in_shape, shape = net.shapes[node.inputs[0]], net.shapes[node.name]
    in_bits = [bits[network.site(name)] for name in node.inputs]
    out_bits = 32 if node.is_output else bits[network.site(node.name)]

    # Adders have 8 bits, and two operands that other layers made.
    if node.op == "add":
      if INPUT in node.inputs or node.inputs[0] == node.inputs[1]:
        yield f"{where} must add the outputs of two different layers"
      if {*in_bits, out_bits} != {8}:
        yield (
          f"{where} adds tensors of {in_bits} bits to one of {out_bits}; set "
          f"{[network.site(each) for each in (*node.inputs, node.name)]} to 8"
        )

    # At padding the kernels agree with us only on maxima of numbers that are
    # not negative.
    if node.op in ("avg_pool", "max_pool") and np.any(node.padding):
      if node.op == "avg_pool" or network.ends(node.inputs[0])[0] < 0:
        yield f"{where} is padded, which the kernel does otherwise; remove it"

    # Codes below 8 bits are packed along channels, which must fill their bytes.
    if not node.has_weights:
      least = min(*in_bits, out_bits)
      if least < 8 and shape[2] % (8 // least):
        yield _odd(where, network.site(node.name), least, shape[2])
      continue

    # A linear layer reads flattened pixels, packed as they were made.
    site = f"{node.name}.weight"
    channels = in_shape[2]
    if node.op == "linear":
      channels = math.prod(in_shape)
      if (
        in_shape[:2] != (1, 1)
        and in_bits[0] < 8
        and in_shape[2] % (8 // in_bits[0])
      ):
        yield _odd(where, network.site(node.inputs[0]), in_bits[0], in_shape[2])
      if len(readers[node.inputs[0]]) > 1 and in_shape[:2] != (1, 1):
        yield (
          f"{where} flattens {node.inputs[0]!r}, which other layers read too; "
          "DORY loses track of it: let it have one reader"
        )

    # A kernel unpacks input and weights together, so the narrower one decides.
    # In a depthwise kernel the output goes with them, channel by channel.
    operands = {site: bits[site], network.site(node.inputs[0]): in_bits[0]}
    if node.op == "depthwise" and not node.is_output:
      operands[network.site(node.name)] = out_bits
    least = min(operands.values())
    if least < 8 and channels % (8 // least):
      narrow = [name for name, width in operands.items() if width < 8]
      yield _odd(where, " and ".join(narrow), least, channels)
    if out_bits < 8 and shape[2] % (8 // out_bits):
      yield _odd(where, network.site(node.name), out_bits, shape[2])

    if network.layers[node.name]["weight"].size <= shape[2]:
      yield (
        f"{where} has no more weights than output channels, which DORY takes "
        "for no weights at all; give it more input channels"
      )

    if "bias" in network.layers[node.name]:
      largest = np.abs(network.layers[node.name]["bias"]).max()
      if largest >= 2**24:
        yield (
          f"{where} has a bias of {largest} codes, more than float32 holds "
          "exactly; raise the bits of its weights' range"
        )


def _odd(where, sites, bits, channels):
  return (
    f"{where} packs {8 // bits} channels of {bits} bits into a byte and has "
    f"{channels}; set {sites} to 8 bits, or give it a multiple of {8 // bits} "
    "channels"
  )


def build(network: IntegerNet) -> Any:
  """The onnx.ModelProto that DORY's Quantlab frontend reads.

  Raises:
    UnsupportedError: see `check_supported`.
  """
  import onnx

  check_supported(network)
  builder = _DoryBuilder(network, onnx)
  for node in network.net.nodes:
    builder.add(node)
  return builder.model()


def write(network: IntegerNet, directory: Path, image: np.ndarray) -> None:
  """Writes network.onnx, config.json and golden tensors of one image.

  Args:
    network: network in integers.
    directory: directory that is written to; made if need be.
    image: codes [H, W, C] of the image that the golden tensors belong to.

  Raises:
    UnsupportedError: see `check_supported`.
  """
  # The model first: what DORY cannot take leaves no half-written directory.
  model = build(network)
  directory = user_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_atomically(directory / "network.onnx", model.SerializeToString())
  config = {
    "onnx_file": "network.onnx",
    "BNRelu_bits": network.width,
    "code reserved space": CODE_BYTES,
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

    The earlier first: it swaps the constants of others.
    """
    identity = {"mul": 1, "add": 0, "shift": 0, "n_levels": 256, "rq": 1}
    attributes = {
      f"in{place}_{key}": value
      for place in (1, 2)
      for key, value in identity.items()
    }
    return self._node(
      "Add",
      sorted(inputs, key=int),
      out_mul=int(part["mul"][0]),
      out_add=int(part["add"][0]),
      out_shift=int(part["shift"]),
      out_n_levels=256,
      out_rq=1,
      out_signed=int(part["low"] < 0),
      add_bits=32,
      **attributes,
    )
