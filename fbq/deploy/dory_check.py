"""Holds files for DORY's Quantlab frontend against what DORY makes of them.

Written from the contract (docs/facts/quantization.md 3.7) and not from the
exporter. DORY accepts many files silently that it then misreads; so besides the
form, `problems` replays the network as DORY reads it, with its kernels'
arithmetic, and compares every golden tensor.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fbq.deploy import dory_replay
from fbq.files import user_path

ACCEPTED = set(
  "Conv Pad Mul Add Div Constant AveragePool GlobalAveragePool MaxPool Cast "
  "Clip Floor Flatten Gemm MatMul Shape Gather Unsqueeze Squeeze Concat "
  "Reshape Sigmoid LogSoftmax".split()
)
NEGLECTED = set(
  "Cast Floor Flatten Shape Gather Unsqueeze Squeeze Concat Reshape Sigmoid "
  "LogSoftmax".split()
)
POOLS = ("AveragePool", "GlobalAveragePool", "MaxPool")
WEIGHTED = ("Conv", "Gemm", "MatMul")
RESERVED = ("l", "k", "outshift", "outmul", "outadd")
ADDER_ATTRIBUTES = [
  f"{place}_{key}"
  for place in ("in1", "in2", "out")
  for key in ("mul", "add", "shift", "n_levels", "rq")
] + ["add_bits"]


class DoryLayer(NamedTuple):
  """A node that DORY makes code for, with the requantization after it."""

  node: Any
  attributes: Mapping[str, Any]
  inputs: list[str]
  constants: dict[str, np.ndarray]
  requant: dict[str, Any] | None
  output: str


def problems(directory: Path) -> list[str]:
  """What DORY would refuse or misread in a directory; empty if nothing."""
  directory = user_path(directory)
  try:
    config = json.loads((directory / "config.json").read_text())
  except (OSError, ValueError) as error:
    return [f"config.json: {error}"]
  missing = [
    key
    for key in ("BNRelu_bits", "onnx_file", "code reserved space")
    if key not in config
  ]
  if missing:
    return [f"config.json lacks {missing}"]
  if config["BNRelu_bits"] not in (32, 64):
    return [f"BNRelu_bits is {config['BNRelu_bits']}, expected 32 or 64"]
  try:
    import onnx

    model = onnx.load(directory / config["onnx_file"])
  except Exception as error:  # whatever protobuf raises on a damaged file
    return [f"{config['onnx_file']} cannot be read: {error}"]
  found = list(_form(model, onnx))
  if found:
    return found
  layers = read_layers(model, onnx)
  found = [text for layer in layers for text in _layer_problems(layer)]
  return found or list(_golden_problems(model, layers, directory, config))


# ---- form --------------------------------------------------------------------


def _form(model, onnx) -> Iterator[str]:
  """Problems that keep the graph from being read."""
  graph = model.graph
  for node in graph.node:
    if node.op_type not in ACCEPTED:
      yield f"node {node.name!r}: DORY does not accept {node.op_type}"
    for name in node.output:
      if not name.isdigit():
        yield f"node {node.name!r}: output {name!r} is not a number"
    if node.op_type == "Clip":
      attributes = {a.name for a in node.attribute}
      if len(node.input) != 1 or not {"min", "max", "out_bits"} <= attributes:
        yield (
          f"node {node.name!r}: Clip needs attributes min, max and out_bits, "
          "and no inputs for them"
        )
    if node.op_type == "GlobalAveragePool" and "Global" not in node.name:
      yield f"node {node.name!r}: a global pool's name must contain 'Global'"
  inferred = onnx.shape_inference.infer_shapes(model).graph
  known = {
    value.name
    for value in (*inferred.input, *inferred.value_info, *inferred.output)
    if value.type.tensor_type.HasField("shape")
    and all(d.dim_value > 0 for d in value.type.tensor_type.shape.dim)
  }
  for node in graph.node:
    for name in node.output:
      if name not in known:
        yield f"tensor {name!r} of node {node.name!r} has no inferred shape"


def read_layers(model, onnx) -> list[DoryLayer]:
  """The layers of a graph as DORY fuses them: requantizations, flattening."""
  # DORY reads constants by name, whether given before or as nodes.
  constants = {
    tensor.name: onnx.numpy_helper.to_array(tensor)
    for tensor in model.graph.initializer
  }
  layers: list[DoryLayer] = []
  for node in model.graph.node:
    attributes = {
      a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
    }
    if node.op_type == "Constant":
      constants[node.output[0]] = onnx.numpy_helper.to_array(
        attributes["value"]
      )
      continue
    inputs = [name for name in node.input if name not in constants]
    given = {n: constants[n] for n in node.input if n in constants}

    # What DORY neglects gives its name to the layer before. A layer makes code.
    # All else is taken for a part of the requantization of the layer before, in
    # whatever order it comes.
    if node.op_type in NEGLECTED:  # the layer before is renamed
      layers[-1] = layers[-1]._replace(output=node.output[0])
    elif node.op_type in (*POOLS, *WEIGHTED) or len(inputs) == 2:
      layers.append(
        DoryLayer(node, attributes, inputs, given, None, node.output[0])
      )
    else:
      chain = dict(layers[-1].requant or {"order": [], "inputs": []})
      chain["order"] = [*chain["order"], node.op_type]
      chain["inputs"] = [*chain["inputs"], inputs[0] == layers[-1].output]
      chain[node.op_type] = given or attributes
      layers[-1] = layers[-1]._replace(requant=chain, output=node.output[0])
  return layers


# ---- layers ------------------------------------------------------------------


def _layer_problems(layer: DoryLayer) -> Iterator[str]:
  where = f"node {layer.node.name!r}"
  op = layer.node.op_type
  if layer.requant is not None:
    yield from _requant_problems(layer, where)

  # The adder is a layer of its own, with all constants as attributes.
  if op == "Add":
    lacking = [key for key in ADDER_ATTRIBUTES if key not in layer.attributes]
    if lacking:
      yield f"{where}: an addition needs attributes {lacking}"
    if not all(name.isdigit() for name in layer.inputs):
      yield f"{where}: an addition's inputs must be named by numbers"
    elif int(layer.inputs[0]) < int(layer.inputs[1]):
      yield (
        f"{where}: DORY takes the type of the first input for the tensor made "
        "last; list that one first"
      )
    if layer.requant is not None:
      yield f"{where}: an addition carries its requantization as attributes"

  # From here on layers with weights.
  if op not in WEIGHTED:
    return
  if "weight_bits" not in layer.attributes:
    yield f"{where}: has no weight_bits"
    return
  weights = {n: x for n, x in layer.constants.items() if "bias" not in n}
  if len(weights) != 1 or set(layer.constants) & set(RESERVED):
    yield (
      f"{where}: constants {sorted(layer.constants)}: DORY expects one without "
      f"'bias' in its name, and none called one of {RESERVED}"
    )
    return

  # A weight beyond its bits is cut off when it is packed.
  (weight,) = weights.values()
  bits = layer.attributes["weight_bits"]
  if bits not in (2, 4, 8):
    yield f"{where}: weight_bits is {bits}, expected 2, 4 or 8"
    return
  if not np.array_equal(weight, np.rint(weight)):
    yield f"{where}: weights are not integers"
  elif weight.min() < -(2 ** (bits - 1)) or weight.max() >= 2 ** (bits - 1):
    yield f"{where}: weights do not fit {bits} bits"
  if len(layer.constants) > 1 and layer.requant is not None:
    yield f"{where}: a bias and a requantization; fold the bias into Add"
  if op == "Conv":
    yield from _conv_problems(layer, weight, bits, where)


def _conv_problems(layer, weight, bits, where):
  group = layer.attributes.get("group", 1)
  if group != 1 and not (group == len(weight) and weight.shape[1] == 1):
    yield f"{where}: {group} groups, expected 1 or one for every channel"
  if set(layer.attributes.get("dilations", [1])) != {1}:
    yield f"{where}: is dilated, which no kernel does"
  if weight.size <= len(weight):
    yield f"{where}: no more weights than channels; DORY takes them for others"
  if group != 1 and bits < 8 and len(weight) % 2:
    yield f"{where}: depthwise below 8 bits with {len(weight)} channels, odd"
  if group != 1 and bits == 2:
    yield f"{where}: depthwise weights of 2 bits: packed by 2, read by 4"


def _requant_problems(layer, where):
  # The rules further down read four operators of one constant each, so a chain
  # of others ends here.
  chain, op = layer.requant, layer.node.op_type
  if chain["order"] != ["Mul", "Add", "Div", "Clip"] or not all(
    chain["inputs"]
  ):
    yield (
      f"{where}: is followed by {', '.join(chain['order'])}, expected "
      "Mul, Add, Div, Clip one after the other"
    )
    return
  for key in ("Mul", "Add", "Div"):
    if len(chain[key]) != 1:
      yield f"{where}: {key} needs one constant"
      return

  # Multipliers and addends have one number for each channel, in the axis where
  # the layer has its channels.
  mul, add, div = (
    next(iter(chain[key].values())) for key in ("Mul", "Add", "Div")
  )
  channels = (
    next(iter(layer.constants.values())).shape[0] if (layer.constants) else 0
  )
  expected = {
    "Conv": (channels, 1, 1),
    "Gemm": (mul.size,),
    "MatMul": (mul.size,),
  }.get(op, ())
  for key, value in (("Mul", mul), ("Add", add)):
    if value.shape != expected:
      yield f"{where}: {key} has shape {value.shape}, expected {expected}"
    if not np.array_equal(value, np.rint(value)):
      yield f"{where}: {key} is not an integer"
    elif not value.ndim and float(str(value)) != float(value):
      yield (
        f"{where}: DORY writes {key} into C as {value}, which is not "
        f"{int(value)}; make it a float64"
      )
  if div.size != 1 or not math.log2(float(div.ravel()[0])).is_integer():
    yield f"{where}: Div by {div.ravel()[:3]}, expected a power of two"

  # Kernels clip to all codes of the bits, of either kind.
  low, high = chain["Clip"]["min"], chain["Clip"]["max"]
  bits = chain["Clip"]["out_bits"]
  ends = [(0, 2**bits - 1), (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)]
  if bits not in (2, 4, 8) or (low, high) not in ends:
    yield (
      f"{where}: Clip to {low:g} .. {high:g} with out_bits {bits}; kernels "
      f"clip to {' or '.join(f'{a} .. {b}' for a, b in ends)}"
    )


# ---- golden tensors ----------------------------------------------------------


def _golden_problems(model, layers, directory, config) -> Iterator[str]:
  """Differences of golden tensors from what the kernels would compute."""
  (given,) = model.graph.input
  _, channels, height, width = (
    d.dim_value for d in given.type.tensor_type.shape.dim
  )
  kind = dory_replay.TensorKind(
    config.get("input_bits", 8), bool(config.get("input_signed", False))
  )
  name = "input.txt"
  try:
    image = _golden(directory / name).reshape(height, width, channels)
    steps = dory_replay.replay(
      layers, given.name, image, kind, config["BNRelu_bits"]
    )
    for i, (layer, found) in enumerate(steps):
      name = f"out_layer{i}.txt"
      expected = _golden(directory / name)
      if found.size != expected.size:
        yield f"{name} has {expected.size} integers, expected {found.size}"
        return
      apart = np.sum(found.ravel() != expected)
      if apart:
        yield (
          f"{name} is not what DORY makes of node {layer.node.name!r}: {apart} "
          f"of {found.size} integers differ"
        )
        return
  except (OSError, ValueError) as error:
    yield f"{name}: {error}"


def _golden(path) -> np.ndarray:
  """Integers of a golden file: one a line, a comma after each."""
  lines = path.read_text().splitlines()
  lines = [line for line in lines if not line.startswith("#")]
  if not all(line.endswith(",") for line in lines):
    raise ValueError("a line does not end in a comma")
  return np.array([int(line[:-1]) for line in lines], np.int64)
