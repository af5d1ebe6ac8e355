"""The experiment of the exact choice: its errors, and a run to the end."""

import csv
import json

import experiment_runs
import lab_cases
import numpy as np
import pytest

from fbq import precision
from fbq.config import ConfigError
from fbq.lab import finished, trained_point
from fbq.train.log import Log
from hwsim import ne16, proxies, targets
from hwsim.latency_table import total_cycles
from tests.configs import tiny, tiny_exact

WRONG = [
  ("budgets", (0.5,), "budgets of 0.5 x .* cycles <= .*: the least achievable"),
  ("budgets", (), "budgets is .*expected shares"),
  ("limits.weight_bytes", 10, "config.limits.*: weight_bytes <= 10 cannot"),
  ("limits.peak_bytes", 10, "peak_bytes <= 10 cannot be met"),
  ("bounds", (("stem.wieght", 4, 8),), "bounds: .*stem.wieght.*did you mean"),
  ("bounds", (("pw.weight", 4),), "bounds.*triples"),
  ("bounds", (("pw.weight", "4", 8),), "bounds.*triples"),
  ("bounds", (("pw.weight", 3, 8),), "config.bounds: .*3 to 8 bits"),
  ("ties", ("pw.weight",), "config.ties: .*ties nothing"),
  ("ties", (5,), "config.ties .*expected regular expressions, or lists"),
  (
    "value",
    "hessian",
    "value is 'hessian', expected one of 'kl', 'loss', 'mse'",
  ),
  ("uniform_baselines", (4,), "8 among them"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_what_cannot_be_met_is_said_before_training(name, value, message):
  config = tiny_exact.get_config()
  place, *path = config, *name.split(".")
  for part in path[:-1]:
    place = place[part]
  place[path[-1]] = value
  with pytest.raises(ConfigError, match=message):
    lab_cases.checked(config)


def test_a_run_keeps_its_budgets_limits_and_rules(cache, tmp_path):
  net = tiny.separable()
  eight = precision.uniform(net, 8)
  most = proxies.weight_bytes(net.workload, eight) * 9 // 10
  status, output = experiment_runs.run(
    cache,
    tmp_path / "run",
    f"--config.limits.weight_bytes={most}",
    "--config.bounds=(('classifier.weight', 4, 4),)",
    "--config.ties=(('stem.weight', 'dw.weight'),)",
    config="tests/configs/tiny_exact.py",
  )
  assert status == 0, output
  result = json.loads((tmp_path / "run" / "result.json").read_text())
  for name in ("exact-99", "exact-100"):
    path = tmp_path / "run" / "precision" / f"{name}.json"
    chosen = precision.from_json(net, path)
    assert proxies.weight_bytes(net.workload, chosen) <= most
    assert chosen["classifier.weight"] == 4
    assert chosen["stem.weight"] == chosen["dw.weight"]
    reasons = (tmp_path / "run" / "reasons" / f"{name}.txt").read_text()
    assert "stem.weight = dw.weight" in reasons
    assert "classifier.weight: 4 bits; no choice" in reasons
  # The other baselines break rules.
  assert result["recommended"] in ("exact-99%", "exact-100%", "4/4")
  page = (tmp_path / "run" / "report.html").read_text()
  assert "breaks the limit on weight_bytes, bounds or ties" in page
  assert "Free Bits pass" not in page
  eight_cycles = result["points"]["8/8"]["cycles"]
  assert result["points"]["exact-99%"]["cycles"] <= 0.99 * eight_cycles
  with (tmp_path / "run" / "surrogate_front.csv").open() as file:
    rows = list(csv.DictReader(file))
  cycles = [int(row["cycles"]) for row in rows]
  harm = [float(row["harm"]) for row in rows]
  assert cycles == sorted(cycles) and harm == sorted(harm, reverse=True)
  assert all(int(row["weight_bytes"]) <= most for row in rows)
  # What was trained is found again, to be exported.
  run = finished.read(tmp_path / "run", Log(tmp_path / "metrics.jsonl"))
  point = trained_point.load(run, "exact-99%")
  assert point.assignment["classifier.weight"] == 4
  assert point.accuracy == result["points"]["exact-99%"]["accuracy"]
  kernel = point.variables["params"]["pw_kernel"]
  assert kernel.shape == (1, 1, 8, 16) and np.isfinite(kernel).all()


def test_a_run_on_ne16_chooses_among_its_widths(cache, tmp_path):
  """Weights of 2 to 8 bits, activations of 8, as files, costs and page tell."""
  net, where = tiny.separable(), tmp_path / "run"
  status, output = experiment_runs.run(
    cache,
    where,
    "--config.target=gap9_ne16",
    "--config.bounds=(('pw.weight', 3, 6),)",
    config="tests/configs/tiny_exact.py",
  )
  assert status == 0, output
  points = json.loads((where / "result.json").read_text())["points"]
  assert {"8/8", "8/4", "8/2", "exact-99%"} <= points.keys()
  table = targets.latency_table(net.workload, ne16.GAP9_NE16)
  for name in ("exact-99", "8-8"):
    path = where / "precision" / f"{name}.json"
    chosen = precision.from_json(net, path, table.ladder)
    told = points["exact-99%" if name == "exact-99" else "8/8"]
    assert told["cycles"] == total_cycles(table, net.workload, chosen)
  chosen = precision.from_json(
    net, where / "precision" / "exact-99.json", table.ladder
  )
  assert 3 <= chosen["pw.weight"] <= 6
  harm = json.loads((where / "sensitivities.json").read_text())
  assert set(harm["pw.weight"]) == set("2345678")
  assert set(harm["stem.out"]) == {"8"}
  # What was trained is found again at its widths.
  run = finished.read(where, Log(tmp_path / "metrics.jsonl"))
  assert trained_point.load(run, "exact-99%").assignment == chosen
