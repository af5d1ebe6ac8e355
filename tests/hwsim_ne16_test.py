"""NE16 against runs of GVSOC, PLiNIO's formula, and layers counted by hand."""

import dataclasses

import numpy as np
import pytest
from hwsim_networks import chain, golden

from hwsim import ne16, pulp
from hwsim.ne16 import GAP9_NE16, simulate
from hwsim.ne16.kernels import (
  Job,
  analytic_cycles,
  cycles,
  mode_of,
  state_machine_cycles,
)
from hwsim.ne16.tiling import Tile, candidates, channel_bytes, held, tile_l1
from hwsim.workload import Layer

GOLDEN = golden("ne16_golden.json")
MODES = {
  "3x3": "3x3",
  "1x1": "1x1",
  "dw": "depthwise",
  "lin": "linear",
  "fc": "linear",
}
SAME = (1, 1, 1, 1)


def job_of(row, padding):
  return Job(
    MODES[row["kind"]],
    row["h_out"],
    row["w_out"],
    row["k_in"],
    row["k_out"],
    row["w_bits"],
    row.get("stride", 1),
    padding,
    padding,
  )


@pytest.mark.parametrize("row", GOLDEN["gvsoc_job_cases"], ids=str)
def test_jobs_are_those_run_in_gvsoc(row):
  """The polling loop, 8 to 14 cycles, is in what was measured alone."""
  job = job_of(row, row["padding"])
  found = state_machine_cycles(
    job, row["norm_bits"], row["bias"], row["per_channel_shift"]
  )
  assert found == row["state_machine_sum"]
  assert 8 <= row["gvsoc_measured_with_polling"] - found <= 14


def test_the_grid_of_formulas_is_equal():
  for row in GOLDEN["formula_grid"]:
    taps = row["kind"] in ("3x3", "dw")
    job = job_of(row, int(taps))
    assert state_machine_cycles(job) == row["gvsoc_norm8_bias_pad1"], row
    assert analytic_cycles(job) == row["plinio_default"], row
    tiler = analytic_cycles(job._replace(weight_bits=8), 32, bias=True)
    assert tiler == row["dory_tiler_8bit_bias"], row


def layer_of(row, name="layer"):
  height, width, channels = row["input_hwc"]
  out_height, out_width, outputs = row["output_hwc"]
  kernel, stride = row["kernel"], row["stride"]
  pads = [
    max((out - 1) * stride + k - size, 0)
    for out, k, size in zip(
      (out_height, out_width), kernel, (height, width), strict=True
    )
  ]
  padding = (pads[0] // 2, -(-pads[0] // 2), pads[1] // 2, -(-pads[1] // 2))
  op = {"dw": "depthwise", "fc": "linear"}.get(row["kind"], "conv")
  return Layer(
    name, op, channels, outputs, height, width, *kernel, stride, padding
  )  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN["networks"])
def test_layers_of_mlperf_tiny_are_equal(name):
  """Cycles by both models and bytes between L2 and L1, at every width."""
  for row in GOLDEN["networks"][name]["layers"]:
    layer = layer_of(row)
    mode = mode_of(layer)
    if row["kind"] == "cluster":
      assert mode is None
      continue
    assert mode == MODES[row["kind"]]
    for bits in range(2, 9):
      job = Job(
        mode,
        layer.out_height,
        layer.out_width,
        layer.in_channels,
        layer.out_channels,
        bits,
        layer.stride,
        layer.padding[1],
        layer.padding[3],
      )
      analytic = dataclasses.replace(GAP9_NE16, engine="analytic")
      for each, column in (
        (GAP9_NE16, "cycles_gvsoc"),
        (analytic, "cycles_plinio"),
      ):
        found = cycles(job, each.constants.against())
        assert found.item() == row[column][str(bits)], row
      moved = layer.in_count + layer.out_count
      moved += channel_bytes(layer, bits, layer.out_channels, 1, GAP9_NE16)
      # AD's 8 inputs are stored as 16; the golden bytes leave that out once.
      outputs = layer.out_channels if layer.op == "linear" else 0
      unpadded = -layer.in_channels % 16 * outputs * bits // 8
      assert moved == row["l2_l1_bytes"][str(bits)] + unpadded, row


@pytest.mark.parametrize(
  "layer, mode",
  [
    (Layer("l", "conv", 16, 32, 8, 8, 3, 3, 1, SAME), "3x3"),
    (Layer("l", "conv", 16, 32, 8, 8, 1, 1, 2), "1x1"),
    (Layer("l", "depthwise", 16, 16, 8, 8, 3, 3, 2, SAME), "depthwise"),
    (Layer("l", "linear", 16, 10), "linear"),
    (Layer("l", "conv", 1, 64, 49, 10, 10, 4, 2, (4, 5, 1, 1)), None),
    (Layer("l", "conv", 16, 32, 9, 9, 3, 3, 3), None),
    (Layer("l", "conv", 16, 33, 9, 9, 3, 3, 2), None),
    (Layer("l", "conv", 16, 32, 8, 8, 1, 1, 1, SAME), None),
    (Layer("l", "depthwise", 16, 16, 8, 8, 5, 5, 1, (2, 2, 2, 2)), None),
    (Layer("l", "add", 16, 16, 8, 8), None),
    (Layer("l", "avg_pool", 16, 16, 8, 8, 8, 8), None),
  ],
)
def test_what_ne16_cannot_run_falls_back_to_the_cores(layer, mode):
  assert mode_of(layer) == mode
  if mode is None:
    expected = pulp.simulate(layer, 8, 8, 8, GAP9_NE16.cores)
    for bits in (2, 5, 8):
      assert simulate(layer, 8, bits, 8, GAP9_NE16) == expected


def test_a_layer_of_one_tile_by_hand():
  """3 x 3 outputs of 16 to 32 channels: nothing is hidden.

  Input 3 x 3 x 16 bytes are 18 cycles at 8 a cycle; weights 32 x 5 x 9 x 2
  bytes and 5 a channel 380; output 288 bytes 36: each with 12 for its command.
  The job: 6 + 16 + 6 + 32 x 5 + 6, of 3 + 2 less a row and a column of padding
  squared, and 8 + 4 + 9 + 2.
  """
  layer = Layer("l", "conv", 16, 32, 3, 3, 3, 3, 1, SAME)
  found = simulate(layer, 8, 5, 8, GAP9_NE16)
  assert found.compute == 6 + 16 + 6 + 160 + 6 + 8 + 4 + 9 + 2
  assert found.dma == (12 + 18) + (12 + 380) + (12 + 36)
  assert found.overhead == 1000 + 400
  assert found.total == found.compute + found.dma + found.overhead


def tile_of(layer, weight_bits, target):
  """Its tile on a target, in whole numbers."""
  tiles, fits = tile_l1(layer, weight_bits, 1, target.constants)
  assert fits.all()
  return Tile(*(int(size[0]) for size in tiles))


def walked(layer, weight_bits, target):
  """Cycles by a loop over tiles, written out."""
  tile = tile_of(layer, weight_bits, target)
  top, _, left, _ = layer.padding
  runs, loads, stores = [], [], []
  for c in range(0, layer.out_channels, tile.channels):
    channels = min(tile.channels, layer.out_channels - c)
    inputs = channels if layer.op == "depthwise" else layer.in_channels
    for r in range(0, layer.out_height, tile.rows):
      for q in range(0, layer.out_width, tile.columns):
        rows = min(tile.rows, layer.out_height - r)
        columns = min(tile.columns, layer.out_width - q)
        used = [
          range(
            start * layer.stride - pad,
            (start + count - 1) * layer.stride - pad + kernel,
          )
          for start, count, pad, kernel in (
            (r, rows, top, layer.kernel_height),
            (q, columns, left, layer.kernel_width),
          )
        ]
        sizes = layer.in_height, layer.in_width
        below = [
          max(0, u.stop - size) for u, size in zip(used, sizes, strict=True)
        ]
        job = Job(
          mode_of(layer), rows, columns, inputs, channels, weight_bits,
          layer.stride, *below,
        )  # fmt: skip
        runs.append(max(84, int(state_machine_cycles(job))))
        h, w = (
          len(set(u) & set(range(size)))
          for u, size in zip(used, sizes, strict=True)
        )
        x = move(h, w, inputs, w == layer.in_width, inputs == layer.in_channels)
        if r == q == 0:
          weights = channel_bytes(layer, weight_bits, channels, 1, target)
          x += 12 + -(-weights // 8)
        loads.append(x)
        stores.append(
          move(
            rows, columns, channels, columns == layer.out_width,
            channels == layer.out_channels,
          )
        )  # fmt: skip
  total = 1000 + loads[0]
  for i, run in enumerate(runs):
    following = loads[i + 1] if i + 1 < len(runs) else 0
    total += 400 + max(run, following, stores[i - 1] if i else 0)
  return total + stores[-1], len(runs)


def move(rows, columns, channels, all_columns, all_channels):
  lines = [rows * columns * channels]
  if not all_channels:
    lines = [channels] * (rows * columns)
  elif not all_columns:
    lines = [columns * channels] * rows
  return 12 + sum(max(1, -(-size // 8)) for size in lines)


@pytest.mark.parametrize(
  "layer",
  [
    Layer("c", "conv", 32, 96, 20, 23, 3, 3, 1, SAME),
    Layer("s", "conv", 32, 64, 31, 31, 3, 3, 2, SAME),
    Layer("d", "depthwise", 80, 80, 25, 25, 3, 3, 1, SAME),
    Layer("p", "conv", 64, 100, 24, 24),
    Layer("l", "linear", 300, 200),
  ],
)
@pytest.mark.parametrize("weight_bits", [3, 8])
def test_layers_of_many_tiles_are_a_walk_over_them(layer, weight_bits):
  small = dataclasses.replace(GAP9_NE16, l1_bytes=32_000)
  total, count = walked(layer, weight_bits, small)
  assert count > 1
  assert simulate(layer, 8, weight_bits, 8, small).total == total


def test_tiles_fit_twice_and_are_made_of_whole_blocks():
  layer = Layer("c", "conv", 32, 96, 20, 23, 3, 3, 1, SAME)
  small = dataclasses.replace(GAP9_NE16, l1_bytes=32_000)
  tile = tile_of(layer, 4, small)
  assert 2 * sum(held(layer, tile, 4, 1, small)) <= small.l1_budget_bytes
  for size, whole, step in zip(tile[:3], (20, 23, 96), (3, 3, 32), strict=True):
    assert size == whole or size % step == 0
  rows = set(candidates(layer).rows.tolist())
  assert rows == {20, 12, 9, 6, 3}  # 1, 2, 3, 4 and 7 tiles of 7 blocks


def test_weights_that_do_not_fit_l2_come_from_l3():
  """512 x 512 x 9 weights at 8 bits are 2.4 MB; the slices run behind them."""
  layer = Layer("c", "conv", 512, 512, 7, 7, 3, 3, 1, SAME)
  found = simulate(layer, 8, 8, 8, GAP9_NE16)
  arrives = channel_bytes(layer, 8, 512, 1, GAP9_NE16) / 0.5
  assert found.l3 > 0 and found.total > arrives
  assert found.total == sum(found[1:5])
  assert simulate(layer, 8, 2, 8, GAP9_NE16).l3 == 0


def test_tables_have_the_ladder_of_the_target():
  layers = [
    Layer("c", "conv", 3, 16, 8, 8, 3, 3, 1, SAME),
    Layer("p", "conv", 16, 16, 8, 8),
    Layer("fc", "linear", 16, 10),
  ]
  workload = chain("net", [*layers[:2]])
  table = ne16.latency_table(workload, GAP9_NE16)
  assert table.cycles.shape == (2, 1, 7, 1)
  assert table.ladder.weights == tuple(range(2, 9))
  for i, layer in enumerate(workload.layers):
    out = 8 if table.quantized[i] else 32
    for w, bits in enumerate(table.ladder.weights):
      total = simulate(layer, 8, bits, out, GAP9_NE16).total
      assert table.cycles[i, 0, w, 0] == total
  assert (np.diff(table.cycles[0, 0, :, 0]) > 0).all()


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda one: simulate(one, 4, 8, 8, GAP9_NE16), "input bits are 4"),
    (lambda one: simulate(one, 8, 9, 8, GAP9_NE16), "weight bits are 9"),
    (lambda one: simulate(one, 8, 8, 4, GAP9_NE16), "output bits are 4"),
    (
      lambda one: simulate(
        dataclasses.replace(one, in_height=900, in_width=900),
        8,
        8,
        8,
        GAP9_NE16,
      ),
      "'l'.*does not fit L2",
    ),
    (
      lambda one: simulate(
        one, 8, 8, 8, dataclasses.replace(GAP9_NE16, l1_bytes=12_400)
      ),
      "'l'.*fits no tile",
    ),
    (lambda one: dataclasses.replace(GAP9_NE16, engine="x"), "engine is 'x'"),
    (lambda one: dataclasses.replace(GAP9_NE16, norm_bits=9), "norm_bits is 9"),
    (lambda one: dataclasses.replace(GAP9_NE16, l1_bytes=0), "l1_bytes is 0"),
    (
      lambda one: dataclasses.replace(GAP9_NE16, l1_bytes=9_000),
      "l1_budget_bytes is -3288",
    ),
  ],
)
def test_wrong_input_is_refused(call, message):
  with pytest.raises(ValueError, match=message):
    call(Layer("l", "conv", 16, 32, 16, 16, 3, 3, 1, SAME))
