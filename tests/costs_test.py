"""Cycles of an experiment: how outputs are timed, from numbers made by hand."""

import dataclasses

import lab_cases
import numpy as np
import pytest
from ml_collections import ConfigDict

from fbq import precision
from fbq.config import ConfigError
from fbq.lab import points
from fbq.lab.costs import Costs
from fbq.search.free_bits import free_bits
from hwsim import latency_io
from hwsim.latency_table import Ladder, LatencyTable
from hwsim.pulp import XPULPNN_V1, latency_table, simulate
from tests.configs import tiny, tiny_exact

NET = tiny.separable()
EIGHT = precision.uniform(NET, 8)
FOUR = precision.uniform(NET, 4)


def costs(by_output, output_bits, provenance="simulated"):
  """Five layers that cost 100 each, and more or less by output."""
  layers = NET.workload.layers
  quantized = tuple(site is not None for site in NET.workload.output_sites)
  cycles = np.full((len(layers), 3, 3, 3), 100)
  cycles[np.array(quantized)] += by_output
  kinds = (provenance, *["simulated"] * (len(layers) - 1))
  table = LatencyTable("board", layers, quantized, cycles, kinds)
  return Costs(None, table, output_bits)


def test_outputs_are_timed_at_their_readers_bits_or_at_8():
  # At 4-bit outputs a layer saves 8 cycles; four of five write quantized ones.
  own, published = (costs([-30, -8, 0], way) for way in ("reader", 8))
  assert own.total(NET.workload, FOUR) == 500 - 4 * 8
  assert published.total(NET.workload, FOUR) == 500
  assert own.by_layer(NET.workload, FOUR).tolist() == [92, 92, 92, 92, 100]
  assert own.cycles.shape == (5, 3, 3, 3)
  assert published.cycles.shape == (5, 3, 3)
  for both in (own, published):
    assert both.total(NET.workload, EIGHT) == 500


def test_what_the_other_way_changes_is_told_above_a_point():
  own, published = (costs([0, -8, 0], way) for way in ("reader", 8))
  assert own.otherwise(NET.workload, FOUR) == {
    "with 8-bit outputs": "+0.0% cycles"
  }
  assert published.otherwise(NET.workload, FOUR) == {
    "with outputs at their readers' bits": "-6.4% cycles"  # 32 of 500
  }
  # 4 of 500 cycles are less than a point, 8 are more.
  assert not costs([0, -1, 0], "reader").otherwise(NET.workload, FOUR)
  assert costs([0, -2, 0], "reader").otherwise(NET.workload, FOUR)
  # A board that was timed at 8 bits says nothing of other outputs.
  board = costs([0, -8, 0], 8, "measured")
  assert not board.otherwise(NET.workload, FOUR)


@pytest.mark.parametrize("output_bits", ["reader", 8])
def test_the_reason_of_a_raise_is_where_its_cycles_go(output_bits):
  table = latency_table(NET.workload, XPULPNN_V1)
  hardware = Costs(XPULPNN_V1, table, output_bits)
  start = precision.uniform(NET, 2)
  raised, changes = free_bits(NET.workload, hardware.cycles, start)
  assert changes
  told = [points.change_of(NET, hardware, change) for change in changes]
  for change, said in zip(changes, told, strict=True):
    layer = NET.workload.layers[NET.workload.index[change.layer]]
    for cycles, (a, w, o) in (
      (said.cycles_before, said.from_bits),
      (said.cycles_after, said.to_bits),
    ):
      own = 32 if o is None else o if output_bits == "reader" else 8
      parts = simulate(layer, a, w or 8, own, XPULPNN_V1)
      assert cycles == parts.total
      assert f"compute {parts.compute:,} -> " in said.reason or (
        f"-> {parts.compute:,}" in said.reason
      )
  # Every tensor that was raised is named beside a layer.
  named = {site for said in told for site in said.sites}
  assert named == {site for site in start if raised[site] != start[site]}


def test_the_setting_takes_a_flags_text(tmp_path):
  for given, expected in (("8", 8), (8, 8), ("reader", "reader")):
    config = {**tiny.get_config().to_dict(), "output_bits": given}
    _, lab = lab_cases.checked(ConfigDict(config))
    assert lab.costs.output_bits == expected
  with pytest.raises(ConfigError, match="output_bits is 4, expected one of 'r"):
    config["output_bits"] = 4
    lab_cases.checked(ConfigDict(config))


def test_a_whole_target_has_the_precisions_of_its_file(tmp_path):
  """As a runtime of integers and floats has, which `measure` writes."""
  ladder = Ladder(activations=(8, 32), weights=(4, 8, 32))
  table = latency_io.blank(NET.workload, "runtime", ladder)
  cycles = np.zeros_like(table.cycles)
  cycles += np.arange(1, 13).reshape(2, 3, 2)
  weighted = [layer.has_weights for layer in table.layers]
  cycles = np.where(np.reshape(weighted, (-1, 1, 1, 1)), cycles, 5)
  quantized = np.reshape(table.quantized, (-1, 1, 1, 1))
  cycles = np.where(quantized, cycles, cycles[..., :1])
  path = tmp_path / "runtime.csv"
  latency_io.save(dataclasses.replace(table, cycles=cycles), path)
  config = tiny_exact.get_config()
  config.target, config.measured_latency = "", str(path)
  config.output_bits = "reader"
  _, lab = lab_cases.checked(config)
  assert lab.ladder == ladder and lab.widths == (2, 4, 8, 32)
  np.testing.assert_array_equal(lab.costs.table.cycles, cycles)
  path.write_text(path.read_text().replace(",32,", ",half,"))
  with pytest.raises(ConfigError, match=r"line \d+: weight_bits is 'half'"):
    lab_cases.checked(config)


def test_a_board_timed_at_8_bits_alone_needs_that_setting(tmp_path):
  table = latency_table(NET.workload, XPULPNN_V1)
  path = tmp_path / "board.csv"
  latency_io.save(dataclasses.replace(table, target="board"), path)
  head, *lines = path.read_text().splitlines()
  at = head.split(",").index("out_bits")
  kept = [line for line in lines if line.split(",")[at] in ("8", "32")]
  path.write_text("\n".join([head, *kept]) + "\n")
  config = tiny_exact.get_config()
  config.target, config.measured_latency = "", str(path)
  config.output_bits = "reader"
  with pytest.raises(ConfigError, match=r"is missing.*config.output_bits=8"):
    lab_cases.checked(config)
  config.output_bits = "8"
  _, lab = lab_cases.checked(config)
  assert (lab.costs.cycles == table.for_output_bits(8)).all()
