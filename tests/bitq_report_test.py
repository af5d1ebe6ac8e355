"""Results of block formats: eq. 1 as measured, and tables over several runs."""

import json
from fractions import Fraction

import numpy as np
import pytest

from fbq import nets
from fbq.experiments.bitq_choices import bits_alone
from fbq.report import bitq, bitq_collect, bitq_plots, bitq_published
from fbq.search import bitq as search
from hwsim.bfp.energy import Traffic
from hwsim.bfp.formats import bitq_format, bitq_grid
from hwsim.bfp.table import layer_bits, movement_table


def outcome(name, bits, validation, test=0.9, **more):
  parts = (Fraction(bits, 2), Fraction(bits, 4), Fraction(bits, 4))
  traffic = (Traffic("a", Fraction(bits), parts, Fraction(1), (), ""),)
  formats = {"a.weight": bitq_format(8, 3, 16)}
  values = dict(untrained_test=0.5, divergence=None) | more
  return bitq.Outcome(
    *(name, "BitQ", 8, formats, traffic, bits * 1e-12, test, validation),
    **values,
  )


def test_eq_1_weighs_accuracy_and_movement():
  cheap, exact = outcome("cheap", 20, 0.88), outcome("exact", 80, 0.92)
  # Against 0.9: 0.02 + alpha 0.2 and -0.02 + alpha 0.8.
  assert bitq.objective(cheap, 0.9, 100, 0.5) == pytest.approx(0.12)
  both = [cheap, exact]
  choose = lambda alpha: bitq.recommended(both, 0.9, 100, alpha).name
  assert [choose(0.0), choose(0.06), choose(0.07)] == ["exact"] * 2 + ["cheap"]
  same = outcome("same", 70, 0.92)
  assert bitq.recommended([*both, same], 0.9, 100, 0.0).name == "same"


def test_an_outcome_adds_up_its_layers_and_refuses_percents():
  one = outcome("one", 80, 0.5)
  assert (one.dram_bits, one.tensor_bits) == (80, (40, 20, 20))
  with pytest.raises(ValueError, match="one: validation"):
    outcome("one", 80, 97.0)


def test_two_standard_errors_are_apart():
  assert bitq.is_apart(0.5, 0.6, 1000) and not bitq.is_apart(0.5, 0.53, 1000)


def test_bits_alone_count_tensors_not_their_sizes():
  net = nets.build("resnet8", width=0.25, resolution=8, in_channels=1)
  grid = (bitq_format(8, 2, 1), bitq_format(8, 5, 16))
  table = bits_alone(movement_table(net.workload, grid, 8 * 1024))
  found = layer_bits(
    table, net.workload, dict.fromkeys(net.workload.sites, grid[1])
  )
  activation, weight = 3 + Fraction(5, 16), 3 + Fraction(5, 16 * 9)
  by_name = dict(zip(net.workload.index, found, strict=True))
  assert by_name["conv1"] == 2 * activation + weight
  assert by_name["stage1.shortcut"] == 3 * activation
  assert by_name["stage0.add"] == 0


def test_the_whole_grid_of_a_residual_network_is_chosen_exactly():
  net = nets.build("resnet8", width=0.25, resolution=8, in_channels=1)
  grid = bitq_grid(16)
  table = movement_table(net.workload, grid, 8 * 1024)
  random = np.random.default_rng(0)
  # Every bit counts, so that no format is beaten: the widest tables there are.
  losses = {
    site: {f: share * 2.0 ** -float(f.activation_bits) for f in grid}
    for site in net.workload.sites
    for share in [float(random.uniform(0.1, 10))]
  }
  choice = search.make(net.workload, losses, table)
  found = search.optima(choice, [0.05])

  def value(formats):
    moved = sum(layer_bits(table, net.workload, formats))
    lost = sum(losses[s][f] for s, f in formats.items())
    return lost + 0.05 * float(moved / table.bits(choice.largest))

  best = value(found.formats[0])
  np.testing.assert_allclose(best, found.objective[0], rtol=1e-12)
  for group in choice.groups:  # no change of a single group is better
    for format_ in random.permutation(len(grid))[:12]:
      other = {**found.formats[0], **dict.fromkeys(group, grid[format_])}
      assert value(other) >= best - 1e-12


def finished(path, builder="resnet18", seed=0, lost=0.0):
  """A workdir whose networks have 0.9, 0.89, .. less `lost`, and 8, 7, .. J."""
  path.mkdir()
  names = ["FP32", "DBPS", "FlexBlock FB16", "FAST high", "a", "b", "BSFP"]
  outcomes = {
    name: {
      "test": None if name == "BSFP" else 0.9 - i / 100 - lost,
      "joules": 8.0 - i,
      "dram_bits": 8192.0 * (10 + seed - i),
    }
    for i, name in enumerate(names)
  }
  result = {
    "net": "small",
    "recommended": {"BitQ16": "a", "BitQ8": "b"},
    "by_alpha": {"BitQ16": {"0.2": "a"}, "BitQ8": {"0.2": "b", "3.0": "b"}},
    "outcomes": outcomes,
  }
  config = {
    "net": {"builder": builder},
    "seed": seed,
    "data": {"split_seed": seed, "test_seed": seed},
  }
  (path / "result.json").write_text(json.dumps(result))
  (path / "config.json").write_text(json.dumps(config))
  return path


def test_runs_are_collected_beside_the_paper(tmp_path):
  run = bitq_collect.read(finished(tmp_path / "run"))
  assert set(bitq_collect.COLUMNS) == set(bitq_published.TABLE_3["resnet18"])
  (row,) = bitq_collect.rows([run])
  assert row.networks["BitQ8 recommended"].accuracy.value == pytest.approx(0.85)
  assert row.networks["BitQ8 at alpha 3.0"].kilobytes.value == 5
  assert row.networks["BSFP"].accuracy is None
  assert row.networks["BitQ16 recommended"].share.value == pytest.approx(0.5)
  assert "a" not in row.networks  # another run's "a" is another network
  assert columns(bitq_collect.table_3([row]))["BitQ8"] == [
    *("85.00", "0.375", "69.71")
  ]
  (tmp_path / "run" / "result.json").unlink()
  with pytest.raises(ValueError, match="no finished run of BitQ"):
    bitq_collect.read(tmp_path / "run")


def test_runs_that_differ_in_seeds_become_means(tmp_path):
  runs = [
    bitq_collect.read(finished(tmp_path / str(i), seed=i, lost=i / 50))
    for i in range(3)
  ]
  other = bitq_collect.read(finished(tmp_path / "other", builder="googlenet"))
  row, alone = bitq_collect.rows([runs[0], other, *runs[1:]])
  assert row.seeds == ((0, 0, 0), (1, 1, 1), (2, 2, 2))
  # 90, 88 and 86 %: deviation 2, over the root of three runs.
  shown = columns(bitq_collect.table_3([row, alone]))
  assert shown["FP32"][:2] == ["88.00 ±1.15", "1.000 ±0.000"]
  assert shown["FP32"][3] == "90.00"
  shown = columns(bitq_collect.means(row))
  assert shown["network"][0] == "FP32"
  assert shown["DRAM kB"][0] == "11.0 ±0.6" and shown["energy uJ"][0] == (
    "8000000.0 ±0.0"
  )
  with pytest.raises(ValueError, match="same settings and the seeds"):
    bitq_collect.rows([*runs, runs[1]])


def columns(table):
  """Heading -> cells of a `rich.table.Table`."""
  return {column.header: list(column.cells) for column in table.columns}


def test_pictures_leave_no_series_out(monkeypatch):
  drawn = []
  monkeypatch.setattr(bitq_plots.figures, "png", drawn.append)
  ratios = {f"format {i}": [2.0 + i, 1.0] for i in range(7)}
  bitq_plots.memory("a network", [8, 16], ratios)
  lines = [line.get_label() for line in drawn[0].axes[0].lines]
  assert lines == list(ratios)
  far = outcome("far", 20, 0.5, test=0.5)
  seen = [outcome("FP32", 40, 0.9), outcome("near", 30, 0.9, test=0.85)]
  bitq_plots.front([*seen, far], {"A": seen[1]}, {"A": ([20], [0.8])}, 100)
  axes = drawn[1].axes[0]
  assert "far 50.0 %" in axes.get_title(loc="left")
  (bars,) = axes.containers  # of one family
  assert len(bars.lines[0].get_xdata()) == len(seen)
