"""The two files of a deployed network, sealed: refused if cut short or altered.

network.json   what is to be read, with digests of both files
weights.npz    arrays by name
"""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fbq.files import user_path, write_atomically
from fbq.nets.graph import Net, Node

T = TypeVar("T")


class ArtifactError(ValueError):
  """Files that cannot be used; the message names them."""


class Kind(NamedTuple):
  """What a network.json says that it is."""

  format: str
  version: int


def write(
  directory: Path,
  kind: Kind,
  entries: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
) -> dict[str, Any]:
  """Writes both files, network.json last; what it holds.

  Args:
    directory: directory that is written to, made if it is missing.
    kind: kind of the network.
    entries: entries of network.json, besides kind and digests.
    arrays: arrays of weights.npz by name.
  """
  directory = user_path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  buffer = io.BytesIO()
  np.savez(buffer, allow_pickle=False, **arrays)
  content = buffer.getvalue()
  manifest = {
    **kind._asdict(),
    **entries,
    "weights_sha256": hashlib.sha256(content).hexdigest(),
  }
  manifest["sha256"] = _digest(manifest)
  write_atomically(directory / "weights.npz", content)
  text = json.dumps(manifest, indent=1) + "\n"
  write_atomically(directory / "network.json", text)
  return manifest


def read(
  directory: Path,
  kind: Kind,
  make: Callable[[dict[str, Any], dict[str, np.ndarray]], T],
) -> T:
  """What `make` makes of what `write` was given.

  Args:
    directory: directory with both files.
    kind: kind that is expected of the network.
    make: (entries of network.json, arrays of weights.npz) -> the network.

  Raises:
    ArtifactError: a file is missing, damaged, altered, or of another kind.
  """
  directory = user_path(directory)
  manifest, arrays = _sealed(directory, kind)
  try:
    return make(manifest, arrays)
  except (ValueError, KeyError, TypeError) as error:
    raise ArtifactError(f"{directory} holds no network: {error!r}") from error


def _sealed(directory, kind):
  """(entries of network.json, arrays of weights.npz), as they were written."""
  manifest = _manifest(directory / "network.json", kind)
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
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
      arrays = dict(file)
  except (ValueError, zipfile.BadZipFile) as error:
    raise ArtifactError(f"{path} holds no arrays: {error!r}") from error
  for name, values in arrays.items():
    if not np.isfinite(values).all():
      raise ArtifactError(
        f"{path}: {name} has values that are not finite: export the network "
        "again"
      )
  return manifest, arrays


def node_row(node: Node) -> dict[str, Any]:
  """A node for network.json, without what is as by default."""
  return {
    key: value
    for key, value in dataclasses.asdict(node).items()
    if key in ("name", "op", "inputs") or value != _DEFAULTS[key]
  }


def net_of(
  manifest: Mapping[str, Any],
) -> Net:
  """The network of a manifest: of `net_entries`, and rows of `node_row`."""
  height, width, channels = manifest["input_shape"]
  nodes = tuple(map(_node, manifest["layers"]))
  zero = tuple(manifest.get("image_zero", ()))
  return Net(manifest["net"], (height, width, channels), nodes, image_zero=zero)


def net_entries(net: Net) -> dict[str, Any]:
  """What network.json holds of a network beside its layers."""
  entries = {"net": net.name, "input_shape": list(net.input_shape)}
  zero = {"image_zero": list(net.image_zero)} if net.image_zero else {}
  return entries | zero


def _node(row):
  fields = {key: row[key] for key in _DEFAULTS if key in row}
  for key in ("inputs", "kernel", "padding"):
    if isinstance(fields.get(key), list):
      fields[key] = tuple(fields[key])
  return Node(**fields)


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Node)}


def _manifest(path, kind):
  try:
    manifest = json.loads(path.read_text())
    found = Kind(manifest["format"], manifest["version"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ArtifactError(f"{path} holds no network: {error!r}") from error
  if found != kind:
    raise ArtifactError(
      f"{path} is {found.format!r} of version {found.version}, expected "
      f"{kind.format!r} of version {kind.version}"
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
