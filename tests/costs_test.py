"""Cycles of an experiment: how outputs are timed, from numbers made by hand."""

import dataclasses
import itertools
import types

import lab_cases
import numpy as np
import pytest
from ml_collections import ConfigDict

from fbq import precision
from fbq.config import ConfigError
from fbq.experiments.shootout import candidates
from fbq.lab import points
from fbq.lab.costs import Costs
from fbq.search.free_bits import free_bits
from hwsim import latency_io, ne16
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
    found = []
    for cycles, (a, w, o) in (
      (said.cycles_before, said.from_bits),
      (said.cycles_after, said.to_bits),
    ):
      own = 32 if o is None else o if output_bits == "reader" else 8
      found.append(simulate(layer, a, w or 8, own, XPULPNN_V1))
      assert cycles == found[-1].total
    before, after = found
    if after.total >= before.total:
      assert f"costs this layer {after.total - before.total:,}" in said.reason
      continue
    # The first cause is what saves most, by its change of cycles
    saved = {
      "compute": (after.compute - after.waiting)
      - (before.compute - before.waiting),
      **{
        part: getattr(after, part) - getattr(before, part)
        for part in ("waiting", "dma", "overhead", "l3")
      },
    }
    assert f"({min(saved.values()):+,})" in said.reason.split(";")[0]
    assert sum(saved.values()) == after.total - before.total
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


def test_gates_see_cycles_at_the_next_precision_that_there_is():
  """NE16 has weights of 2 to 8 bits, of which gates know three."""
  net = tiny.separable()
  table = ne16.latency_table(net.workload, ne16.GAP9_NE16)
  assert table.cycles.shape == (5, 1, 7, 1)
  found = Costs(None, table, "reader").for_gates
  assert found.shape == (5, 3, 3, 3)
  for a, o in itertools.product(range(3), repeat=2):
    np.testing.assert_array_equal(
      found[:, a, :, o], table.cycles[:, 0, [0, 2, 6], 0]
    )
  assert Costs(None, table, 8).for_gates.shape == (5, 3, 3)
  own = costs([-30, -8, 0], "reader")
  np.testing.assert_array_equal(own.for_gates, own.cycles)


def test_a_shootout_chooses_on_ne16_among_what_has_values():
  """Every assignment of three widths, or of seven, against the exact choice."""
  net = tiny.separable()
  table = ne16.latency_table(net.workload, ne16.GAP9_NE16)
  ladder, own = table.ladder, Costs(None, table, 8)
  lab = types.SimpleNamespace(net=net, costs=own, ladder=ladder)
  hardware = candidates.Hardware.of(lab)
  assert hardware.eight == own.total(net.workload, EIGHT)

  # What gates found is raised to what there is; fewer bits never cost here
  searched = dict.fromkeys(net.workload.free_sites, 2) | net.fixed_bits
  raised = hardware.raised(searched)
  assert {raised[s] for s in raised if not s.endswith(".weight")} == {8}
  assert own.total(net.workload, raised) == table.cycles[:, 0].min(axis=1).sum()

  weights = [s for s in net.workload.free_sites if s.endswith(".weight")]
  for widths in ((2, 4, 8), ladder.weights):
    values = {
      site: {b: -(i + 1.0) / b**2 for b in widths}
      for i, site in enumerate(weights)
    } | {
      site: {b: 0.0 for b in ((2, 4, 8) if widths == (2, 4, 8) else (8,))}
      for site in net.workload.sites
      if not site.endswith(".weight")
    }
    share = (hardware.share(searched) + 1) / 2
    [bits] = hardware.best(values, [share])
    best = max(
      sum(values[s][b] for s, b in zip(weights, way, strict=True))
      for way in itertools.product(widths, repeat=len(weights))
      if own.total(net.workload, EIGHT | dict(zip(weights, way, strict=True)))
      <= int(share * hardware.eight)
    )
    assert sum(values[s][bits[s]] for s in weights) == pytest.approx(best)
    assert own.total(net.workload, bits) <= int(share * hardware.eight)
