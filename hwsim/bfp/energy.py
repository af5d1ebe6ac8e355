"""Traffic at two levels of memory, and its energy.

DRAM traffic is what `tiling` minimises. The tile that lies in SRAM is a layer
of its own, whose operands move between SRAM and registers: SRAM traffic is the
least movement of every tile, clipped ones too, through the registers. BitQ's
released code adds up three such levels of a desktop CPU instead.
"""

import functools
import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hwsim.bfp.candidates import candidates, combinations, critical_sizes
from hwsim.bfp.formats import FP32, BlockFormat
from hwsim.bfp.movement import ORDERS, Nest, nest_of
from hwsim.bfp.tiling import (
  OUT_MOVES,
  Tilings,
  cheapest,
  check_memory,
  smallest,
)
from hwsim.workload import Workload


class Memories(NamedTuple):
  """Capacities of a device, and what a bit costs at each boundary.

  Attributes:
    sram_bits: capacity for one tile of each tensor.
    register_bits: capacity for one tile of a tile; 128 words of 32 bits, as in
      MOpt.
    dram_joules_per_bit, sram_joules_per_bit: E_D and E_S of eq. 8 (BitQ,
      section 5: 20 and 0.16 pJ).
  """

  sram_bits: int
  register_bits: int = 128 * 32
  dram_joules_per_bit: float = 20e-12
  sram_joules_per_bit: float = 0.16e-12


class Traffic(NamedTuple):
  """What one layer moves between DRAM, SRAM and registers.

  Attributes:
    name: name of the layer.
    dram_bits: least bits between DRAM and this SRAM.
    tensor_bits: bits between DRAM and SRAM by tensor: input, weights, output.
    sram_bits: bits between SRAM and registers.
    tile: tile that lies in SRAM, sizes in the order of `movement.LOOPS`.
    order: loops over tiles, innermost first.
  """

  name: str
  dram_bits: Fraction
  tensor_bits: tuple[Fraction, Fraction, Fraction]
  sram_bits: Fraction
  tile: tuple[int, ...]
  order: str

  def joules(self, memories: Memories) -> float:
    """Energy of the layer's data movement (eq. 8)."""
    return float(
      self.dram_bits * Fraction(memories.dram_joules_per_bit)
      + self.sram_bits * Fraction(memories.sram_joules_per_bit)
    )


def network_traffic(
  workload: Workload,
  formats: Mapping[str, BlockFormat],
  memories: Memories,
  *,
  batch: int = 1,
  out_moves: int = OUT_MOVES,
) -> tuple[Traffic, ...]:
  """Traffic of every layer that multiplies under one assignment of formats.

  Of a product of two activations the second stands in the place of the weights.

  Args:
    workload: names the sites; outputs without one are priced at 32 bits.
    formats: format of every input, weight and output site.
    memories: capacities and energies of the device.
    batch: images that are processed together.
    out_moves: times a moved output counts.

  Raises:
    ValueError: a site has no format, or a memory holds no tile of a layer.
  """
  rows = []
  for i, layer in enumerate(workload.layers):
    # Operators that multiply nothing count nothing, as in the paper.
    if not layer.multiplies:
      continue

    # A missing format is named before any of this layer is searched.
    sites = *workload.operands(i), workload.output_sites[i]
    missing = [s for s in sites if s is not None and s not in formats]
    if missing:
      raise ValueError(f"workload {workload.name!r}: no formats for {missing}")

    # Each tensor is priced as it is stored, so by its shape.
    inputs, seconds, outputs = (
      FP32 if site is None else formats[site] for site in sites
    )
    shapes = workload.input_shapes(i)
    prices = (
      inputs.activation_bits(shapes[0]),
      seconds.weight_bits(layer)
      if layer.has_weights
      else seconds.activation_bits(shapes[1]),
      outputs.activation_bits(workload.output_shape(i)),
    )

    # `layer_traffic` is cached by shape and knows no names, so the name is
    # added to what comes back and to what goes wrong.
    try:
      traffic = layer_traffic(
        nest_of(layer, batch), prices, memories, out_moves
      )
    except ValueError as error:
      raise ValueError(f"layer {layer.name!r}: {error}") from error
    rows.append(traffic._replace(name=layer.name))
  return tuple(rows)


@functools.lru_cache(maxsize=10_000)
def layer_traffic(
  nest: Nest,
  prices: tuple[Fraction, Fraction, Fraction],
  memories: Memories,
  out_moves: int = OUT_MOVES,
) -> Traffic:
  """Traffic of one layer: the least DRAM traffic, then the least of SRAM.

  Lexicographic, since a DRAM bit costs 125 times an SRAM bit: of the tilings
  that move the least from DRAM and cannot be enlarged, the one whose tiles move
  the least from SRAM. A tiling that moves a little more from DRAM and much less
  from SRAM is not looked for.
  """
  bits, found = cheapest(
    nest, candidates(nest), prices, memories.sram_bits, out_moves
  )
  check_memory(prices, memories.register_bits)
  least = None
  for tile, (moved, order) in _largest(
    nest, smallest(found), prices, memories.sram_bits, out_moves
  ).items():
    sram = sram_movement(nest, tile, prices, memories.register_bits, out_moves)
    if least is None or sram < least[0]:
      least = sram, tile, moved, order
  assert least is not None  # the best tiling itself is among them
  sram, tile, moved, order = least
  inputs, weights, outputs = (n * p for n, p in zip(moved, prices, strict=True))
  return Traffic(
    "", bits, (inputs, weights, outputs), sram, tile, ORDERS[order]
  )


def _largest(nest, optimal: Tilings, prices, memory_bits, out_moves):
  """Tilings that move as little as some and cannot grow: tile -> moved, order.

  Args:
    optimal: tilings of the layer that move the least.
  """
  found: dict[tuple[int, ...], tuple[list[int], int]] = {}
  for tile, order in zip(
    optimal.tiles.tolist(), optimal.orders.tolist(), strict=True
  ):
    sizes = [[1]]
    for first, size in zip(tile[1:], nest.sizes[1:], strict=True):
      larger = critical_sizes(size)
      sizes.append([first, *larger[larger > first].tolist()])
    these = combinations(nest, {order: sizes})
    _, grown = cheapest(nest, these, prices, memory_bits, out_moves)
    for row, moved in zip(
      grown.tiles.tolist(), grown.moved.tolist(), strict=True
    ):
      found.setdefault(tuple(row), (moved, order))
  tiles = np.array(list(found))
  return {
    tile: way
    for tile, way in found.items()
    if (tiles >= tile).all(1).sum() == 1
  }


def sram_movement(
  nest: Nest,
  tile: tuple[int, ...],
  prices: tuple[Fraction, Fraction, Fraction],
  register_bits: int,
  out_moves: int = OUT_MOVES,
) -> Fraction:
  """Bits that all tiles of a layer move between SRAM and registers.

  Each tile is run by its own best order and tiling; the clipped tiles at the
  edges are smaller layers.
  """
  pieces = []
  for size, step in zip(nest.sizes, tile, strict=True):
    rest = size % step
    pieces.append([(step, size // step)] + [(rest, 1)] * (rest > 0))
  total = Fraction(0)
  for combination in itertools.product(*pieces):
    sizes, counts = zip(*combination, strict=True)
    part = Nest(*sizes, stride=nest.stride)
    total += int(np.prod(counts)) * _least(
      part, prices, register_bits, out_moves
    )
  return total


@functools.lru_cache(maxsize=100_000)
def _least(nest, prices, memory_bits, out_moves) -> Fraction:
  return cheapest(nest, candidates(nest), prices, memory_bits, out_moves)[0]
