"""A whole choice of block formats, and the settings that it refuses."""

import csv
import json

import experiment_runs
import pytest

from configs import digits_bitq
from fbq import block_formats
from fbq.experiments import bfp_baselines, bitq_settings
from fbq.experiments.settings import ConfigError
from tests.configs import tiny_bitq

CONFIG = "tests/configs/tiny_bitq.py"


def test_a_whole_experiment_resumes_and_repeats(tmp_path):
  cache, first = tmp_path / "cache", tmp_path / "first"
  status, output = experiment_runs.run(cache, first, config=CONFIG)
  assert status == 0, output
  result = json.loads((first / "result.json").read_text())
  assert set(result["recommended"]) == {"Long", "Short"}
  net = tiny_bitq.residual()
  stored = {
    name: block_formats.from_json(net, path)
    for path in (first / "precision").glob("*.json")
    for name in [path.stem]
  }
  assert len(stored) == len(result["outcomes"])
  with open(first / "results.csv", newline="") as file:
    rows = {row["name"]: row for row in csv.DictReader(file)}
  fp32 = float(rows["FP32"]["dram_bits"])
  assert all(float(row["dram_bits"]) <= fp32 for row in rows.values())
  assert rows["BSFP"]["test"] == ""  # priced, not trained
  # Less is moved at the larger alpha, and every alpha has a trained network.
  for word, by_alpha in result["by_alpha"].items():
    moved = [float(rows[by_alpha[a]]["dram_bits"]) for a in by_alpha]
    assert moved == sorted(moved, reverse=True)
    assert all(rows[name]["test"] for name in by_alpha.values()), word
  page = (first / "report.html").read_text()
  assert page.count("data:image/png;base64,") == 4 and "http" not in page
  # Without the mark of the end nothing is trained again but what is not there,
  # and all ends with the same numbers.
  kept = _numbers(first)
  for name in ("result.json", "results.csv", "losses.json"):
    (first / name).unlink()
  checkpoint = next(first.glob("checkpoints/qat-grid-*"))
  checkpoint.rename(tmp_path / "away")
  status, output = experiment_runs.run(cache, first, config=CONFIG)
  assert status == 0, output
  assert _numbers(first) == kept


def _numbers(workdir):
  """Lines of metrics in any order: what is trained again comes last."""
  found = experiment_runs.numbers(workdir)
  found["metrics.jsonl"] = sorted(found["metrics.jsonl"].splitlines())
  return found


WRONG = [
  ("alphas", (-0.1, 0.2), "alphas.*none negative"),
  ("alpha", 0.3, r"alpha is 0.3, expected one of"),
  ("words.Short.exponent_bits", (2, 7), "Short: .*sign and a mantissa"),
  ("words.Short.exponent_bits", (3,), "exponent_bits.*two or more"),
  ("words.Short.block_sizes", (0, 8), "block_sizes.*whole numbers, 1 to"),
  ("words.Short.block_sizes", (8, 8), "block_sizes.*different"),
  ("published", ("FlexBlok",), "published.*expected some of"),
  ("calibration_images", 100, "a multiple of 360"),
  ("losses.noise_images", 0, "noise_images"),
  ("qat.steps", 0, "qat.steps.*at least 1"),
  ("sweep.memory_kilobytes", (0,), "positive"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_wrong_settings_are_named(name, value, message):
  config = tiny_bitq.get_config()
  *path, last = name.split(".")
  place = config
  for part in path:
    place = place[part]
  place[last] = value
  with pytest.raises(ConfigError, match=message):
    bitq_settings.check(config)


def test_a_memory_too_small_says_what_is_needed():
  config = tiny_bitq.get_config()
  config.memory_bytes = 8
  with pytest.raises(ConfigError, match=r"12 bytes|96 bits") as error:
    bitq_settings.check(config)
  assert "stem" in str(error.value)


@pytest.mark.parametrize("net", digits_bitq.NETS)
def test_configurations_are_sound(net):
  config = digits_bitq.get_config(net)
  assert set(config.published) == set(bfp_baselines.NAMES)
  checked = bitq_settings.check(config)
  assert [len(word.grid) for word in checked.words] == [48, 40]
