"""The experiment: files, resuming bit for bit, one trace, errors."""

import csv
import json
import re
import signal

import experiment_runs
import pytest

from configs import digits_qat
from fbq.experiments import qat_settings, settings
from fbq.report import qat
from fbq.report.qat import Outcome
from tests.configs import tiny_qat

CONFIG = "tests/configs/tiny_qat.py:method=min_max,bits=4,activation_bits=8"
OPTIONS = (
  "--config.compare=('lsq',)",
  "--config.qat.batch_norm=correct_then_freeze",
  "--config.qat.distillation=0.5",
  "--config.qat.smoothing=0.5",
)


def test_a_killed_run_ends_with_the_numbers_of_an_uninterrupted_one(tmp_path):
  cache, whole, killed = (tmp_path / n for n in ("cache", "whole", "killed"))
  status, output = experiment_runs.run(
    cache, whole, *OPTIONS, config=CONFIG, tells_compiles=True
  )
  assert status == 0, output
  # Two rules, each one step and one evaluation for both seeds; float training
  # has an evaluation for each.
  for name, count in (("step", 3), ("correct", 4)):
    traced = re.findall(rf"Finished tracing {name} for jit", output)
    assert len(traced) == count
  for moment in ("saved:seed0-min_max:4", "logged:seed3-lsq:6"):
    status, output = experiment_runs.run(
      cache,
      killed,
      *OPTIONS,
      config=CONFIG,
      program="tests/killed.py",
      moment=moment,
    )
    assert status == -signal.SIGKILL, output
  status, output = experiment_runs.run(cache, killed, *OPTIONS, config=CONFIG)
  assert status == 0, output
  expected = experiment_runs.numbers(whole)
  found = experiment_runs.numbers(killed)
  assert found.keys() == expected.keys()
  assert [name for name in expected if found[name] != expected[name]] == []
  with (whole / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [(row["method"], row["seed"]) for row in rows] == [
    (method, seed) for seed in "03" for method in ("min_max", "lsq")
  ]
  result = json.loads((whole / "result.json").read_text())
  for method, numbers in result["rules"].items():
    after = [float(r["after"]) for r in rows if r["method"] == method]
    assert numbers["after"]["mean"] == pytest.approx(sum(after) / 2)
  page = (whole / "report.html").read_text()
  assert "4-bit weights and 8-bit activations by min_max" in page


# ---- settings ----------------------------------------------------------------


def test_arguments_of_the_config():
  config = digits_qat.get_config("method=lsq,bits=2,net=resnet8,compare=all")
  assert (config.bits, config.activation_bits) == (2, 2)
  assert config.net.builder == "resnet8"
  assert sorted((config.qat.method, *config.compare)) == sorted(
    digits_qat.RULES
  )
  for wrong in ("rule=lsq", "bits", "net=alexnet", "compare=some"):
    with pytest.raises(ValueError, match="expected"):
      digits_qat.get_config(wrong)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"qat.method": "sgd"}, "config.qat.method is 'sgd', expected one of"),
    ({"bits": 3}, r"config.bits is 3, expected one of \(2, 4, 8\)"),
    ({"compare": ("log_lsq",)}, "config.compare is .* different rules beside"),
    ({"seeds": (1, 1)}, "config.seeds"),
    ({"start": "middle"}, "config.start is 'middle'"),
    ({"qat.weights": "affine"}, "config.qat: the rule 'log_lsq' learns one"),
    ({"qat.quantizes": "none"}, "config.qat: form.quantizes is 'none'"),
    ({"qat.batch_norm": "fold"}, "config.qat.batch_norm is 'fold'"),
    ({"qat.freeze_share": 2.0}, "config.qat.freeze_share is 2.0"),
    ({"start": "scratch", "qat.distillation": 0.5}, "distillation is 0.5"),
  ],
)
def test_wrong_settings_are_named(changes, message):
  config = tiny_qat.get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(settings.ConfigError, match=message):
    qat_settings.check(config)


def test_assignment_of_weights_and_activations():
  setup = qat_settings.check(tiny_qat.get_config("bits=2,activation_bits=4"))
  kinds = {"weight": 2, "out": 4}
  for site, bits in setup.assignment.items():
    fixed = setup.net.fixed_bits.get(site)
    assert bits == (fixed or kinds[site.split(".")[1]]), site
  assert setup.words == "2-bit weights and 4-bit activations"


# ---- the report --------------------------------------------------------------


def test_rows_and_the_verdict_of_known_outcomes():
  outcomes = [
    Outcome("a", 0, 0.90, 0.5, 0.80),
    Outcome("a", 1, 0.94, 0.5, 0.86),
    Outcome("b", 0, 0.90, 0.4, 0.84),
    Outcome("b", 1, 0.94, 0.2, 0.88),
    Outcome("c", 0, 0.90, 0.4, 0.80),
    Outcome("c", 1, 0.94, 0.2, 0.70),
  ]
  rows = qat.rows(outcomes, "a")
  assert [row.method for row in rows] == ["a", "b", "c"]
  assert rows[0].lost.value == pytest.approx(0.09)
  assert rows[1].ahead.value == pytest.approx(-0.03)
  assert rows[1].ahead.error == pytest.approx(0.01)
  assert rows[1].before.value == pytest.approx(0.3)
  text = qat.verdict(rows, "4 bits")
  assert "83.00 ±3.00 %" in text and "9.00 ±1.00 points below" in text
  assert text.endswith("b is 3.00 ±1.00 points better.")
  assert "No other rule tried" in qat.verdict(qat.rows(outcomes, "b"), "4 bits")
  with pytest.raises(ValueError, match=r"a has seeds \[0\]"):
    qat.rows(outcomes[:1] + outcomes[2:], "b")
