"""Timelines against the discrete-event referee, sums, small and bad layers."""

import dataclasses

import numpy as np
import pulp_comparison
import pytest
import timeline_referee
from hwsim_networks import mobilenet_v1
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pulp_referee.schedule import loads, schedule
from pulp_referee.tiling import tile_l1

from hwsim.pulp import TARGETS, XPULP_V2, XPULPNN_V1, Target, simulate
from hwsim.pulp.geometry import OPS
from hwsim.workload import Layer

LAYERS = tuple(
  {layer.geometry: layer for layer in mobilenet_v1().layers}.values()
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_mobilenet_within_two_percent_of_the_referee(target):
  for layer in LAYERS:
    out_widths = (32,) if layer.op == "linear" else (2, 4, 8)
    for a in (2, 4, 8):
      for w in (2, 4, 8):
        for o in out_widths:
          cycles = simulate(layer, a, w, o, target).total
          referee = timeline_referee.simulate(layer, a, w, o, target)
          assert cycles == pytest.approx(referee, rel=0.02), (layer, a, w, o)


@st.composite
def small_layers(draw):
  """Layers of any operator, down to one pixel and one channel."""
  op = draw(st.sampled_from(OPS))
  channels = draw(st.integers(1, 70))
  outputs = draw(st.integers(1, 70)) if op in ("conv", "linear") else channels
  height, width = draw(st.integers(1, 34)), draw(st.integers(1, 34))
  kernel, stride = draw(st.sampled_from((1, 2, 3))), draw(st.integers(1, 2))
  pad = draw(st.integers(0, kernel // 2))
  if op in ("linear", "add"):
    kernel, stride, pad = 1, 1, 0
  if op in ("max_pool", "avg_pool"):  # of one pixel there is nothing to compute
    kernel = max(kernel, 2)
  if op == "linear":
    height = width = 1
  height, width = max(height, kernel - 2 * pad), max(width, kernel - 2 * pad)
  return Layer(
    "small", op, channels, outputs, height, width, kernel, kernel, stride,
    (pad,) * 4,
  )  # fmt: skip


bits = st.sampled_from((2, 4, 8))


@settings(max_examples=150, deadline=None)
@given(small_layers(), bits, bits, st.sampled_from((2, 4, 8, 32)))
@example(Layer("small", "depthwise", 5, 5, 27, 32, 1, 1), 8, 2, 32)
def test_any_small_layer_has_a_time_near_the_referee(layer, a, w, o):
  assume(o < 32 or layer.has_weights)  # accumulators of products
  try:
    cycles = simulate(layer, a, w, o, XPULPNN_V1)
  except ValueError:  # no tile: the numpy code finds none either
    entry = pulp_comparison.Entry(layer, (a, w, o), XPULPNN_V1)
    assert not pulp_comparison.differences([entry])
    return
  assert cycles.total == sum(cycles[1:5])
  assert cycles.waiting <= cycles.compute
  assert min(cycles) >= 0 < cycles.compute
  referee = timeline_referee.simulate(layer, a, w, o, XPULPNN_V1)
  # The referee's cores share the commands of a depthwise input (up to 70) and
  # of an output row by row, which shows where tiles are tiny or DMA is slowest.
  assert cycles.total == pytest.approx(referee, rel=0.08, abs=70 * 12)


@pytest.mark.parametrize(
  "layer",
  [layer for layer in LAYERS if layer.in_height < 56],
  ids=lambda layer: layer.name,
)
def test_tiles_cover_the_layer(layer):
  out_bits = 32 if layer.op == "linear" else 8
  tile = tile_l1(layer, 8, 8, out_bits, XPULP_V2)
  plan = schedule(layer, tile, (8, 8, out_bits), XPULP_V2)
  counts = (
    -(-layer.out_channels // tile.out_channels),
    -(-layer.out_height // tile.out_height),
    -(-layer.out_width // tile.out_width),
  )
  assert plan.compute.shape == counts
  # Every transfer but the first tile's is started once, by some iteration.
  moved = plan.load_x.sum() + plan.load_w.sum()
  assert loads(plan).sum() == moved - plan.load_x[0, 0, 0] - plan.load_w[0]


def test_blocking_dma_adds_up():
  """Without double buffering a tile waits for all it moves (GAP8)."""
  layer = LAYERS[4]
  blocking = dataclasses.replace(XPULP_V2, double_buffering=1)
  tile = tile_l1(layer, 8, 8, 8, blocking)
  plan = schedule(layer, tile, (8, 8, 8), blocking)
  tiles = plan.compute.size
  moved = plan.load_x.sum() + plan.load_w.sum() + plan.store_y.sum()
  software = 1009 + 389 * tiles + 71 * plan.compute.shape[0]
  expected = software + plan.compute.sum() + moved
  assert tiles > 1
  wide = dataclasses.replace(blocking, code_reserved_bytes=0, l2_bytes=10**7)
  assert simulate(layer, 8, 8, 8, wide).total == expected


def test_a_layer_that_fits_l2_touches_no_l3():
  network = mobilenet_v1()
  layer = network.layers[network.index["features.6.pw"]]
  assert simulate(layer, 4, 4, 8, XPULPNN_V1).l3 == 0
  slow = dataclasses.replace(XPULPNN_V1, l3_bytes_per_cycle=1e-3)
  assert simulate(layer, 4, 4, 8, slow) == simulate(layer, 4, 4, 8, XPULPNN_V1)


def test_faster_transfers_and_less_overhead_never_slow_a_layer():
  """None of these constants enters the choice of tiles."""
  better = (
    dict(dma_bytes_per_cycle=16),
    dict(dma_command_cycles=0),
    dict(tile_cycles=0),
    dict(l3_bytes_per_cycle=1.0),
  )
  for layer in LAYERS:
    out_bits = 32 if layer.op == "linear" else 8
    for bits in (2, 4, 8):
      cycles = simulate(layer, bits, bits, out_bits, XPULPNN_V1)
      for change in better:
        target = dataclasses.replace(XPULPNN_V1, **change)
        faster = simulate(layer, bits, bits, out_bits, target)
        assert faster.compute == cycles.compute
        assert faster.total <= cycles.total


def test_cycles_do_not_overflow():
  """Slow L3 and a large layer: far beyond int32, still exact."""
  slow = dataclasses.replace(XPULPNN_V1, l3_bytes_per_cycle=1e-6)
  layer = LAYERS[3]
  cycles = simulate(layer, 8, 8, 8, slow)
  assert cycles.total > np.iinfo(np.int32).max
  assert cycles.total == sum(cycles[1:5])
  assert cycles.waiting <= cycles.compute


@pytest.mark.parametrize(
  "widths, message",
  [
    ((3, 8, 8), "'pw': input bits are 3, expected one of"),
    ((8, 16, 8), "'pw': weight bits are 16"),
    ((8, 8, 0), "'pw': output bits are 0"),
  ],
)
def test_other_bits_are_refused(widths, message):
  with pytest.raises(ValueError, match=message):
    simulate(Layer("pw", "conv", 8, 8, 4, 4), *widths, XPULP_V2)


@pytest.mark.parametrize(
  "sizes, message",
  [
    (dict(in_channels=0), "in_channels is 0"),
    (dict(in_height=-3), "in_height is -3"),
    (dict(kernel_height=7), "kernel height 7 is larger than its padded input"),
    (dict(stride=0), "stride is 0"),
  ],
)
def test_impossible_layers_are_refused_by_name(sizes, message):
  sizes = dict(in_channels=8, out_channels=8, in_height=4, in_width=4) | sizes
  with pytest.raises(ValueError, match=f"layer 'bad': {message}"):
    Layer("bad", "conv", **sizes)


def test_targets_are_checked():
  with pytest.raises(ValueError, match="l1_budget_bytes is -9000"):
    dataclasses.replace(XPULP_V2, l1_bytes=20_000)
  with pytest.raises(ValueError, match="cores is 4, expected 8"):
    dataclasses.replace(XPULP_V2, cores=4)
  with pytest.raises(ValueError, match="dma_bytes_per_cycle is 0"):
    Target("mine", "XpulpV2", "XpulpV2", dma_bytes_per_cycle=0)
