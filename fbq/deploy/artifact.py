"""An integer network as two plain files, and back bit for bit.

  network.json   layers, bits, shifts, code ranges, scales, sizes: to be read
  weights.npz    per layer "NAME.weight" packed as PULP-NN has it in memory
                 (`fbq.deploy.packing`), "NAME.mul", "NAME.add", "NAME.bias";
                 what they stand for, "NAME.slope" and "NAME.offset"; and what
                 was proven of sums and codes

Both carry digests, so a file that was cut short or altered is refused.
"""

import dataclasses
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fbq import precision
from fbq.deploy import packing
from fbq.deploy import requant as rq
from fbq.deploy.integer import IntegerNet
from fbq.nets.graph import Net, Node
from hwsim import proxies

FORMAT = "fbq integer network"
VERSION = 1


class ArtifactError(ValueError):
  """Files that cannot be used; the message names them."""


def save(network: IntegerNet, directory: Path) -> dict[str, Any]:
  """Writes network.json and weights.npz; what network.json holds."""
  directory = Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **_arrays(network))
  content = buffer.getvalue()
  manifest = {
    "format": FORMAT,
    "version": VERSION,
    "net": network.net.name,
    "input_shape": list(network.net.input_shape),
    "requantization_bits": network.width,
    "bits": dict(network.bits),
    "steps": {
      name: float(step)
      for name, step in network.steps.items()
      if not np.ndim(step)
    },
    "layers": [_layer(network, node) for node in network.net.nodes],
    "sizes": sizes(network),
    "weights_sha256": hashlib.sha256(content).hexdigest(),
  }
  manifest["sha256"] = _digest(manifest)
  (directory / "weights.npz").write_bytes(content)
  text = json.dumps(manifest, indent=1) + "\n"
  (directory / "network.json").write_text(text)
  return manifest


def load(directory: Path) -> IntegerNet:
  """The integer network that `save` wrote, the same to the last bit.

  Raises:
    ArtifactError: a file is missing, damaged, altered, or of another version.
  """
  directory = Path(directory)
  manifest = _manifest(directory / "network.json")
  path = directory / "weights.npz"
  try:
    content = path.read_bytes()
  except OSError as error:
    raise ArtifactError(f"{path} cannot be read: {error}") from error
  if hashlib.sha256(content).hexdigest() != manifest["weights_sha256"]:
    raise ArtifactError(
      f"{path} is not the file that network.json was written with; it was cut "
      "short or altered: export the network again"
    )
  try:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
      return _network(manifest, dict(arrays))
  except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
    raise ArtifactError(f"{directory} holds no network: {error!r}") from error


def sizes(network: IntegerNet) -> dict[str, int]:
  """Bytes: of weights packed, of constants, of activations at their peak."""
  layers = network.layers.values()
  constant_bytes = sum(
    x.nbytes
    for part in layers
    for key, x in part.items()
    if key in ("mul", "add", "in_mul", "in_add")
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
  row: dict[str, Any] = {
    key: value
    for key, value in dataclasses.asdict(node).items()
    if key in ("name", "op", "inputs") or value != _DEFAULTS[key]
  }
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


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Node)}


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
  net = Net(
    manifest["net"],
    tuple(manifest["input_shape"]),
    tuple(_node(row) for row in manifest["layers"]),
  )
  precision.check(net, manifest["bits"], "network.json")
  steps = {key: np.float64(x) for key, x in manifest["steps"].items()}
  layers = {}
  for node, row in zip(net.nodes, manifest["layers"], strict=True):
    part = {k: np.array(x, np.int32) for k, x in row["constants"].items()}
    for key in ("mul", "add", "bias"):
      if f"{node.name}.{key}" in arrays:
        part[key] = arrays[f"{node.name}.{key}"]
    if node.has_weights:
      site = f"{node.name}.weight"
      part["weight"] = _weight(node, row, arrays[site])
      steps[site] = arrays[f"{node.name}.weight_step"]
    layers[node.name] = part
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


def _node(row):
  fields = {key: row[key] for key in _DEFAULTS if key in row}
  for key in ("inputs", "kernel", "padding"):
    if isinstance(fields.get(key), list):
      fields[key] = tuple(fields[key])
  return Node(**fields)


def _weight(node, row, packed):
  """Codes int8 in the order of `IntegerNet` from those in memory."""
  shape, bits = tuple(row["weight_shape"]), row["weight_bits"]
  codes = packing.unpack(packed, bits, math.prod(shape), signed=True)
  return packing.from_memory(node.op, codes, bits, shape)


def _manifest(path):
  try:
    manifest = json.loads(path.read_text())
    found = manifest["format"], manifest["version"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ArtifactError(f"{path} holds no network: {error!r}") from error
  if found != (FORMAT, VERSION):
    raise ArtifactError(
      f"{path} is {found[0]!r} of version {found[1]}, expected {FORMAT!r} of "
      f"version {VERSION}"
    )
  if manifest.get("sha256") != _digest(manifest):
    raise ArtifactError(
      f"{path} was altered after it was written: export the network again"
    )
  return manifest


def _digest(manifest: Mapping[str, Any]) -> str:
  """SHA-256 of a manifest but for the digest it carries."""
  rest = {key: x for key, x in manifest.items() if key != "sha256"}
  text = json.dumps(rest, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
