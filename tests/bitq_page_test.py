"""What is made of a BitQ record: the choice by eq. 1, page, tables of runs."""

import dataclasses
import re

import bitq_cases
import numpy as np
import pytest
from bitq_cases import network

from fbq import nets
from fbq.config import ConfigError
from fbq.experiments.bitq import EXPERIMENT, collect, pictures
from fbq.experiments.bitq.block_network import best_of, objective
from fbq.experiments.bitq.choices import bits_alone
from fbq.lab import experiment
from fbq.search import bitq as search
from hwsim.bfp.formats import bitq_format, bitq_grid
from hwsim.bfp.table import layer_bits, movement_table

SETTINGS = {
  "experiment": "bitq",
  "seed": 0,
  "net": {"builder": "resnet18"},
  "data": {"name": "digits", "split_seed": 0, "test_seed": 0},
  "memory_bytes": 2048,
  "register_bytes": 512,
  "calibration_images": 360,
  "validation_images": 360,
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
  net = nets.build("resnet8", width=0.25, resolution=8, in_channels=1)
  grid = (bitq_format(8, 2, 1), bitq_format(8, 5, 16))
  table = bits_alone(movement_table(net.workload, grid, 8 * 1024))
  found = layer_bits(
    table, net.workload, dict.fromkeys(net.workload.sites, grid[1])
  )
  activation, weight = grid[1].activation_bits, grid[1].weight_bits(9)
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


def test_a_page_is_made_again_from_the_record_alone(tmp_path):
  found = bitq_cases.typical()
  path = bitq_cases.saved(tmp_path / "run", found, SETTINGS)
  kind, loaded, about = experiment.load(path)
  assert kind is EXPERIMENT and loaded == found
  kind.write(loaded, about, path)
  page = (path / "report.html").read_text()
  assert "src=" not in page and page.count("<svg") == 2
  assert "BitQ8: X 5, SE 3, BS 16 (b) moves 37.5% of what FP32" in page
  assert "more than two standard errors apart" in page  # 85 and 90 %
  (path / "report.html").unlink()
  kind.write(*experiment.load(path)[1:], path)
  assert (path / "report.html").read_text() == page


def test_less_than_two_standard_errors_are_said():
  near = bitq_cases.typical()
  path = near.networks[0], *(network(n, 80, 0.89) for n in "ab")
  found = bitq_cases.record(path, near.words)
  lines = []
  log = type("Log", (), {"say": lines.append, "console": Silent()})
  EXPERIMENT.tell(found, log)
  assert len(lines) == 2 and all("less than two" in line for line in lines)


class Silent:
  def print(self, table):
    assert len(table.rows) == 3


def test_the_front_names_what_lies_below_it():
  found = bitq_cases.typical()
  far = network("far", 20, 0.5)
  found = bitq_cases.record([*found.networks, far], found.words)
  near, below = pictures.split(found.networks)
  assert [n.name for n in below] == ["far"] and len(near) == 6
  titles = re.findall("<title>([^:]*):", pictures.front(found))
  assert {n.name for n in near} <= set(titles) and "far" not in titles
  lines = re.findall("<title>([^<]*)", pictures.alphas(found))
  assert lines == ["a", "b"] * 2  # all candidates of both words


def test_an_alpha_of_zero_alone_has_a_picture():
  found = bitq_cases.typical()
  words = [dataclasses.replace(w, optima=w.optima[:1]) for w in found.words]
  assert "<svg" in pictures.alphas(bitq_cases.record(found.networks, words))


def run(path, builder="resnet18", seed=0, lost=0.0):
  data = {"name": "digits", "split_seed": seed, "test_seed": seed}
  settings = SETTINGS | {"net": {"builder": builder}, "seed": seed}
  settings["data"] = data
  found = bitq_cases.typical(lost)
  return collect.read(bitq_cases.saved(path, found, settings))


def columns(table):
  """Heading -> values of a table."""
  headings = [column.heading for column in table.columns]
  return dict(zip(headings, zip(*table.rows, strict=True), strict=True))


def test_runs_are_collected_beside_the_paper(tmp_path):
  one = run(tmp_path / "run")
  assert "a" not in one.networks  # another run's "a" is another network
  assert one.networks["BitQ8 at alpha 3.0"].name == "b"
  found = columns(collect.table_3([[one]]))
  assert found["BitQ8"] == ("85.00", "0.375", 69.71)
  assert found["BSFP"] == ("–", "0.250", 69.67)
  with pytest.raises(ConfigError, match="no-run/results.json cannot be read"):
    collect.read(tmp_path / "no-run")


def test_runs_that_differ_in_seeds_become_means(tmp_path):
  runs = [run(tmp_path / str(i), seed=i, lost=i / 50) for i in range(3)]
  other = run(tmp_path / "other", builder="googlenet")
  group, alone = collect.grouped([runs[0], other, *runs[1:]])
  assert [r.seeds for r in group] == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
  # 90, 88 and 86 %: deviation 2, over the root of three runs.
  found = columns(collect.table_3([group, alone]))
  assert found["FP32"][:2] == ("88.00 ±1.15", "1.000 ±0.000")
  assert found["FP32"][3] == "90.00"
  found = columns(collect.means(group))
  assert found["network"][0] == "FP32"
  assert found["energy µJ"][0] == "0.0 ±0.0"
  assert found["accuracy %"][found["network"].index("BSFP")] == "–"
  with pytest.raises(ConfigError, match="same settings and the seeds"):
    collect.grouped([*runs, runs[1]])
