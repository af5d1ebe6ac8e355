"""Training at uniform bits: resumes bit for bit, one trace, errors, verdict."""

import csv
import json
import math
import re
import shutil
import signal

import experiment_runs
import lab_cases
import pytest

from configs import digits_qat
from fbq.config import ConfigError
from fbq.experiments.qat import config as qat_config
from fbq.experiments.qat import page
from fbq.experiments.qat.results import TrainedNetwork, TrainedNetworks
from fbq.report.run import Run
from tests.configs import tiny_qat

CONFIG = "tests/configs/tiny_qat.py:method=min_max,bits=4,activation_bits=8"
OPTIONS = (
  "--config.compare=('lsq',)",
  "--config.qat.batch_norm=correct_then_freeze",
  "--config.qat.distillation=0.5",
  "--config.qat.smoothing=0.5",
)


def test_a_killed_run_ends_with_the_numbers_of_an_uninterrupted_one(
  cache, tmp_path
):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  status, output = experiment_runs.run(
    cache, whole, *OPTIONS, config=CONFIG, tells_compiles=True
  )
  assert status == 0, output
  # Two rules, each one step and one evaluation for both seeds; float training
  # has an evaluation for each.
  for name, count in (("step", 3), ("right", 4)):
    traced = re.findall(rf"Finished tracing {name} for jit", output)
    assert len(traced) == count

  # Killed in its last stage: those before it are found as they were left.
  shutil.copytree(whole, killed)
  shutil.rmtree(killed / "checkpoints/seed3-lsq")
  for name in ("result.json", "results.json", "results.csv", "report.html"):
    (killed / name).unlink()
  status, output = experiment_runs.run(
    cache,
    killed,
    *OPTIONS,
    config=CONFIG,
    program="tests/killed.py",
    moment="logged:seed3-lsq:6",
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
  html = experiment_runs.page_again(whole)
  assert "4-bit weights and 8-bit activations by min_max" in html
  for method in ("min_max", "lsq"):
    assert re.search(rf"<th[^>]*>\s*{method}\s*</th>", html)


# ---- settings ----------------------------------------------------------------


def test_words_of_the_config():
  config = digits_qat.get_config("method=lsq,bits=2,resnet8,compare=all")
  assert (config.bits, config.activation_bits) == (2, 2)
  assert config.net.builder == "resnet8"
  assert sorted((config.qat.method, *config.compare)) == sorted(
    digits_qat.RULES
  )
  for wrong in ("rule=lsq", "bits", "bits=four", "alexnet", "compare=some"):
    with pytest.raises(ConfigError, match=f"{wrong!r} after .* bits: 4, 2, 8;"):
      digits_qat.get_config(wrong)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"qat.method": "lqs"}, "qat.method: rule 'lqs' is not .*mean 'lsq'"),
    ({"bits": 3}, r"config.bits is 3, expected one of \(2, 4, 8\)"),
    ({"compare": ("log_lsq",)}, "config.compare is .* different rules beside"),
    ({"compare": ("sgd",)}, "config.compare: rule 'sgd' is not known"),
    ({"seeds": (1, 1)}, "config.seeds"),
    ({"start": "middle"}, "config.start is 'middle'"),
    ({"qat.weights": "affine"}, "config.qat: the rule 'log_lsq' learns one"),
    ({"qat.quantizes": "none"}, "config.qat.quantizes is 'none', expected one"),
    ({"qat.batch_norm": "fold"}, "config.qat.batch_norm is 'fold'"),
    ({"qat.freeze_share": 2.0}, "config.qat.freeze_share is 2.0"),
    ({"start": "scratch", "qat.distillation": 0.5}, "distillation is 0.5"),
    ({"fine_tuning.steps": 10**30}, "config.fine_tuning.steps is 10000"),
    ({"range_learning_rates.lsq": -1.0}, "range_learning_rates.* expected"),
  ],
)
def test_wrong_settings_are_named(changes, message):
  config = tiny_qat.get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ConfigError, match=message) as caught:
    lab_cases.checked(config)
  assert "\n" not in str(caught.value)


def test_assignment_of_weights_and_activations():
  given = tiny_qat.get_config("bits=2,activation_bits=4")
  settings, lab = lab_cases.checked(given)
  kinds = {"weight": 2, "out": 4}
  for site, bits in qat_config.assignment(settings, lab.net).items():
    fixed = lab.net.fixed_bits.get(site)
    assert bits == (fixed or kinds[site.split(".")[1]]), site


def test_a_rule_of_ones_own_trains_beside_others(tmp_path, monkeypatch):
  (tmp_path / "my_rules.py").write_text(
    "from fbq.quantizers import qat_rules\n"
    "MINE = qat_rules.LSQ._replace(name='mine', learning_rate=0.25)\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  config = tiny_qat.get_config()
  config.compare = ("my_rules:MINE", "lsq")
  settings, _ = lab_cases.checked(config)
  found = qat_config.recipes(settings)
  assert [*found] == ["log_lsq", "mine", "lsq"]
  assert found["mine"].scheme.rule.learning_rate == 0.25


# ---- the record --------------------------------------------------------------


NETWORKS = (
  TrainedNetwork("a", 0, 0.90, 0.5, 0.80),
  TrainedNetwork("a", 1, 0.94, 0.5, 0.86),
  TrainedNetwork("b", 0, 0.90, 0.4, 0.84),
  TrainedNetwork("b", 1, 0.94, 0.2, 0.88),
  TrainedNetwork("c", 0, 0.90, 0.4, 0.80),
  TrainedNetwork("c", 1, 0.94, 0.2, 0.70),
)


def compared(networks, *rules, quantizes="both"):
  texts = dict.fromkeys(rules, "what it does")
  return TrainedNetworks("net", 4, 8, quantizes, texts, tuple(networks), ())


def test_means_and_the_verdict_of_known_accuracies():
  results = compared(NETWORKS, "a", "b", "c")
  rows = results.means
  assert [*rows] == ["a", "b", "c"]
  assert rows["a"].lost.value == pytest.approx(0.09)
  assert rows["b"].behind.value == pytest.approx(-0.03)
  assert rows["b"].behind.error == pytest.approx(0.01)
  assert rows["b"].before.value == pytest.approx(0.3)
  text = results.verdict
  assert text.startswith(
    "4-bit weights and 8-bit activations by a: 83.00 ±3.00"
  )
  assert "9.00 ±1.00 points below" in text
  # Student's t of two seeds is 12.7, and three errors are not enough.
  assert text.endswith("b is 3.00 ±1.00 points better, not told apart at 95 %.")
  best = compared(NETWORKS, "b", "a", "c").verdict
  assert "No other rule tried is better" in best


def test_one_seed_has_no_standard_error(tmp_path):
  results = compared(NETWORKS[::2], "a", "b", "c", quantizes="weights")
  assert math.isnan(results.means["a"].after.error)
  summary = results.summary()
  assert summary["rules"]["a"]["after"] == {
    "mean": 0.8,
    "standard_error": None,
  }
  page.write(results, Run(), tmp_path)
  html = (tmp_path / "report.html").read_text()
  assert "80.00" in html and not re.search(r"\d ± \d", html)
  assert results.verdict == (
    "4-bit weights and float activations by a: 80.00 % of the test images, "
    "10.00 points below the float network (one seed). b is 4.00 points better."
  )
