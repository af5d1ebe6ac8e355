"""Timelines worked by hand, where one kind of transfer outweighs all else.

The formulas stand at the head of `hwsim.pulp`'s timeline; what is asserted here
needs nothing but `simulate`, a layer and a target.
"""

import dataclasses

from hwsim.pulp import XPULPNN_V1, simulate
from hwsim.workload import Layer


def test_a_tile_waits_for_the_output_before_it():
  """Output channels are cut, pixels are not: an output goes pixel by pixel.

  A line takes L cycles, a command 7, bytes nothing: 16 pixels of 4 rows take
  Y = 16 L + 4 x 7, an input X = L + 7, weights and their two constants W = 3 x
  (1 + 7). The first tile writes nothing and waits for the next X + W, all
  others for the output of the tile before; the last output goes alone.
  """
  line = 10**9
  target = dataclasses.replace(
    XPULPNN_V1,
    l2_bytes=10**7,  # so that nothing is cut for L3
    dma_bytes_per_cycle=10**9,
    dma_line_cycles=line,
    dma_store_line_cycles=0,
    dma_command_cycles=7,
    tile_cycles=3,
    channel_tile_cycles=0,
    layer_start_cycles=1000,
  )
  layer = Layer("pointwise", "conv", 512, 512, 4, 4)
  cycles = simulate(layer, 8, 8, 8, target)
  tiles, rest = divmod(cycles.overhead - 1000, 3)
  assert rest == 0 and tiles > 1 and cycles.compute < line
  x, w, y = line + 7, 3 * (1 + 7), 16 * line + 4 * 7
  first, others = x + w, (tiles - 1) * y
  assert cycles.total == 1000 + 3 * tiles + (x + w) + first + others + y


def test_weights_come_again_for_every_slice_of_rows():
  """Rows and channels are cut, and an L3 transfer takes S, far above all else.

  The first weights, then the next ones behind every slice but the last, and the
  last output rows: S times one more than there are slices. With the input in L3
  its first rows are another.
  """
  setup = 10**12
  target = dataclasses.replace(
    XPULPNN_V1,
    l2_bytes=80_000,
    code_reserved_bytes=0,
    tile_cycles=0,
    channel_tile_cycles=0,
    l3_setup_cycles=setup,
    l3_bytes_per_cycle=10**6,
  )
  layer = Layer("conv", "conv", 128, 256, 16, 16, 3, 3, 1, (1, 1, 1, 1))
  for input_in_l3, besides in ((False, 1), (True, 2)):
    cycles = simulate(layer, 8, 8, 8, target, input_in_l3=input_in_l3)
    slices, rest = divmod(cycles.overhead, target.layer_start_cycles)
    assert rest == 0 and slices > layer.out_height  # so channels are cut
    assert cycles.total // setup == slices + besides
