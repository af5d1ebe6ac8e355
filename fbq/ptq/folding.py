"""Batch norm folded into the weights before it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fbq.nets.graph import Net, Node
from fbq.variables import check_numbers

_FOLDABLE = ("conv", "depthwise", "linear")
_EPSILON = 1e-5  # of fbq.model


def fold(
  net: Net, variables: Mapping[str, Any]
) -> tuple[Net, dict[str, dict[str, Any]]]:
  """The same network without batch norms, and its variables.

  Every norm, by its running statistics, becomes a factor of each output channel
  of the kernel and a bias (whitepaper, eq. 20 and 21); a layer scale before it
  goes with it. Outputs are those of the network in evaluation, up to float32.

  Args:
    net: network with batch norms.
    variables: "params" and "batch_stats" of the model of `net`. Others are not
      kept: ranges of weights are no longer theirs.

  Returns:
    (net, {"params": ..}); names of nodes and sites stay.

  Raises:
    ValueError: a norm follows what has no kernel with a factor per channel, or
      variables are not finite.
  """
  check_numbers(variables)
  params = dict(variables["params"])
  nodes = []
  for node in net.nodes:
    if not node.norm:
      nodes.append(node)
      continue

    # A norm behind an adder has no single kernel to take its factor.
    if node.op not in _FOLDABLE:
      raise ValueError(
        f"net {net.name!r}: the batch norm of {node.name!r} ({node.op}) cannot "
        f"be folded, expected it after one of {_FOLDABLE}"
      )

    # The bias takes the norm's offset; a layer scale is folded into both.
    _fold_node(node, params, variables["batch_stats"][f"{node.name}_norm"])
    nodes.append(
      dataclasses.replace(node, norm=False, bias=True, layer_scale=0.0)
    )
  return dataclasses.replace(net, nodes=tuple(nodes)), {"params": params}


class Spread(NamedTuple):
  """How unequal folding makes the channels of a layer.

  Attributes:
    layer: name of the node.
    before: widest over median range of a channel, in magnitude.
    after: widest over median range of folded weights.
    lost: share of folded channels that are 0 altogether if 8-bit codes are
      shared: below half a step of the widest.
    variance: variance of the batch norm in the channel that is the widest
      folded.
  """

  layer: str
  before: float
  after: float
  lost: float
  variance: float


def spreads(net: Net, variables: Mapping[str, Any]) -> list[Spread]:
  """A row for each layer with a batch norm; arguments of `fold`."""
  _, folded = fold(net, variables)
  rows = []
  for node in net.nodes:
    if not node.norm:
      continue
    before, after = (
      np.abs(p[f"{node.name}_kernel"]).reshape(-1, net.shapes[node.name][2])
      for p in (variables["params"], folded["params"])
    )
    before, after = before.max(axis=0), after.max(axis=0)
    variance = variables["batch_stats"][f"{node.name}_norm"]["var"]
    numbers = (
      before.max() / np.median(before),
      after.max() / np.median(after),
      np.mean(after < after.max() / 254),
      np.asarray(variance)[after.argmax()],
    )
    rows.append(Spread(node.name, *map(float, numbers)))
  return rows


def _fold_node(
  node: Node, params: dict[str, Any], stats: Mapping[str, Any]
) -> None:
  """Replaces what `node` has in `params`, computed in float64."""
  double = lambda x: np.asarray(x, np.float64)
  norm = params.pop(f"{node.name}_norm")
  slope = double(norm["scale"]) / np.sqrt(double(stats["var"]) + _EPSILON)
  offset = double(norm["bias"]) - double(stats["mean"]) * slope
  if node.layer_scale:
    slope = slope * double(params.pop(f"{node.name}_scale"))
  if node.bias:
    offset = offset + double(params[f"{node.name}_bias"]) * slope
  kernel = double(params[f"{node.name}_kernel"]) * slope
  params[f"{node.name}_kernel"] = kernel.astype(np.float32)
  params[f"{node.name}_bias"] = offset.astype(np.float32)
