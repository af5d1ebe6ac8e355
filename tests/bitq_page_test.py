"""What is made of a BitQ record: the choice by eq. 1, page, tables of runs."""

import re

import bitq_cases
import numpy as np
import pytest
from bitq_cases import network

from fbq import nets
from fbq.config import ConfigError
from fbq.experiments.bitq import EXPERIMENT, collect, page, pictures
from fbq.experiments.bitq.block_network import best_of, objective
from fbq.experiments.bitq.choices import bits_alone
from fbq.lab import experiment
from fbq.search import bitq as search
from hwsim.bfp import layer_bits, movement_table
from hwsim.bfp.formats import bitq_format, bitq_grid

SETTINGS = {
  "experiment": "bitq",
  "seeds": [0],
  "net": {"builder": "resnet18"},
  "data": {"name": "digits", "split_seed": 0, "test_seed": 0},
  "memory_bytes": 2048,
  "register_bytes": 512,
  "calibration_images": 360,
}


def test_eq_1_weighs_accuracy_and_movement():
  fp32 = network("FP32", 100, 0.9)
  cheap, exact = network("cheap", 20, 0.88), network("exact", 80, 0.92)
  # Against 0.9: 0.02 + alpha 0.2 and -0.02 + alpha 0.8.
  assert objective(cheap, fp32, 100, 0.5) == pytest.approx(0.12)
  both = [cheap, exact]
  choose = lambda alpha: best_of(both, fp32, 100, alpha).name
  assert [choose(0.0), choose(0.06), choose(0.07)] == ["exact"] * 2 + ["cheap"]
  same = network("same", 70, 0.92)
  assert best_of([*both, same], fp32, 100, 0.0).name == "same"


def test_a_network_refuses_percents():
  with pytest.raises(ValueError, match="test\n.*less than or equal to 1"):
    network("one", 80, 97.0)


def test_bits_alone_count_tensors_not_their_sizes():
  """Widths of 4, 8 and 16 channels: blocks of 16 are whole in the last alone.

  <5, 16> of 8 bits: an element of 4 channels takes 3 + 5 / 4 bits.
  """
  net = nets.build("resnet8", width=0.25, resolution=8, in_channels=1)
  grid = (bitq_format(8, 2, 1), bitq_format(8, 5, 16))
  table = movement_table(net.workload, grid, 8 * 1024)
  table = bits_alone(table, net.workload)
  found = layer_bits(
    table, net.workload, dict.fromkeys(net.workload.sites, grid[1])
  )
  by_name = dict(zip(net.workload.index, map(float, found), strict=True))
  assert by_name["conv1"] == pytest.approx(
    (3 + 5) + (3 + 5 / 9) + (3 + 5 / 4)  # of one channel, to four
  )
  assert by_name["stage1.shortcut"] == (3 + 5 / 4) + (3 + 5 / 4) + (3 + 5 / 8)
  assert by_name["stage0.add"] == 0


def test_the_whole_grid_of_a_residual_network_is_chosen_exactly():
  net = nets.build("resnet8", width=0.25, resolution=8, in_channels=1)
  grid = bitq_grid(16)
  table = movement_table(net.workload, grid, 8 * 1024)
  random = np.random.default_rng(0)
  # Every bit counts, so that no format is beaten: the widest tables there are.
  bits = lambda f: f.activation_bits((1, 1, 96))
  losses = {
    site: {f: share * 2.0 ** -float(bits(f)) for f in grid}
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


def test_a_page_is_made_again_from_the_record_alone(tmp_path):
  found = bitq_cases.record(bitq_cases.typical())
  path = bitq_cases.saved(tmp_path / "run", found, SETTINGS)
  kind, loaded, about = experiment.load(path)
  assert kind is EXPERIMENT and loaded == found
  kind.write(loaded, about, path)
  text = (path / "report.html").read_text()
  assert "src=" not in text and text.count("<svg") == 3
  assert "BitQ8: X 5, SE 3, BS 16 (b, seed 0) moves 37.50 % of what" in text
  assert "at 85.00 ±1.00 % test accuracy where FP32 has 90.00 ±1.00" in text
  assert ", apart at 95 % (alpha" in text  # 5 points, error 0.5
  assert ">69.71<" in text and ">68.29<" in text  # BitQ8, FlexBlock in table 3
  (path / "report.html").unlink()
  kind.write(*experiment.load(path)[1:], path)
  assert (path / "report.html").read_text() == text


def test_seeds_are_means_and_differences_are_within_them():
  """FP32 at 90, 88 and 89 %, each 5 points above "b": no error of that."""
  studies = [
    bitq_cases.typical(lost, seed) for seed, lost in enumerate((0, 0.02, 0.01))
  ]
  found = bitq_cases.record(*studies)
  fp32, best = found.test("FP32"), found.test("BitQ8 recommended")
  assert fp32.value == pytest.approx(0.89) and best.value == pytest.approx(0.84)
  assert fp32.error == best.error == pytest.approx(0.01 / 3**0.5)
  lost = found.lost("BitQ8 recommended")
  assert (lost.value, lost.error) == pytest.approx((0.05, 0))
  assert found.lost("BSFP") is None
  rows = list(found.table())
  assert len(rows) == 1 + 3 * 7 and [row[0] for row in rows[1::7]] == [0, 1, 2]
  means = found.summary()["means"]["BitQ8 recommended"]
  assert means["dram_bits"] == [300.0, 0.0]


def test_runs_of_several_seeds_are_collected(tmp_path):
  """Runs of seeds 0 and 1 are one, and another network stays alone."""
  paths = []
  for name, net, seeds in (
    ("a", "x", (0,)),
    ("b", "x", (1,)),
    ("c", "y", (0,)),
  ):
    studies = [bitq_cases.typical(0.02 * seed, seed) for seed in seeds]
    record = bitq_cases.record(*studies)
    settings = SETTINGS | {"seeds": list(seeds), "net": {"builder": net}}
    paths.append(bitq_cases.saved(tmp_path / name, record, settings))
  one, other = collect.read(paths)
  assert [study.seed for study in one.studies] == [0, 1]
  assert one.test("FP32") == pytest.approx((0.89, 0.01, 2))
  assert len(other.studies) == 1
  rows = collect.networks([one, other]).rows
  assert [row[0].split(", ")[1] for row in rows] == 2 * [
    "FP32",
    "BitQ16 recommended",
    "BitQ8 recommended",
  ]
  assert [table.label for table in page.tables(one)][1:] == [
    f"{word}: {what}"
    for word in ("BitQ16", "BitQ8")
    for what in ("sensitivity to alpha", "ablation at alpha = 0.2")
  ]
  with pytest.raises(ConfigError, match=r"seeds of small are \[0, 0\]"):
    collect.read([paths[0], paths[0]])


def test_what_is_not_told_apart_is_said():
  near = bitq_cases.typical()
  networks = near.networks[0], *(network(n, 80, 0.9) for n in "ab")
  found = bitq_cases.record(bitq_cases.study(networks, near.words))
  lines = []
  log = type("Log", (), {"say": lines.append, "console": Silent()})
  EXPERIMENT.tell(found, log)
  assert len(lines) == 2 and all(", not told apart" in line for line in lines)


class Silent:
  def print(self, table):
    assert len(table.table.rows) == 3  # FP32, and recommended for two words


def test_the_front_leaves_out_what_lies_far_below_it():
  found = bitq_cases.typical()
  far = network("far", 20, 0.5)
  found = bitq_cases.study([*found.networks, far], found.words)
  titles = set(re.findall("<title>([^:]*):", pictures.front(found)[0]))
  trained = {n.name for n in found.networks if n.test is not None}
  assert len(trained) == 7 and titles >= trained - {"far"}
  assert "far" not in titles
