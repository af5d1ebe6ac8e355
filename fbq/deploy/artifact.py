"""An integer network as two plain files, and back bit for bit.

  network.json   layers, bits, shifts, code ranges, scales, sizes: to be read
  weights.npz    per layer "NAME.weight" packed as PULP-NN has it in memory
                 (`fbq.deploy.packing`), "NAME.mul", "NAME.add", "NAME.bias";
                 what they stand for, "NAME.slope" and "NAME.offset"; and what
                 was proven of sums and codes

Both carry digests, so a file that was cut short or altered is refused.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from fbq import precision
from fbq.deploy import files, packing
from fbq.deploy import requant as rq
from fbq.deploy.integer import IntegerNet
from hwsim import proxies

KIND = files.Kind("fbq integer network", 3)


def save(network: IntegerNet, directory: Path) -> dict[str, Any]:
  """Writes network.json and weights.npz; what network.json holds."""
  entries = {
    **files.net_entries(network.net),
    "requantization_bits": network.width,
    "bits": dict(network.bits),
    "steps": {
      name: float(step)
      for name, step in network.steps.items()
      if not np.ndim(step)
    },
    "layers": [_layer(network, node) for node in network.net.nodes],
    "sizes": sizes(network),
  }
  return files.write(directory, KIND, entries, _arrays(network))


def load(directory: Path) -> IntegerNet:
  """The integer network that `save` wrote, the same to the last bit.

  Raises:
    ArtifactError: a file is missing, damaged, altered, or of another version.
  """
  return files.read(directory, KIND, _network)


def sizes(network: IntegerNet) -> dict[str, int]:
  """Bytes: of weights packed, of constants, of activations at their peak."""
  layers = network.layers.values()
  constant_bytes = sum(
    x.nbytes
    for part in layers
    for key, x in part.items()
    if key in ("mul", "add")
  )
  workload = network.net.workload
  weight_bytes = proxies.weight_bytes(workload, network.bits)
  bias_bytes = sum(4 * part["bias"].size for part in layers if "bias" in part)
  return {
    "weight_bytes": weight_bytes,
    "constant_bytes": constant_bytes,
    "bias_bytes": bias_bytes,
    "total_bytes": weight_bytes + constant_bytes + bias_bytes,
    "peak_activation_bytes": proxies.peak_activation_bytes(
      workload, network.bits
    ),
    "float_bytes": 4 * network.net.parameter_count,
  }


def _layer(network, node):
  """One row of network.json."""
  row = files.node_row(node)
  part = network.layers[node.name]
  row["constants"] = {
    key: np.asarray(value).tolist()
    for key, value in part.items()
    if key not in ("weight", "mul", "add", "bias")
  }
  if node.has_weights:
    row["weight_bits"] = network.bits[f"{node.name}.weight"]
    row["weight_shape"] = list(part["weight"].shape)
  return row


def _arrays(network):
  """Everything that has channels, by name."""
  found = {}
  for node in network.net.nodes:
    part = network.layers[node.name]
    for key in ("mul", "add", "bias"):
      if key in part:
        found[f"{node.name}.{key}"] = part[key]
    if "weight" in part:
      bits = network.bits[f"{node.name}.weight"]
      codes = packing.to_memory(node.op, part["weight"], bits)
      found[f"{node.name}.weight"] = packing.pack(codes, bits)
      step = network.steps[f"{node.name}.weight"]
      found[f"{node.name}.weight_step"] = step
  for kind in ("affine", "reach", "codes"):
    for name, value in getattr(network, kind).items():
      for field, array in value._asdict().items():
        found[f"{name}.{kind}.{field}"] = array
  return {name: np.asarray(x, order="C") for name, x in found.items()}


def _network(manifest, arrays):
  # The table first: it says which arrays there must be.
  rows = manifest["layers"]
  net = files.net_of(manifest)
  precision.check_assignment(
    net, manifest["bits"], "network.json", packing.LADDER
  )

  # Steps of activations are plain numbers of the manifest; those of weights
  # have channels and come from the arrays.
  steps = {key: np.float64(x) for key, x in manifest["steps"].items()}
  layers = {}
  for node, row in zip(net.nodes, rows, strict=True):
    part = {k: np.array(x, np.int32) for k, x in row["constants"].items()}
    for key in ("mul", "add", "bias"):
      if f"{node.name}.{key}" in arrays:
        part[key] = arrays[f"{node.name}.{key}"]
    if node.has_weights:
      site = f"{node.name}.weight"
      part["weight"] = _weight(node, row, arrays[site])
      steps[site] = arrays[f"{node.name}.weight_step"]
    layers[node.name] = part

  # What was proven of accumulators and codes. A node that has no requantization
  # has none of it.
  kinds: dict[str, dict[str, Any]] = {"affine": {}, "reach": {}, "codes": {}}
  makers = {"affine": rq.Affine, "reach": rq.Range, "codes": rq.Range}
  for kind, found in kinds.items():
    for name in ("input", *net.node):
      fields = makers[kind]._fields
      if f"{name}.{kind}.{fields[0]}" in arrays:
        values = (arrays[f"{name}.{kind}.{field}"] for field in fields)
        found[name] = makers[kind](*values)

  width = manifest["requantization_bits"]
  return IntegerNet(
    net,
    manifest["bits"],
    width,
    layers,
    {name: np.asarray(step) for name, step in steps.items()},
    **kinds,
  )


def _weight(node, row, packed):
  """Codes int8 in the order of `IntegerNet` from those in memory."""
  shape, bits = tuple(row["weight_shape"]), row["weight_bits"]
  codes = packing.unpack(packed, bits, math.prod(shape), signed=True)
  return packing.from_memory(node.op, codes, bits, shape)
