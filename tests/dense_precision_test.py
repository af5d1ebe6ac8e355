"""Free Bits and the exact choice on networks that tell pixels and objects."""

import csv
import json
import shutil

import experiment_runs
import jax
import jax.numpy as jnp
import lab_cases
import numpy as np
import pytest

from configs import export, scenes_bitq, scenes_exact, scenes_free_bits
from fbq.config import ConfigError
from fbq.lab import experiment, finished, task_judge, trained_point
from fbq.lab.judgement import Judgement
from fbq.lab.over_seeds import _too_bad
from fbq.lab.task_judge import TaskJudge
from fbq.model import Model
from fbq.schemes.fixed import Fixed
from fbq.search import sensitivity
from fbq.train.evaluation import Judged, compared
from fbq.train.log import Log
from fbq.train.objective import CLASSIFICATION
from fbq.train.segmentation import segmentation
from hwsim.pulp.table import check_workload
from tests.configs import tiny_dense, tiny_scenes

CONFIG = "tests/configs/tiny_dense.py"


@pytest.fixture(scope="module")
def done(cache, tmp_path_factory):
  """Workdir of a finished run of Free Bits on a segmenter."""
  path = tmp_path_factory.mktemp("dense") / "run"
  status, output = experiment_runs.run(cache, path, config=CONFIG)
  assert status == 0, output
  return path


# ---- Whole runs


def test_the_reported_metric_is_that_of_the_saved_network(done):
  """From the checkpoint by a program of its own; mean IoU pixel by pixel."""
  run = finished.read(done, Log(done / "metrics.jsonl"))
  for name in ("8/8", "free-60%+FB"):
    point = trained_point.load(run, name)
    assert point.net.name == "segmenter"
    bits = run.lab.bits(point.assignment)
    logits = Model(point.net, Fixed()).apply(
      point.variables, point.images, False, bits
    )
    told = np.asarray(segmentation(16).predictions(logits))
    truth = np.asarray(point.labels)
    shares = [
      np.sum((told == c) & (truth == c)) / np.sum((told == c) | (truth == c))
      for c in range(11)
      if np.any((told == c) | (truth == c))
    ]
    reported = run.results.by_name[name].test
    assert reported.accuracy == pytest.approx(np.mean(shares), abs=2e-3)
    assert point.accuracy == reported.accuracy


def test_the_run_is_told_in_the_metric_of_its_task(done):
  with open(done / "results.csv", newline="") as file:
    rows = {row["name"]: row for row in csv.DictReader(file)}
  result = json.loads((done / "result.json").read_text())
  for name, row in rows.items():
    assert "accuracy" not in row and "validation_accuracy" not in row
    assert 0 < float(row["mIoU"]) < 1 and float(row["error"]) > 0
    assert result["points"][name]["mIoU"] == float(row["mIoU"])
  assert {"recommended_mIoU", "float_mIoU"} <= set(result)
  page = experiment_runs.page_again(done)
  assert "mIoU in validation over cycles" in page and "test mIoU" in page
  assert "configs/export.py" not in page


def test_a_run_that_is_stopped_ends_with_the_same_numbers(
  done, cache, tmp_path
):
  """A search and a fine-tuning are made again, all else is read."""
  stopped = tmp_path / "stopped"
  shutil.copytree(done, stopped)
  for name in ("result.json", "results.csv", "results.json"):
    (stopped / name).unlink()
  for kind in ("search-free-*", "fine-tune-*"):
    shutil.rmtree(next(stopped.glob(f"checkpoints/{kind}")))
  status, output = experiment_runs.run(cache, stopped, config=CONFIG)
  assert status == 0, output
  numbers = [experiment_runs.numbers(path) for path in (stopped, done)]
  for found in numbers:  # what is made again comes last
    found["metrics.jsonl"] = sorted(found["metrics.jsonl"].splitlines())
  assert numbers[0] == numbers[1]


def test_integers_of_dense_networks_are_not_exported(done):
  with pytest.raises(ConfigError, match="judged by mIoU; only classifiers are"):
    lab_cases.checked(export.get_config(f"from={done}"))


def test_an_exact_choice_measures_harm_by_the_task(cache, tmp_path):
  """Harms of a few tensors beside passes of their own, by the definition."""
  path = tmp_path / "run"
  status, output = experiment_runs.run(cache, path, config=f"{CONFIG}:exact")
  assert status == 0, output
  _, found, _ = experiment.load(path)
  assert found.assignments.metric == "mIoU"
  harm = found.harm
  assert set(harm) == set(tiny_scenes.segmenter().workload.sites)
  # Less bits harm more, and 8 do nothing
  free = {s: h for s, h in harm.items() if len(h) > 1}
  assert len(free) >= 4
  for site, by_bits in free.items():
    assert by_bits[8] == 0 < by_bits[4] < by_bits[2], site
  assert (
    "mIoU that is lost after training" in (path / "report.html").read_text()
  )


# ---- What networks do, compared


@pytest.mark.parametrize("batch", [3, 64])
def test_a_comparison_of_classes_is_that_of_classifiers(batch):
  random = np.random.default_rng(0)
  first, second = 3 * random.normal(size=(2, 10, 4)).astype(np.float32)
  labels = random.integers(0, 4, 10)
  found = task_judge.comparison(CLASSIFICATION, labels, batch)(first, second)
  doubles = first.astype(np.float64), second.astype(np.float64)
  expected = sensitivity.compare(*doubles, labels)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  same = task_judge.comparison(CLASSIFICATION, labels, batch)(first, first)
  assert same == sensitivity.NO_CHANGE


def test_outputs_of_all_images_are_those_of_one_pass():
  """The last batch is filled up, and what fills it is left out."""
  net = tiny_scenes.segmenter()
  images = np.random.default_rng(0).random((5, 16, 16, 1), np.float32)
  variables = Model(net).init(jax.random.key(0), images, train=False)
  forward = jax.jit(lambda v, x, b: x.sum((1, 2, 3)) + b.sum())
  ranges = {s: {8: np.float32(1)} for s in net.workload.sites}
  judge = TaskJudge(net, forward, variables, ranges, images, None, batch=2)
  bits = dict.fromkeys(net.workload.sites, 8)
  np.testing.assert_allclose(
    judge.logits(bits), images.sum((1, 2, 3)) + 8 * len(bits), rtol=1e-6
  )
  lacking = {"ranges": {s: {} for s in ranges}}
  with pytest.raises(ValueError, match="no ranges for"):
    TaskJudge(net, forward, variables, lacking["ranges"], images, None).logits(
      bits
    )
  bad = jax.jit(lambda v, x, b: jnp.log(x - 1))
  with pytest.raises(ValueError, match="outputs are not finite"):
    TaskJudge(net, bad, variables, ranges, images, None).logits(bits)


@pytest.mark.parametrize("seeds", [1, 3])
def test_errors_of_a_metric_of_sets_are_those_of_a_mean_where_it_is_one(seeds):
  """The share of right images, judged as a metric of a whole set."""
  random = np.random.default_rng(seeds)
  sources = np.repeat(np.arange(20), 30)
  hard = random.random(20)[sources] * 0.6
  right, better = (
    random.random((seeds, 600)) + extra > hard for extra in (0, 0.05)
  )
  as_set = CLASSIFICATION._replace(metric_name="share")

  def found(task):
    return compared(
      *([Judged(x, sources, task) for x in some] for some in (right, better))
    )

  for by_set, by_mean in zip(found(as_set), found(CLASSIFICATION), strict=True):
    assert by_set.value == pytest.approx(by_mean.value, abs=1e-12)
    assert by_set.error == pytest.approx(by_mean.error, rel=0.05)
    assert by_set.freedom == by_mean.freedom == (19 if seeds == 1 else 2)


def test_a_reference_that_tells_nothing_is_said_aloud():
  """After a few steps a detector finds nothing, so nothing can be lost."""
  right = np.arange(40) < 8
  judged = Judged(right, np.arange(40))
  assert _too_bad([Judgement(judged, judged)], 0.1) == []
  (said,) = _too_bad([Judgement(judged, judged)], 0.2)
  assert "accuracy of 20.00% in validation, no more than" in said


# ---- Which networks have cycles


@pytest.mark.parametrize(
  ("net", "message"),
  [("yolov8n", "concat"), ("unet", "conv_transpose"), ("vit", "reshape")],
)
def test_networks_of_bitq_have_no_cycles_on_pulp(net, message):
  config = scenes_free_bits.get_config("fcn,smoke")
  config.net = scenes_bitq.get_config(net).net
  with pytest.raises(ConfigError, match=f"have no {message}, only conv"):
    lab_cases.checked(config)


@pytest.mark.parametrize("net", scenes_free_bits.NETS)
@pytest.mark.parametrize("target", ["xpulpnn_v1", "gap9_ne16"])
def test_networks_that_go_one_way_have_cycles(net, target):
  for config in (scenes_free_bits, scenes_exact):
    given = config.get_config(f"{net},smoke")
    given.target = target
    _, lab = lab_cases.checked(given)
    assert lab.task.objective.metric_name == dict(fcn="mIoU", ssd="box AP")[net]
    check_workload(lab.net.workload, target)
    assert (lab.costs.cycles > 0).all()


def test_tiny_detector_is_sound():
  _, lab = lab_cases.checked(tiny_dense.get_config("detector,exact"))
  assert lab.task.objective.metric_name == "box AP"
