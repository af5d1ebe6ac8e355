"""Which formats a BitQ run tries, and what they move."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from fbq.experiments.bitq.block_network import Movement
from fbq.experiments.bitq.config import Word
from fbq.experiments.bitq.results import LayerMovement
from fbq.nets.graph import Net
from fbq.search import bitq, pareto_sets
from hwsim.bfp import (
  BlockFormat,
  Memories,
  MovementTable,
  Traffic,
  network_traffic,
)
from hwsim.bfp.formats import common_denominator, scaled
from hwsim.bfp.table import layer_prices
from hwsim.workload import Workload

_NO_TRADE_OFF = 1e-9  # alpha that only decides between equal losses


def uniform(word: Word) -> list[BlockFormat]:
  """Formats with blocks of 16 or so: all SE, only the ends of long words.

  Of elements all there are.
  """
  if word.elements:
    return sorted(word.grid)
  sizes = sorted(word.block_sizes)
  size = min(sizes, key=lambda s: abs(s - 16))
  same = sorted(f for f in word.grid if f.block_size == size)
  if word.bits > 8 and len(same) > 2:
    same = [same[0], same[-1]]
  return same


def shown(format_: BlockFormat) -> str:
  """<SE, BS>, as the paper writes a format of a word; or its element."""
  if format_.element:
    return format_.element
  return f"<{format_.exponent_bits}, {format_.block_size}>"


def front(
  choice: bitq.FormatChoice, resolution: float
) -> tuple[tuple[tuple[float, float], ...], float]:
  """((cost, loss) of the front, cheapest first), its error as a share.

  The cost is bits moved, or cycles, as the table of the choice has it. The
  resolution, a share of the largest, is doubled as long as there
  is too much between two points.
  """
  try:
    found = bitq.front(choice, resolution)
  except pareto_sets.TooMany:
    return front(choice, 2 * resolution)
  moved = map(float, found.movement_bits)
  points = tuple(zip(moved, found.loss.tolist(), strict=True))
  return points, float(found.error_bits / choice.table.bits(choice.largest))


def ablations(
  trained: bitq.FormatChoice,
  untrained: bitq.FormatChoice,
  alpha: float,
  cost: str = "data movement",
) -> dict[str, bitq.Formats]:
  """Optimal formats of table 4, by what eq. 1 goes without.

  Args:
    trained, untrained: choices by the losses after training and before.
    alpha: weight of the cost.
    cost: what it is.
  """
  table = bits_alone(trained.table, trained.workload)
  widest = table.units.reshape(len(table.layers), -1).max(1).sum()
  bits = dataclasses.replace(trained, table=table, largest=int(widest))
  return {
    "without QAT": bitq.optima(untrained, [alpha]).formats[0],
    f"without {cost}": bitq.optima(bits, [alpha]).formats[0],
    "without trade-off": bitq.optima(trained, [_NO_TRADE_OFF]).formats[0],
  }


def bits_alone(table: MovementTable, workload: Workload) -> MovementTable:
  """Bits per element of a layer's three tensors in place of their movement.

  Layers that move nothing count nothing.
  """
  prices = [
    layer_prices(workload, i, table.activations, table.weights)
    if layer.multiplies and table.units[i].any()
    else ()
    for i, layer in enumerate(table.layers)
  ]
  per_bit = common_denominator(sum(itertools.chain(*prices), []))
  units = np.zeros(table.units.shape, np.int64)
  for row, of_layer in zip(units, prices, strict=True):
    if of_layer:
      inputs, weights, outputs = (scaled(p, per_bit) for p in of_layer)
      row[...] = inputs[:, None, None] + weights[:, None] + outputs
  return dataclasses.replace(table, units=units, per_bit=per_bit)


def movement(traffic: Sequence[Traffic], memories: Memories) -> Movement:
  """What all layers move."""
  inputs, weights, outputs = zip(*(t.tensor_bits for t in traffic), strict=True)
  return Movement(
    float(sum(t.dram_bits for t in traffic)),
    float(sum(t.sram_bits for t in traffic)),
    sum(t.joules(memories) for t in traffic),
    (float(sum(inputs)), float(sum(weights)), float(sum(outputs))),
  )


def layers(
  net: Net, formats: Mapping[str, BlockFormat], memories: Memories
) -> tuple[LayerMovement, ...]:
  """What every layer that multiplies moves."""
  workload = net.workload
  rows = []
  for traffic in network_traffic(workload, formats, memories):
    i = workload.index[traffic.name]
    sites = *workload.operands(i), workload.output_sites[i]
    rows.append(
      LayerMovement(
        traffic.name,
        tuple(None if site is None else formats[site] for site in sites),
        movement([traffic], memories),
        " ".join(map(str, traffic.tile[1:])),
      )
    )
  return tuple(rows)
