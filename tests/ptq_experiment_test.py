"""Which recipe is recommended, and a tiny experiment from start to end."""

import csv
import json
import re
import shutil

import pytest
from ptq_cases import variables

from fbq.experiments import ptq, ptq_report, ptq_settings, ptq_studies
from fbq.experiments.ptq_studies import WIDTHS
from fbq.experiments.settings import ConfigError
from fbq.experiments.stages import Lab
from fbq.ptq.recipes import Recipe
from tests.configs import tiny_ptq

TRIED = ptq_studies.recipes(ptq_studies.studies(ptq_studies.NAMES, True))


def found(agreement=lambda recipe: 1.0, kl=lambda recipe: 1.0, accuracy=None):
  """Numbers of two seeds, the second's network 0.1 better throughout."""
  accuracy = accuracy or (lambda recipe: 0.8)
  return {
    seed: {
      "float": 0.8 + more,
      "recipes": [
        {
          "accuracy": accuracy(recipe) + more,
          "kl": kl(recipe),
          "agreement": agreement(recipe),
        }
        for recipe in TRIED
      ],
    }
    for seed, more in ((0, 0.0), (1, 0.1))
  }


def test_studies_ask_each_recipe_once_and_fill_their_tables():
  assert len(set(TRIED)) == len(TRIED)
  for study in ptq_studies.studies(ptq_studies.NAMES, False):
    assert all(len(row) == len(study.columns) for _, row in study.rows)
    labels = [label for label, _ in study.rows]
    assert len(set(labels)) == len(labels)
  rounded = [recipe for recipe in TRIED if "round" in recipe.steps]
  assert rounded and all(recipe.weight_bits == 4 for recipe in rounded)
  less = ptq_studies.recipes(ptq_studies.studies(ptq_studies.NAMES, False))
  assert set(less) == set(TRIED) - set(rounded)


def test_means_are_within_seeds():
  lost = found(accuracy=lambda recipe: 0.7)
  one = ptq_report.results(TRIED, lost)[Recipe()]
  assert one.accuracy.value == pytest.approx(0.75)
  assert one.accuracy.error == pytest.approx(0.05)
  assert one.loss.value == pytest.approx(0.1)
  assert one.loss.error == pytest.approx(0.0, abs=1e-12)
  assert one.accuracies == pytest.approx((0.7, 0.8))


def test_the_least_divergence_of_a_pair_and_the_fewest_bits_that_agree():
  corrected = lambda recipe: "correct" in recipe.steps
  kl = lambda recipe: 0.5 if corrected(recipe) else 1.0
  agree = lambda recipe: 0.995 if recipe.activation_bits == 8 else 0.98
  collected = ptq_report.results(TRIED, found(agree, kl))
  choice = ptq_report.choose(collected, 0.01)
  pairs = [
    (r.recipe.weight_bits, r.recipe.activation_bits) for r in choice.best
  ]
  assert pairs == list(WIDTHS)
  assert all(corrected(one.recipe) for one in choice.best)
  assert choice.is_faithful and choice.used.recipe.widths == "W4A8"
  # Fewer bits are no use where their outputs are others.
  choice = ptq_report.choose(collected, 0.03)
  assert choice.used.recipe.widths == "W4A4"
  choice = ptq_report.choose(collected, 0.001)
  assert not choice.is_faithful and choice.used.recipe.widths == "W8A8"
  in_float = collected[Recipe()].accuracy
  text = ptq_report.sentence(choice, in_float, "net", 0.001)
  assert "99.9%" in text and choice.used.recipe.name in text


def test_findings_tell_a_collapse_and_a_loss():
  shared = Recipe(8, None, "affine", per_channel=False)
  accuracy = lambda recipe: 0.1 if recipe in (shared, Recipe()) else 0.8
  collected = ptq_report.results(TRIED, found(accuracy=accuracy))
  row = dict(layer="dw", before=1.5, after=836.0, lost=0.88, variance=0.0)
  other = dict(row, layer="pw", after=2.0)
  text, widest = ptq_report._folding(collected, [other, row])
  assert "dw, whose" in widest and "836.0 times" in widest and "88%" in widest
  assert text.startswith("It is folding that breaks") and "15.00" in text
  assert "lose more than 1 point: 70.00" in ptq_report._eight_bits(collected)
  collected = ptq_report.results(TRIED, found())
  assert "Folding does little" in ptq_report._folding(collected, [])[0]
  assert "lose at most 1 point: 0.00" in ptq_report._eight_bits(collected)


@pytest.mark.parametrize(
  "setting, value, message",
  [
    ("seeds", (), "config.seeds is"),
    ("studies", ("steps",), "'widths' among them"),
    ("calibration_batch", 5, "config.calibration_images is 16.* multiple"),
    ("correction_batches", 3, "1 to 2"),
    ("percent", 50.0, "above 50"),
    ("rounding.batch_size", 17, "1 to 16"),
    ("decay", 1.0, "config.decay is 1.0"),
  ],
)
def test_settings_that_cannot_be_are_named(setting, value, message):
  config = tiny_ptq.get_config()
  config.update_from_flattened_dict({setting: value})
  with pytest.raises(ConfigError, match=message):
    ptq_settings.check(config)


def test_a_whole_experiment_resumes_to_the_same_numbers(
  tmp_path, capsys, monkeypatch
):
  """But for float training, which is the same for all experiments."""
  monkeypatch.setattr(
    Lab,
    "float_network",
    lambda lab, name, keys: (variables(lab.net, int(name[4])), 0.1),
  )
  config = tiny_ptq.get_config()
  first, second = tmp_path / "first", tmp_path / "second"
  ptq.run(config, first)
  shutil.copytree(first, second)
  for name in ("result.json", "results.csv", "report.html", "seeds/3.json"):
    (second / name).unlink()
  ptq.run(config, second)
  for name in ("result.json", "results.csv", "seeds/0.json", "seeds/3.json"):
    assert (first / name).read_bytes() == (second / name).read_bytes(), name
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
  page = (first / "report.html").read_text()
  assert summary["recommended"]["name"] in page
  assert page.count("data:image/png;base64,") == 3
  assert not re.search(r"(src|href)=\"(?!data:)", page)  # stands alone
  capsys.readouterr()
  ptq.run(config, first)
  assert "is finished" in capsys.readouterr().out
