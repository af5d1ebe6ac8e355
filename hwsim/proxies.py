"""Costs that need no hardware: bit operations, model size, activation memory.

All are exact integers. A precision is a mapping from site to bits, as in
`hwsim.latency_table`; sites that the workload fixes may be left out.
"""

from collections.abc import Mapping

import numpy as np

from hwsim.latency_table import BITS
from hwsim.workload import Workload


def bops(workload: Workload, precision: Mapping[str, int]) -> int:
  """Bit operations: bits of both operands x MACs, over what multiplies.

  Additions and pools count nothing, as in Bayesian Bits (van Baalen et al.,
  2020, appendix B.2) and Free Bits. Of a product of two activations both bits
  count.
  """
  bits = workload.site_bits(precision)
  total = 0
  for i, layer in enumerate(workload.layers):
    if layer.multiplies:
      first, second = workload.operands(i)
      total += bits[first] * bits[second] * layer.macs
  return total


def bops_table(workload: Workload) -> np.ndarray:
  """Bit operations int64[L, A, W]: the axes of a latency table, so that
  `scoring.score` sums them for many candidates at once.

  Raises:
    ValueError: a layer multiplies two activations, for which a latency table
      has no axes; names it.
  """
  for layer in workload.layers:
    if layer.op == "matmul":
      raise ValueError(
        f"layer {layer.name!r}: a table of input and weight bits has no place "
        "for a product of two activations; use bops for one assignment"
      )
  macs = np.array([layer.macs for layer in workload.layers], np.int64)
  return macs[:, None, None] * np.outer(BITS, BITS)


def weight_bytes(workload: Workload, precision: Mapping[str, int]) -> int:
  """Bytes of all weights, packed layer by layer; no biases, no batch norm."""
  bits = workload.site_bits(precision)
  return sum(
    -(-layer.weight_count * bits[workload.weight_site(layer)] // 8)
    for layer in workload.layers
    if layer.has_weights
  )


def peak_activation_bytes(
  workload: Workload, precision: Mapping[str, int]
) -> int:
  """Most bytes of activations that are alive at once, layers run in order.

  Tensors are packed; those without a site take 32 bits an element.
  """
  bits = {**workload.site_bits(precision), None: 32}
  return max(
    sum(-(-elements * bits[site] // 8) for elements, site in alive)
    for alive in live_tensors(workload)
  )


def live_tensors(
  workload: Workload,
) -> tuple[tuple[tuple[int, str | None], ...], ...]:
  """Per layer, (elements, site) of each activation alive while it runs.

  These are its inputs, its output, and every earlier tensor that a later layer
  reads. Outputs that are not quantized have no site. A concatenated tensor
  whose parts are written in place is no tensor besides them.
  """
  tensors = [
    (layer.out_count, site)
    for layer, site in zip(workload.layers, workload.output_sites, strict=True)
  ]
  for i, sources in enumerate(workload.sources):
    if -1 in sources:
      site = workload.input_sites[i][sources.index(-1)]
      tensors.append((_image_elements(workload, i), site))  # position -1
      break
  return tuple(
    tuple(tensors[j] for j in alive) for alive in live_layers(workload)
  )


def live_layers(workload: Workload) -> tuple[tuple[int, ...], ...]:
  """Per layer, whose outputs are alive while it runs: positions, -1 the image.

  See `live_tensors`.
  """
  last_use: dict[int, int] = {}
  for i, sources in enumerate(workload.sources):
    last_use.update(dict.fromkeys(sources, i))
  kept = [j for j in range(len(workload.layers)) if j not in workload.in_place]
  for i in sorted(workload.in_place, reverse=True):  # outer ones first
    for source in workload.sources[i]:
      last_use[source] = max(last_use[source], last_use.get(i, i))
  return tuple(
    tuple(
      j for j in (-1, *kept) if j == i or (j < i and last_use.get(j, -1) >= i)
    )
    for i in range(len(workload.layers))
  )


def _image_elements(workload: Workload, reader: int) -> int:
  """Elements of the network's input, which layer number `reader` reads."""
  layer, sources = workload.layers[reader], workload.sources[reader]
  if layer.op == "concat":
    others = sum(workload.layers[j].out_count for j in sources if j >= 0)
    return (layer.in_count - others) // sources.count(-1)
  if layer.op == "scale" and sources[0] >= 0:
    return layer.in_channels
  return layer.in_count
