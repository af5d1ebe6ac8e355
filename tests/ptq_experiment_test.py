"""Which recipe is recommended, and a tiny experiment from start to end."""

import csv
import dataclasses
import json
import re
import shutil
from types import SimpleNamespace

import experiment_runs
import lab_cases
import pytest
from ptq_cases import variables

from configs import digits_ptq
from fbq.config import ConfigError
from fbq.experiments.ptq import tables
from fbq.experiments.ptq.results import (
  LayerNumbers,
  QuantizedNetwork,
  RecipeNumbers,
  TriedRecipes,
)
from fbq.lab import experiment
from fbq.lab.lab import Lab
from fbq.ptq.folding import Spread
from fbq.ptq.recipes import Recipe
from tests.configs import tiny_ptq

TABLES = tables.tables(tables.NAMES, True)
TRIED = tables.recipes(TABLES)


def tried(
  agreement=lambda recipe: 1.0,
  kl=lambda recipe: 1.0,
  accuracy=lambda recipe: 0.8,
  tolerance=0.01,
  spreads=(),
):
  """Numbers of two seeds, the second's network 0.1 better throughout."""
  layers = LayerNumbers({}, spreads, {}, {})
  networks = {
    seed: QuantizedNetwork(
      0.8 + more,
      tuple(
        RecipeNumbers(accuracy(recipe) + more, kl(recipe), agreement(recipe))
        for recipe in TRIED
      ),
      layers=layers,
    )
    for seed, more in ((0, 0.0), (1, 0.1))
  }
  return TriedRecipes("net", TABLES, networks, tolerance, ())


def test_tables_ask_each_recipe_once_and_are_full():
  assert len(set(TRIED)) == len(TRIED)
  without = tables.tables(tables.NAMES, False)
  for table in (*TABLES, *without):
    assert all(len(row) == len(table.columns) for _, row in table.rows)
    labels = [label for label, _ in table.rows]
    assert len(set(labels)) == len(labels)
  rounded = [recipe for recipe in TRIED if "round" in recipe.steps]
  assert rounded and all(recipe.weight_bits == 4 for recipe in rounded)
  assert set(tables.recipes(without)) == set(TRIED) - set(rounded)


def test_means_are_within_seeds():
  one = tried(accuracy=lambda recipe: 0.7).means[Recipe()]
  assert one.accuracy.value == pytest.approx(0.75)
  assert one.accuracy.error == pytest.approx(0.05)
  assert one.loss.value == pytest.approx(0.1)
  assert one.loss.error == pytest.approx(0.0, abs=1e-12)
  assert one.accuracies == pytest.approx((0.7, 0.8))


def test_the_least_divergence_of_a_pair_and_the_fewest_bits_that_agree():
  corrected = lambda recipe: "correct" in recipe.steps
  results = tried(
    lambda recipe: 0.995 if recipe.activation_bits == 8 else 0.98,
    lambda recipe: 0.5 if corrected(recipe) else 1.0,
  )
  pairs = [
    (r.recipe.weight_bits, r.recipe.activation_bits) for r in results.best
  ]
  assert pairs == list(tables.WIDTHS)
  assert all(corrected(one.recipe) for one in results.best)
  assert results.is_faithful(results.used)
  assert results.used.recipe.widths == "W4A8"
  # Fewer bits are no use where their outputs are others.
  loose = dataclasses.replace(results, tolerance=0.03)
  assert loose.used.recipe.widths == "W4A4"
  assert "No recipe keeps" not in loose.answer
  strict = dataclasses.replace(results, tolerance=0.001)
  assert not strict.is_faithful(strict.used)
  assert strict.used.recipe.widths == "W8A8"
  assert "No recipe keeps" in strict.answer and "99.9%" in strict.answer
  assert strict.used.recipe.name in strict.answer


def test_findings_tell_a_collapse_and_a_loss():
  shared = Recipe(8, None, "affine", per_channel=False)
  row = Spread("dw", before=1.5, after=836.0, lost=0.88, variance=0.0)
  other = row._replace(layer="pw", after=2.0)
  eight, folding, widest = tried(
    accuracy=lambda recipe: 0.1 if recipe in (shared, Recipe()) else 0.8,
    spreads=(other, row),
  ).findings
  assert "dw, whose" in widest and "836.0 times" in widest and "88%" in widest
  assert folding.startswith("It is folding that breaks") and "15.00" in folding
  assert "lose more than 1 point: the network loses 70.00" in eight
  eight, folding = tried().findings
  assert "Folding does little" in folding
  assert "lose at most 1 point: the network loses 0.00" in eight


@pytest.mark.parametrize(
  "setting, value, message",
  [
    ("seeds", (), "config.seeds is"),
    ("studies", ("steps",), "'widths' among them"),
    ("studies", ("widths", "widths"), "each once"),
    ("studies", [[1, 2]], r"config.studies is \(\(1, 2\),\).*some of .'granul"),
    ("studies", ("widths", "depths"), "some of .'granularity'"),
    ("calibration_batch", 5, "config.calibration_images is 16.* multiple"),
    ("calibration_images", 10**30, "calibration_images is 1000.*1 to 10,000"),
    ("correction_batches", 3, "1 to 2"),
    ("percent", 50.0, "above 50"),
    ("rounding.batch_size", 17, "1 to 16"),
    ("rounding.steps", 10**30, "rounding.steps is 1000.*0 to 1,000,000,000"),
    ("decay", 1.0, "config.decay is 1.0"),
  ],
)
def test_settings_that_cannot_be_are_named(setting, value, message):
  config = tiny_ptq.get_config()
  with config.ignore_type():
    config.update_from_flattened_dict({setting: value})
  with pytest.raises(ConfigError, match=message) as caught:
    lab_cases.checked(config)
  assert "\n" not in str(caught.value)


def test_words_of_the_config():
  assert digits_ptq.get_config("resnet8").net.builder == "resnet8"
  with pytest.raises(ConfigError, match="'resnet9' after .*resnet8"):
    digits_ptq.get_config("resnet9")


def test_a_whole_experiment_resumes_to_the_same_numbers(
  tmp_path, capsys, monkeypatch
):
  """But for float training, which is the same for all experiments."""
  monkeypatch.setattr(
    Lab,
    "float_network",
    lambda lab, name, keys: (
      variables(lab.net, int(name[4])),
      SimpleNamespace(test=SimpleNamespace(accuracy=0.1)),
    ),
  )
  config = tiny_ptq.get_config()
  first, second = tmp_path / "first", tmp_path / "second"
  experiment.run(config, first)
  shutil.copytree(first, second)
  for name in ("result.json", "results.csv", "report.html", "seeds/3.json"):
    (second / name).unlink()
  experiment.run(config, second)
  for name in ("result.json", "results.csv", "seeds/0.json", "seeds/3.json"):
    assert (first / name).read_bytes() == (second / name).read_bytes(), name

  # What is recommended is a row of the table.
  summary = json.loads((first / "result.json").read_text())
  with (first / "results.csv").open() as file:
    rows = list(csv.DictReader(file))
  named = summary["recommended"]["recipe"]
  (row,) = (
    r
    for r in rows
    if all(
      r[key] == str(named[key])
      for key in named
      if key != "steps" and named[key] is not None
    )
    and r["steps"] == "+".join(named["steps"])
  )
  assert float(row["kl"]) == summary["recommended"]["kl"]
  assert float(row["accuracy"]) == summary["recommended"]["accuracy"]["value"]

  # The page has a row for each layer, and stands alone.
  page = experiment_runs.page_again(first)
  assert summary["recommended"]["name"] in page
  assert re.search(r"<th[^>]*>stem</th>.*<td[^>]*>\d+\.\d</td>", page, re.S)
  capsys.readouterr()
  experiment.run(config, first)
  assert "is finished" in " ".join(capsys.readouterr().out.split())
