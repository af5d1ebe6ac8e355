"""Which layers compute in integers and which in float, and what converts.

A precision of 8 bits is integers, one of 32 is float. How a tensor lies in
memory is the precision of its site; in what a layer computes is that of its
weights, or of a layer without weights the widest of what it reads. Where they
differ, the layer converts: a reader what it reads, a writer what it writes. So
an assignment says every conversion.
"""

import math
from collections.abc import Mapping

from fbq.nets.graph import Net, Node
from hwsim.latency_table import Ladder

LADDER = Ladder(activations=(8, 32), weights=(4, 8, 32))
FLOAT = 32
OPS = ("conv", "depthwise", "linear", "add", "avg_pool", "max_pool")


def check_supported(net: Net) -> None:
  """Raises ValueError, naming the layer, unless `net` can be written."""
  for node in net.nodes:
    where = f"net {net.name!r}: layer {node.name!r} ({node.op})"
    if node.op not in OPS:
      raise ValueError(
        f"{where} cannot be measured; what can is {', '.join(OPS)}"
      )
    if node.activation not in ("relu", "none"):
      raise ValueError(
        f"{where} has activation {node.activation!r}; use 'relu' or 'none'"
      )
    if node.norm and not node.has_weights:
      raise ValueError(
        f"{where} has a batch norm; put it behind a layer with weights"
      )
  if len(set(net.image_zero)) > 1:
    raise ValueError(
      f"net {net.name!r} pads images with the colour {net.image_zero}, and "
      "integer kernels with one number for all colours; build it without mean "
      "and std: they do not change how long it takes"
    )


def is_integer(net: Net, bits: Mapping[str, int], node: Node) -> bool:
  """Whether a layer computes in integers under an assignment."""
  if node.has_weights:
    return bits[f"{node.name}.weight"] == 8
  return all(bits[site] == 8 for site in _reads(net, node))


def conversions(
  net: Net, bits: Mapping[str, int]
) -> list[tuple[str, str, bool]]:
  """(tensor, layer that converts it, whether to integers) of an assignment."""
  found = []
  for node in net.nodes:
    integer = is_integer(net, bits, node)
    for name, site in zip(node.inputs, _reads(net, node), strict=True):
      if (bits[site] == 8) != integer:
        found.append((name, node.name, integer))
    site = net.site_of[node.name]
    if site is not None and (bits[site] == 8) != integer:
      found.append((node.name, node.name, not integer))
  return found


def weight_bytes(net: Net, bits: Mapping[str, int]) -> int:
  """Bytes of the weights of an assignment, floats among them."""
  return sum(
    math.ceil(layer.weight_count * bits[net.workload.weight_site(layer)] / 8)
    for layer in net.workload.layers
    if layer.has_weights
  )


def _reads(net, node) -> list[str]:
  return [str(net.site_of[name]) for name in node.inputs]
