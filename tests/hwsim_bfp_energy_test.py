"""Two levels of memory, against loops over tiles and brute force."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hwsim_bfp_numpy import compulsory, footprints, volumes
from hwsim_bfp_problems import problems
from hwsim_networks import chain
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.bfp.candidates import critical_sizes
from hwsim.bfp.energy import (
  Memories,
  Traffic,
  layer_traffic,
  network_traffic,
  sram_movement,
)
from hwsim.bfp.formats import FP32, bitq_format
from hwsim.bfp.movement import ORDERS, Nest
from hwsim.bfp.tiling import best_tiling
from hwsim.workload import Layer


def registers(prices):
  """Room for one element of each tensor and a little more."""
  return int(sum(prices) * 4)


@settings(max_examples=12, deadline=None)
@given(problems(), st.data())
def test_sram_traffic_is_the_sum_over_tiles(problem, data):
  nest, prices, _ = problem
  tile = tuple(data.draw(st.integers(-(-size // 3), size)) for size in nest[:8])
  expected, least = Fraction(0), {}
  starts = [
    range(0, size, step) for size, step in zip(nest.sizes, tile, strict=True)
  ]
  for start in itertools.product(*starts):
    sizes = [
      min(step, size - at)
      for at, step, size in zip(start, tile, nest.sizes, strict=True)
    ]
    part = Nest(*sizes, stride=nest.stride)
    if part not in least:
      least[part] = best_tiling(part, prices, registers(prices)).bits
    expected += least[part]
  found = sram_movement(nest, tile, tuple(prices), registers(prices))
  assert found == expected


@settings(max_examples=25, deadline=None)
@given(problems())
def test_dram_traffic_is_least_and_the_tile_fits_but_cannot_grow(problem):
  nest, prices, memory_bits = problem
  memories = Memories(memory_bits, registers(prices))
  traffic = layer_traffic(nest, tuple(prices), memories)
  assert traffic.dram_bits == best_tiling(*problem).bits
  assert sum(traffic.tensor_bits) == traffic.dram_bits

  def at(tile):
    tile = np.array(tile)
    held = footprints(nest, tile).astype(object) @ prices
    moved = volumes(nest, tile, traffic.order) * (1, 1, 2)
    return held, moved.astype(object) @ prices

  held, moved = at(traffic.tile)
  assert held <= memory_bits and moved == traffic.dram_bits
  for i in range(1, 8):
    larger = [s for s in critical_sizes(nest[i]) if s > traffic.tile[i]]
    if larger:
      tile = list(traffic.tile)
      tile[i] = larger[0]
      held, moved = at(tile)
      assert held > memory_bits or moved > traffic.dram_bits


def test_of_tilings_that_move_as_little_the_least_sram_traffic_is_taken():
  """Four tilings cannot grow in 2,056 bits: 104,800 to 136,320 of SRAM."""
  nest, prices = Nest(1, 1, 8, 5, 7, 8, 3, 3), (Fraction(8),) * 3
  memories = Memories(2056, 200)
  sizes = [critical_sizes(size).tolist() for size in nest.sizes]
  tiles = np.array(list(itertools.product(*sizes)))
  tiles = tiles[8 * footprints(nest, tiles).sum(1) <= memories.sram_bits]
  moved = {
    order: 8 * (volumes(nest, tiles, order) * (1, 1, 2)).sum(1)
    for order in ORDERS
  }
  least = min(bits.min() for bits in moved.values())
  best = {
    tuple(tile)
    for bits in moved.values()
    for tile in tiles[bits == least].tolist()
  }
  largest = [t for t in best if (np.array(list(best)) >= t).all(1).sum() == 1]
  traffic = [sram_movement(nest, t, prices, 200) for t in largest]
  found = layer_traffic(nest, prices, memories)
  assert found.dram_bits == least
  assert min(traffic) == found.sram_bits < max(traffic)


@settings(max_examples=20, deadline=None)
@given(problems())
def test_a_layer_that_fits_moves_once_from_dram(problem):
  """Its SRAM traffic is then that of the layer through the registers."""
  nest, prices, _ = problem
  prices = tuple(prices)
  memories = Memories(10**12, registers(prices))
  traffic = layer_traffic(nest, prices, memories)
  once = compulsory(nest) * (1, 1, 2)
  assert [int(n) * p for n, p in zip(once, prices, strict=True)] == list(
    traffic.tensor_bits
  )
  alone = nest._replace(g=1)
  through = best_tiling(alone, prices, registers(prices)).bits * nest.g
  assert traffic.sram_bits <= through


def test_energy_is_that_of_equation_8():
  traffic = Traffic("", Fraction(3), (Fraction(1),) * 3, Fraction(5), (), "")
  assert traffic.joules(Memories(1)) == pytest.approx(3 * 20e-12 + 5 * 0.16e-12)
  own = Memories(1, dram_joules_per_bit=1.0, sram_joules_per_bit=0.5)
  assert traffic.joules(own) == 5.5


def small():
  return chain(
    "small",
    [
      Layer("conv", "conv", 3, 8, 12, 12, 3, 3, 2, (1, 1, 1, 1)),
      Layer("dw", "depthwise", 8, 8, 6, 6, 5, 5, 1, (2, 2, 2, 2)),
      Layer("pool", "avg_pool", 8, 8, 6, 6, 6, 6),
      Layer("fc", "linear", 8, 10),
    ],
  )


def test_network_traffic_prices_each_site():
  """Logits have no site and 32 bits; everything fits, so all moves once."""
  workload = small()
  formats = {
    site: bitq_format(8, 3, 16) if "weight" in site else bitq_format(16, 4, 24)
    for site in workload.sites
  }
  rows = network_traffic(workload, formats, Memories(10**9), batch=2)
  layers = [layer for layer in workload.layers if layer.has_weights]
  assert [row.name for row in rows] == [layer.name for layer in layers]
  weight_bits = {
    "conv": 5 + Fraction(3, 3 * 9),  # 3 channels are one block, not 3 of 16
    "dw": 5 + Fraction(3, 8 * 25),
    "fc": 5 + Fraction(3, 8),
  }
  for layer, row in zip(layers, rows, strict=True):
    assert row.tensor_bits[1] == layer.weight_count * weight_bits[layer.name]
    out_bits = 32 if layer.name == "fc" else 12 + Fraction(4, 8)
    assert row.tensor_bits[2] == 2 * 2 * layer.out_count * out_bits


@pytest.mark.parametrize("sram, registers", [(60, 4096), (8192, 60)])
def test_memories_too_small_name_the_layer_and_the_need(sram, registers):
  workload = small()
  formats = dict.fromkeys(workload.sites, FP32)
  message = "'conv': a memory of 60 bits holds no tile.*needs 96 bits"
  with pytest.raises(ValueError, match=message):
    network_traffic(workload, formats, Memories(sram, registers))


def test_missing_formats_are_named():
  workload = small()
  formats = dict.fromkeys(workload.sites[:-1], FP32)
  with pytest.raises(ValueError, match=r"no formats for \['fc.weight'\]"):
    network_traffic(workload, formats, Memories(8192))
