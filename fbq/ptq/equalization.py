"""Ranges of channels made equal across layers, without changing the network.

Cross-layer equalization of Data-free quantization (arXiv 1906.04721, section
4.1): between two layers a channel may be divided by s and multiplied by s again
if what is in between is positively homogeneous, as ReLU and pools are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fbq.nets.graph import POOLS, Net, Node
from fbq.variables import check_numbers

_LAYERS = ("conv", "depthwise", "linear")
_PARAMS = ("kernel", "bias")
_HOMOGENEOUS = ("relu", "none")


def pairs(net: Net) -> tuple[tuple[str, str], ...]:
  """(layer, the only layer that reads it, pools on the way) that equalize.

  In the order of the net. Not among them: layers that an adder, a
  concatenation or several layers read, whose channels others have a say in, and
  those with another function than ReLU, such as one that clips.

  Raises:
    ValueError: a layer has a batch norm.
  """
  normed = [node.name for node in net.nodes if node.norm]
  if normed:
    raise ValueError(
      f"net {net.name!r}: layers {normed[:3]} .. have a batch norm, which "
      "undoes every factor before it; fold them first (fbq.ptq.folding.fold)"
    )
  found = []
  for node in net.nodes:
    if node.op in _LAYERS:
      reader = _reader(net, node)
      if reader is not None and reader.op in _LAYERS:
        found.append((node.name, reader.name))
  return tuple(found)


def _reader(net: Net, node: Node) -> Node | None:
  """The only node that reads `node`, through pools; None if there is none."""
  readers = [reader for reader in net.nodes if node.name in reader.inputs]
  if len(readers) != 1 or node.activation not in _HOMOGENEOUS or node.clip:
    return None
  return _reader(net, readers[0]) if readers[0].op in POOLS else readers[0]


def equalize(
  net: Net, params: Mapping[str, Any], most_rounds: int = 100
) -> dict[str, Any]:
  """`params` of the same function whose channels' ranges are equal in pairs.

  Channel i of a pair, of ranges r1 (largest weight that makes it) and r2 (that
  reads it), is divided by sqrt(r1 / r2), which makes both sqrt(r1 r2) (eq. 11).
  Pair by pair in rounds, as a depthwise layer is in two, until no factor is
  further from 1 than 1e-3. Channels that nothing makes or reads stay.

  Ranges of activations change: calibrate afterwards.

  Args:
    net: network without batch norms.
    params: parameters of the model of `net`.
    most_rounds: rounds after which to stop.

  Raises:
    ValueError: `net` has batch norms, or parameters are not finite.
  """
  check_numbers({"params": params})

  # In float64, as the factors of many rounds are multiplied up.
  chain = pairs(net)
  keys = {
    f"{name}_{kind}" for pair in chain for name in pair for kind in _PARAMS
  }
  changed = {
    key: np.array(params[key], np.float64) for key in keys & params.keys()
  }

  # A depthwise layer is the second of one pair and the first of another, so
  # each pair disturbs its neighbours: rounds until nothing moves.
  for _ in range(most_rounds):
    factors = [_equalize_pair(net, changed, *pair) for pair in chain]
    if max((np.abs(np.log(f)).max() for f in factors), default=0.0) < 1e-3:
      break
  changed = {key: value.astype(np.float32) for key, value in changed.items()}
  return {**params, **changed}


def _equalize_pair(
  net: Net, params: dict[str, np.ndarray], first: str, second: str
) -> np.ndarray:
  """[C]: the factors by which the channels of `first` were divided."""
  maker = params[f"{first}_kernel"]
  reader = _by_input_channel(net, params[f"{second}_kernel"], second)
  made = np.abs(maker).reshape(-1, maker.shape[-1]).max(axis=0)
  read = np.abs(reader).max(axis=(0, 2))
  alive = (made > 0) & (read > 0)
  factors = np.where(alive, made, 1.0) / np.where(alive, read, 1.0)
  factors = np.sqrt(factors)
  maker /= factors
  if f"{first}_bias" in params:
    params[f"{first}_bias"] /= factors
  reader *= factors[:, None]
  return factors


def _by_input_channel(net: Net, kernel: np.ndarray, name: str) -> np.ndarray:
  """A view [.., C, ..] of a layer's kernel, C its input channels."""
  node = net.node[name]
  if node.op == "depthwise":
    return kernel.reshape(-1, kernel.shape[-1], 1)
  channels = net.shapes[node.inputs[0]][2]  # the last axis that linear flattens
  return kernel.reshape(-1, channels, kernel.shape[-1])
