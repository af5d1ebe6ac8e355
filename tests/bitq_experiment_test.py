"""A whole choice of block formats, and the settings that it refuses."""

import csv
import json
import shutil

import experiment_runs
import lab_cases
import numpy as np
import pytest

from configs import digits_bitq, imagenet_bitq
from fbq import block_formats
from fbq.config import ConfigError
from fbq.deploy import block_artifact
from fbq.lab import block_point, experiment, finished
from fbq.schemes import published_formats
from fbq.train.log import Log
from tests.configs import tiny_bitq

CONFIG = "tests/configs/tiny_bitq.py"


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
  """Workdir of a finished run."""
  path = tmp_path_factory.mktemp("bitq") / "run"
  status, output = experiment_runs.run(cache, path, config=CONFIG)
  assert status == 0, output
  return path


def test_a_run_costs_everything_and_recommends_for_each_word(done):
  result = json.loads((done / "result.json").read_text())
  (study,) = result["seeds"].values()
  assert set(study["recommended"]) == {"Long", "Short"}
  with open(done / "results.csv", newline="") as file:
    rows = {row["name"]: row for row in csv.DictReader(file)}
  net = tiny_bitq.residual()
  for path in (done / "precision").glob("*.json"):
    block_formats.from_json(net, path)
  assert len(list((done / "precision").iterdir())) == len(rows)
  fp32 = float(rows["FP32"]["dram_bits"])
  assert all(float(row["dram_bits"]) <= fp32 for row in rows.values())
  assert rows["BSFP"]["test"] == ""  # priced, not trained
  # Less is moved at the larger alpha, and every alpha has a trained network.
  for word, by_alpha in study["by_alpha"].items():
    moved = [float(rows[by_alpha[a]]["dram_bits"]) for a in by_alpha]
    assert moved == sorted(moved, reverse=True)
    assert all(rows[name]["test"] for name in by_alpha.values()), word


def test_its_page_is_made_again_without_it(done):
  page = (done / "report.html").read_bytes()
  (done / "report.html").unlink()
  kind, results, about = experiment.load(done)
  kind.write(results, about, done)
  assert (done / "report.html").read_bytes() == page


def test_a_run_that_is_stopped_ends_with_the_same_numbers(
  done, cache, tmp_path
):
  """Without the mark of the end only what is not there is trained again."""
  stopped = tmp_path / "stopped"
  shutil.copytree(done, stopped)
  for name in (
    "result.json",
    "results.csv",
    "results.json",
    "losses-seed0.json",
  ):
    (stopped / name).unlink()
  shutil.rmtree(next(stopped.glob("checkpoints/seed0-qat-grid-*")))
  status, output = experiment_runs.run(cache, stopped, config=CONFIG)
  assert status == 0, output
  assert _numbers(stopped) == _numbers(done)


def _numbers(workdir):
  """Lines of metrics in any order: what is trained again comes last."""
  found = experiment_runs.numbers(workdir)
  found["metrics.jsonl"] = sorted(found["metrics.jsonl"].splitlines())
  return found


def test_a_trained_network_is_found_as_it_was_left(done):
  run = finished.read(done, Log(done / "metrics.jsonl"))
  found = run.results.deployable("best")
  (study,) = run.results.studies
  assert found.name == study.recommended["Short"]
  point = block_point.load(run, found)
  logits = block_artifact.logits(
    point.net, point.scheme, point.variables, point.data, point.images
  )
  right = np.argmax(logits, -1) == np.asarray(point.labels)
  assert len(right) == 360
  assert right.mean() == study.by_name[found.name].test == point.accuracy


WRONG = [
  ("alphas", (-0.1, 0.2), "alphas.*none negative"),
  ("alphas", ((1, 2),), "alphas.*expected different numbers"),
  ("alpha", 0.3, r"alpha is 0.3, expected one of"),
  ("words", {}, r"words is \{\}, expected"),
  (
    "words.Short.exponent_bits",
    ((1, 2),),
    "exponent_bits.*whole numbers, 1 to",
  ),
  ("words.Short.exponent_bits", (2, 7), "Short: .*sign and a mantissa"),
  ("words.Short.exponent_bits", (3,), "exponent_bits.*two or more"),
  ("words.Short.block_sizes", (0, 8), "block_sizes.*whole numbers, 1 to"),
  ("words.Short.block_sizes", (8, 8), "block_sizes.*different"),
  ("published", ("FlexBlok",), "published.*expected some of"),
  ("calibration_images", 100, "a multiple of 360"),
  ("losses.noise_images", 0, "noise_images"),
  ("losses.noise_images", 720, "at most calibration_images, 360"),
  ("qat.steps", 0, "qat.steps is 0, expected a number of steps"),
  ("memory_bytes", 8, "memory_bytes is 8, expected a whole number, 12 to"),
  ("register_bytes", 10**30, "register_bytes is 10*, expected a whole number"),
]


@pytest.mark.parametrize("name, value, message", WRONG)
def test_wrong_settings_are_named_in_one_line(name, value, message):
  config = tiny_bitq.get_config()
  place, *path = config, *name.split(".")
  for part in path[:-1]:
    place = place[part]
  with place.ignore_type():
    place[path[-1]] = value
  with pytest.raises(ConfigError, match=message) as error:
    lab_cases.checked(config)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("net", digits_bitq.NETS)
def test_configurations_are_sound(net):
  settings, _ = lab_cases.checked(digits_bitq.get_config(net))
  assert settings.published == published_formats.NAMES
  grids = [len(word.grid) for word in settings.words.values()]
  assert grids == [48, 40]


def test_elements_are_chosen_by_the_word_mx():
  settings, _ = lab_cases.checked(digits_bitq.get_config("resnet8,mx"))
  assert settings.cluster.name == "vmxdotp"
  assert len(settings.words["MX"].grid) == 5


@pytest.mark.parametrize("words", ["resnet9", "net=", "resnet8,resnet18"])
def test_a_wrong_word_after_the_colon_is_named(words):
  with pytest.raises(ConfigError, match="after the config's colon"):
    digits_bitq.get_config(words)


def test_a_smoke_run_keeps_what_is_not_made_smaller():
  full, small = imagenet_bitq.get_config(), imagenet_bitq.get_config("smoke")
  assert small.float_training.drops == full.float_training.drops
  assert small.checkpoint_images == full.checkpoint_images
  assert small.qat.steps == 8 and full.qat.steps == 1000
