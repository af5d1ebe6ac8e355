"""A network in block floating point as two plain files, and back bit for bit.

  network.json   layers, the format, tile and size of every tensor, largest
                 exponents of activations, rounding, sizes: to be read
  weights.npz    per layer "NAME.weight", bias, exponents and codes packed as
                 `fbq.quantizers.bfp_codes` says; all else that was trained in
                 float32, by its place: "params/NAME_bias", "batch_stats/..."

Both carry digests, so a file that was cut short or altered is refused. Decoded
weights are what the model's quantizer makes of the trained ones, but for the
sign of zeros, and it leaves them as they are: the model that was trained, given
them as variables, computes the same logits.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from fbq.deploy import files
from fbq.model import Model
from fbq.nets.graph import INPUT, Net, Node
from fbq.quantizers import bfp, bfp_codes, blocks
from fbq.quantizers.bfp_codes import Encoded
from fbq.schemes.block_float import BlockFloat, Data, weight_axes, window_axes
from fbq.variables import check_numbers
from hwsim import proxies

KIND = files.Kind("fbq block floating point network", 1)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockNet:
  """A network in block floating point.

  Attributes:
    net: the network.
    scheme: scheme that says along what blocks run and how activations are
      rounded.
    formats: int32 [S, 3], see `block_float.Data`.
    tops: int32 [S], see `block_float.Data`; 0 for weights.
    weights: {site: integers} of every kernel.
    constants: float32 by place: biases, norms, layer scales.
  """

  net: Net
  scheme: BlockFloat
  formats: np.ndarray
  tops: np.ndarray
  weights: Mapping[str, Encoded]
  constants: Mapping[str, np.ndarray]

  @property
  def data(self) -> Data:
    """What the model takes."""
    return Data(jnp.asarray(self.formats), jnp.asarray(self.tops))

  @functools.cached_property
  def variables(self) -> dict[str, Any]:
    """ "params" and "batch_stats" of the model, with decoded kernels."""
    kernels = {
      _kernel(node): bfp_codes.decode(self.weights[f"{node.name}.weight"])
      for node in self.net.nodes
      if node.has_weights
    }
    return traverse_util.unflatten_dict({**kernels, **self.constants}, sep="/")

  def weight_bytes(self, site: str) -> int:
    """Bytes of a kernel, packed."""
    x = self.weights[site]
    bits = bfp_codes.storage_bits(
      x.codes.shape, x.tile, x.bits, x.exponent_bits
    )
    return -(-bits // 8)

  def activation_bytes(self, tensor: str) -> int:
    """Bytes of one image's tensor, packed; logits take 4 each."""
    site = self.net.site_of[tensor]
    shape = (1, *self.net.stored_shapes[tensor])
    if site is None:
      return 4 * int(np.prod(shape))
    bits, exponent_bits, _ = _format(self, site)
    tile = _activation_tile(self, site)
    return -(-bfp_codes.storage_bits(shape, tile, bits, exponent_bits) // 8)

  def logits(self, images: jax.Array) -> jax.Array:
    """[B, classes] of images [B, H, W, C]; compiled once for all formats."""
    return logits(self.net, self.scheme, self.variables, self.data, images)


@functools.partial(jax.jit, static_argnums=(0, 1))
def logits(net: Net, scheme: BlockFloat, variables, data: Data, images):
  """[B, classes] of a model in block floating point, compiled."""
  return Model(net, scheme).apply(variables, images, train=False, data=data)


def encode(
  net: Net, variables: Mapping[str, Any], data: Data, scheme: BlockFloat
) -> BlockNet:
  """The integers of a trained network.

  Args:
    net: network of the trained model.
    variables: "params" and "batch_stats" of the model of `net`.
    data: data that the model was trained with: rows of
      `block_formats.to_array`, tops.
    scheme: scheme that the model was trained in.

  Raises:
    ValueError: variables or formats do not fit the network, or a number is not
      finite; the message names the tensor.
  """
  # Formats are arrays, so a wrong one would else be found in a NaN.
  sites = net.workload.sites
  formats, tops = (np.array(x, np.int32) for x in data)
  if formats.shape != (len(sites), 3) or tops.shape != (len(sites),):
    raise ValueError(
      f"formats have shape {formats.shape} and tops {tops.shape}, expected "
      f"{(len(sites), 3)} and {(len(sites),)} for {net.name}"
    )

  # The formats that the compiled model used, not those that it was asked for.
  if len(scheme.sizes) == 1:
    formats[:, 2] = scheme.sizes[0]  # the only one that is compiled
  is_weight = np.array([site.endswith(".weight") for site in sites])
  tops = np.where(is_weight, 0, tops)  # theirs are taken from the weights
  for site, row in zip(sites, formats, strict=True):
    try:
      bfp.check_format(bfp.Format(*row), scheme.sizes)
    except ValueError as error:
      raise ValueError(f"{net.name}: format of {site!r}: {error}") from error

  # Kernels become integers; all else stays as it was trained.
  constants = _leaves(net, variables)
  check_numbers(variables)
  weights = {}
  for node in net.nodes:
    if node.has_weights:
      site = f"{node.name}.weight"
      kernel = jnp.asarray(constants.pop(_kernel(node)))
      axis, over = weight_axes(node, kernel.ndim, scheme.spans_kernel)
      format_ = bfp.Format(*formats[sites.index(site)].tolist())
      try:
        weights[site] = bfp_codes.encode(
          kernel, format_, axis, over, rounding=scheme.rounding
        )
      except ValueError as error:
        raise ValueError(f"{net.name}: {site!r}: {error}") from error
  return BlockNet(net, scheme, formats, tops, weights, constants)


def save(network: BlockNet, directory: Path) -> dict[str, Any]:
  """Writes network.json and weights.npz; what network.json holds."""
  scheme = dataclasses.asdict(network.scheme)
  entries = {
    **files.net_entries(network.net),
    "scheme": scheme | {"sizes": list(network.scheme.sizes)},
    "formats": {
      site: _format_row(network, site) for site in network.net.workload.sites
    },
    "layers": [_layer_row(network, node) for node in network.net.nodes],
    "sizes": sizes(network),
  }
  packed = {
    site: np.frombuffer(bfp_codes.pack(encoded), np.uint8)
    for site, encoded in network.weights.items()
  }
  return files.write(directory, KIND, entries, {**packed, **network.constants})


def load(directory: Path) -> BlockNet:
  """The network that `save` wrote, the same to the last bit.

  Raises:
    ArtifactError: a file is missing, damaged, altered, or of another version.
  """
  return files.read(directory, KIND, _network)


def sizes(network: BlockNet) -> dict[str, int]:
  """Bytes: of weights packed, of constants, of activations at their peak.

  Exponents are counted as they are stored, also of blocks that are cut short
  by the end of an axis. FP32 is 25 bits and an exponent of 8 here.
  """
  weight_bytes = sum(map(network.weight_bytes, network.weights))
  constant_bytes = sum(x.nbytes for x in network.constants.values())
  names = [*network.net.node, INPUT]  # -1 is the image
  alive = proxies.live_layers(network.net.workload)
  return {
    "weight_bytes": weight_bytes,
    "constant_bytes": constant_bytes,
    "total_bytes": weight_bytes + constant_bytes,
    "peak_activation_bytes": max(
      sum(network.activation_bytes(names[j]) for j in live) for live in alive
    ),
    "float_bytes": 4 * network.net.parameter_count,
  }


def _format(network, site) -> list[int]:
  return network.formats[network.net.workload.sites.index(site)].tolist()


def _activation_tile(network, site):
  """Size of a block of a tensor [B, H, W, C] along every axis."""
  over = window_axes(network.scheme.window, 4)
  return blocks.tile_of(4, -1, over, _format(network, site)[2])


def _format_row(network, site):
  """What network.json says of a site."""
  bits, exponent_bits, size = _format(network, site)
  row: dict[str, Any] = {
    "element_bits": bits,
    "exponent_bits": exponent_bits,
    "block_size": size,
  }
  if site in network.weights:
    encoded = network.weights[site]
    return row | {
      "shape": list(encoded.codes.shape),
      "tile": list(encoded.tile),
      "bytes": network.weight_bytes(site),
    }
  top = int(network.tops[network.net.workload.sites.index(site)])
  tile = _activation_tile(network, site)
  return row | {"tile": list(tile), "top": top}


def _layer_row(network, node):
  """What network.json says of a layer: itself, and the tensor it makes."""
  return files.node_row(node) | {
    "output_site": network.net.site_of[node.name],
    "output_shape": list(network.net.shapes[node.name]),
    "output_bytes": network.activation_bytes(node.name),
  }


def _network(manifest, arrays):
  net = files.net_of(manifest)
  scheme = manifest["scheme"]
  rows = [manifest["formats"][site] for site in net.workload.sites]
  keys = ("element_bits", "exponent_bits", "block_size")
  weights = {}
  for site, row in zip(net.workload.sites, rows, strict=True):
    if "shape" in row:
      weights[site] = bfp_codes.unpack(
        arrays.pop(site).tobytes(),
        tuple(row["shape"]),
        tuple(row["tile"]),
        row["element_bits"],
        row["exponent_bits"],
      )
  return BlockNet(
    net,
    BlockFloat(**scheme | {"sizes": tuple(scheme["sizes"])}),
    np.array([[row[key] for key in keys] for row in rows], np.int32),
    np.array([row.get("top", 0) for row in rows], np.int32),
    weights,
    arrays,
  )


def _kernel(node: Node) -> str:
  return f"params/{node.name}_kernel"


def _leaves(net, variables) -> dict[str, np.ndarray]:
  """Variables by place; ValueError unless they are those of the network."""
  image = jnp.zeros((1, *net.input_shape))
  expected = jax.eval_shape(
    lambda: Model(net).init(jax.random.key(0), image, train=False)
  )
  wanted, found = _flat(expected), _flat(variables)
  for place in wanted | found:
    want, have = (
      f"{x[place].dtype}{list(x[place].shape)}" if place in x else "nothing"
      for x in (wanted, found)
    )
    if want != have:
      raise ValueError(
        f"variables have {have} at {place}, expected {want} for {net.name}: "
        "pass those of its trained model"
      )
  return {place: np.asarray(found[place]) for place in wanted}


def _flat(variables) -> dict[str, Any]:
  kinds = {
    kind: dict(variables.get(kind, {})) for kind in ("params", "batch_stats")
  }
  return traverse_util.flatten_dict(kinds, sep="/")
