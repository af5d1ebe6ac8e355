"""Cycles of layers in block formats on a cluster with an MX dot-product unit.

A layer takes as long as the slower of its products and its transfers, which
double buffering hides behind each other:

  products   rounded up to whole instructions for each tap of a kernel, over
             peak times utilization
  transfers  the least data movement of `hwsim.bfp` through half of the memory,
             over the bandwidth of the DMA

The unit takes a layer whose two operands have the same element, one that the
unit has, scales that are powers of two (E8M0, as MX has them), and blocks along
the sum of a multiple of its granule. Everything else is cast to FP32,
multiplied and scaled in software: other elements, other scales (those of NVFP4
are E4M3), block floating point, two different elements, and depthwise
convolutions, whose sum runs over pixels of blocks with different scales. That
takes the published rate of MXFP8 in software, whatever its bits (an inference:
nobody published others). FP32 has a rate of its own.

This is a model of published peaks, not of a pipeline: no start of a kernel, no
share of cores without work, no cost of im2col, norms or softmax. Compare
formats by it, not boards.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hwsim.bfp.formats import FP32, BlockFormat
from hwsim.bfp.scoring import encode, score
from hwsim.bfp.table import MovementTable, movement_table
from hwsim.mx.target import Target
from hwsim.workload import Layer, Workload

UNIT, SOFTWARE, FLOAT = "unit", "software", "fp32"


class Cost(NamedTuple):
  """What the products of a layer cost.

  Attributes:
    way: `UNIT`, `SOFTWARE` or `FLOAT`.
    products: products that are made, those with padding zeros too.
    cycles: cycles of all cores.
    joules: energy of the cores; transfers come on top, and of FP32, for which
      none was published, NaN.
  """

  way: str
  products: int
  cycles: int
  joules: float


def layer_cost(
  layer: Layer, inputs: BlockFormat, weights: BlockFormat, target: Target
) -> Cost:
  """What the products of a layer cost at the formats of its two operands.

  Args:
    layer: layer with weights, or a product of two activations.
    inputs, weights: formats of its operands.
    target: the cluster.
  """
  rates, joules = dict(target.unit), dict(target.unit_joules)
  if inputs == weights == FP32:
    rate = target.fp32 * target.utilization
    return Cost(FLOAT, layer.macs, math.ceil(layer.macs / rate), math.nan)
  if not _fits(layer, inputs, weights, target):
    energy = layer.macs * target.software_joules
    cycles = math.ceil(layer.macs / target.software)
    return Cost(SOFTWARE, layer.macs, cycles, energy)

  # Blocks are whole instructions, so only the end of an axis is filled up.
  along = -(-layer.in_channels // target.granule) * target.granule
  products = layer.macs // layer.in_channels * along
  rate = rates[inputs.element] * target.utilization
  return Cost(
    UNIT,
    products,
    math.ceil(products / rate),
    products * joules[inputs.element],
  )


def cycle_table(
  workload: Workload,
  activations: Sequence[BlockFormat],
  target: Target,
  weights: Sequence[BlockFormat] | None = None,
) -> MovementTable:
  """Cycles of every layer at every format, in place of bits that move.

  A unit of the table is a cycle. What chooses formats by data movement, such as
  `fbq.search.bitq`, so chooses by latency.

  Args:
    workload: `L` layers.
    activations, weights: see `hwsim.bfp.movement_table`.
    target: the cluster.

  Raises:
    ValueError: not even tiles of one element fit; names the layer.
  """
  moved = movement_table(
    workload, activations, 4 * target.memory_bytes, weights, others="once"
  )
  per_cycle = moved.per_bit * 8 * target.dma_bytes
  cycles = -(-moved.units // per_cycle)
  for row, layer in zip(cycles, workload.layers, strict=True):
    if layer.multiplies:
      products = [
        [layer_cost(layer, i, w, target).cycles for w in moved.weights]
        for i in moved.activations
      ]
      row[...] = np.maximum(row, np.array(products, np.int64)[..., None])
  return MovementTable(
    moved.memory_bits,
    moved.layers,
    moved.activations,
    moved.weights,
    cycles,
    per_bit=1,
    follows_bits=False,
  )


def network_cycles(
  workload: Workload, formats: Mapping[str, BlockFormat], target: Target
) -> int:
  """Cycles of a whole network, one layer after the other.

  Args:
    workload: names the sites.
    formats: format of every site, whether the unit takes it or not.
    target: the cluster.

  Raises:
    ValueError: not even tiles of one element fit; names the layer.
  """
  known = sorted(set(formats.values()))
  table = cycle_table(workload, known, target)
  row = [known.index(formats[site]) for site in workload.sites]
  return int(score(table, encode(table, workload, np.array([row])))[0])


def network_costs(
  workload: Workload, formats: Mapping[str, BlockFormat], target: Target
) -> dict[str, Cost]:
  """{layer: cost of its products} of the layers that multiply.

  Args:
    workload: names the sites.
    formats: format of every input and weight site.
    target: the cluster.
  """
  found = {}
  for i, layer in enumerate(workload.layers):
    if layer.multiplies:
      first, second = (formats[site] for site in workload.operands(i))
      found[layer.name] = layer_cost(layer, first, second, target)
  return found


def takes(format_: BlockFormat, target: Target) -> bool:
  """Whether the unit multiplies two tensors that both have a format."""
  return (
    format_.element in dict(target.unit)
    and not format_.scale
    and not format_.block_size % target.granule
  )


def _fits(layer, inputs, weights, target) -> bool:
  """Whether the unit takes the products of a layer."""
  return (
    inputs.element == weights.element
    and layer.op != "depthwise"
    and takes(inputs, target)
    and takes(weights, target)
  )
