"""What the pruning gates of Bayesian Bits stand for.

A pruned output channel has weights of 0, so that behind batch norm it is a
constant. `zeroed` keeps it so at a fixed precision, with
`fbq.train.optimizer.holding` in fine-tuning. Its cost goes only where the
channel is taken out: `pruned_workload` says what is left then. Taking it out
asks for its constant in the sums of the layers that read it; `fbq.deploy` does
not do that, so by default nothing is pruned.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import Net
from fbq.quantizers import gates
from fbq.schemes.bayesian_bits import BayesianBits
from hwsim.workload import Workload

Kept = Mapping[str, np.ndarray]
_SPREADS = ("depthwise", "avg_pool", "max_pool")  # channel by channel


def kept_channels(
  net: Net, scheme: BayesianBits, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """{node: bool [O]}, the output channels that stay, of nodes with gates."""
  return {
    node.name: np.asarray(
      gates.BAYESIAN_BITS.is_open(
        jnp.asarray(variables["gates"][f"{node.name}.weight.channels"])
      )
    )
    for node in net.nodes
    if node.has_weights and scheme.can_prune(node)
  }


def zeroed(params: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
  """The parameters with the kernels of pruned channels at 0."""
  kernels = {
    f"{name}_kernel": params[f"{name}_kernel"] * mask
    for name, mask in kept.items()
  }
  return {**params, **kernels}


def pruned_workload(net: Net, kept: Kept) -> Workload:
  """The workload of `net` once its pruned channels are taken out.

  A channel of a depthwise convolution or a pool goes with the one it reads, and
  the other way round.

  Raises:
    ValueError: a layer without channels, or an operator that joins tensors of
      different channels (the two sides of a residual add).
  """
  # Channels that the gates leave, each node's own. What works channel by
  # channel keeps no more than it reads.
  masks = {"input": np.ones(net.input_shape[2], bool)}
  for node in net.nodes:
    own = kept.get(node.name, np.ones(net.shapes[node.name][2], bool))
    if node.op in _SPREADS:
      own = own & masks[node.inputs[0]]
    masks[node.name] = own

  # The other way round: a channel that its only reader dropped is dropped where
  # it is made. Backwards, so that it passes through several such nodes.
  for node in reversed(net.nodes):
    if node.op in _SPREADS:
      _only_reader(net, node, masks)
      masks[node.inputs[0]] = masks[node.name]

  # Sizes of what is left. Operators that join tensors would need their channels
  # matched, which no layer of a workload can say: refused.
  layers = []
  for node, layer in zip(net.nodes, net.workload.layers, strict=True):
    reads = [masks[name] for name in node.inputs]
    if len(reads) > 1 and not all(mask.all() for mask in reads):
      raise ValueError(
        f"{net.name}: channels of {node.inputs}, which {node.name!r} "
        f"({node.op}) joins, are pruned; leave these layers' gates open"
      )
    out = int(masks[node.name].sum())
    if out == 0:
      raise ValueError(f"{net.name}: all channels of {node.name!r} are pruned")
    pixels = layer.in_channels // len(reads[0]) if node.op == "linear" else 1
    inputs = int(reads[0].sum()) * pixels
    layers.append(
      dataclasses.replace(layer, in_channels=inputs, out_channels=out)
    )
  shapes = tuple(
    (height, width, int(masks[name].sum()))
    for name, (height, width, _) in net.shapes.items()
  )
  return dataclasses.replace(
    net.workload, layers=tuple(layers), stored_shapes=shapes
  )


def _only_reader(net, node, masks):
  source = node.inputs[0]
  others = [other for other in net.nodes if source in other.inputs]
  if len(others) > 1 and not np.array_equal(masks[node.name], masks[source]):
    raise ValueError(
      f"{net.name}: {node.name!r} prunes channels of {source!r}, which "
      f"{[other.name for other in others if other is not node]} read too"
    )
