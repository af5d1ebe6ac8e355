"""BitQ of dense networks: a whole run, and what does not fit together."""

import json
import shutil

import experiment_runs
import lab_cases
import pytest

from configs import digits_qat, scenes_bitq
from fbq.config import ConfigError
from fbq.lab import experiment

CONFIG = "tests/configs/tiny_scenes.py"
# A single block size: tables of all formats take seconds
WORDS = {"BitQ8": dict(bits=8, exponent_bits=(2, 3, 4), block_sizes=(16,))}


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
  """Workdir of a finished run."""
  path = tmp_path_factory.mktemp("scenes") / "run"
  status, output = experiment_runs.run(cache, path, config=CONFIG)
  assert status == 0, output
  return path


def test_a_segmenter_is_judged_by_its_overlap_and_shown(done):
  _, results, _ = experiment.load(done)
  assert results.metric == "mIoU"
  (study,) = results.studies
  fp32 = study.by_name["FP32"]
  assert 0 < fp32.test < 0.5 and fp32.test_error > 0 and fp32.lost == 0
  assert len(study.examples) == 4
  names = {"FP32", *study.recommended.values()}
  assert set(study.examples[0].networks) == names
  page = experiment_runs.page_again(done)
  assert "test mIoU" in page and "paper: MaskDINO" in page
  assert (done / "examples.svg").is_file()


def test_a_run_that_is_stopped_ends_with_the_same_numbers(
  done, cache, tmp_path
):
  stopped = tmp_path / "stopped"
  shutil.copytree(done, stopped)
  for name in ("result.json", "results.csv", "results.json"):
    (stopped / name).unlink()
  shutil.rmtree(next(stopped.glob("checkpoints/seed0-qat-grid-*")))
  status, output = experiment_runs.run(cache, stopped, config=CONFIG)
  assert status == 0, output
  told = [json.loads((p / "results.json").read_text()) for p in (stopped, done)]
  assert told[0]["results"] == told[1]["results"]


@pytest.mark.parametrize("net", scenes_bitq.NETS)
def test_every_network_has_its_task(net):
  config = scenes_bitq.get_config(f"{net},smoke")
  config.words = WORDS
  _, lab = lab_cases.checked(config)
  expected = dict(yolov8n="box AP", yolov8n_seg="mask AP")
  assert lab.task.objective.metric_name == expected.get(net, "mIoU")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(in_channels=3), "expected square grey ones"),
    (dict(classes=10), "tells 10 classes apart, expected 11"),
    (dict(resolution=8), "of 16 pixels or more"),
  ],
)
def test_networks_that_do_not_fit_are_refused(change, message):
  config = scenes_bitq.get_config("unet")
  config.net.arguments.update(change)
  with pytest.raises(ConfigError, match=message):
    lab_cases.checked(config)


def test_classifiers_and_methods_for_classifiers_are_told_apart(tmp_path):
  config = scenes_bitq.get_config("unet")
  config.net.builder = "resnet8"
  config.net.arguments = dict(resolution=32, classes=10, in_channels=1)
  with pytest.raises(ConfigError, match="expected a map of classes or"):
    lab_cases.checked(config)
  config = digits_qat.get_config()
  config.data = dict(name="scenes")
  config.net = dict(builder="tests.configs.tiny_scenes:segmenter", arguments={})
  with pytest.raises(ConfigError, match="judged by mIoU, expected classes"):
    experiment.run(config, tmp_path / "run")
