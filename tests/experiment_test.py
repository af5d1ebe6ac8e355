"""Whole runs: what they leave, that they resume bit for bit, one trace each."""

import csv
import json
import re
import shutil
import signal
import time

import experiment_runs
import pytest

from fbq.lab import points

# A search of each gating at the middle of the bracket comes first.
STAGES = ("float", "search-locked-3", "search-free-3")


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
  """The workdir of an uninterrupted run; not to be written to."""
  workdir = tmp_path_factory.mktemp("runs") / "finished"
  status, output = experiment_runs.run(cache, workdir)
  assert status == 0, output
  return workdir


def test_a_finished_run_leaves_all_its_files(finished):
  names = {path.name for path in finished.iterdir()} - {".lock"}
  assert names == {
    "config.json",
    "metrics.jsonl",
    "checkpoints",
    "latency_table.csv",
    "precision",
    "results.csv",
    "results.json",
    "bits.svg",
    "front.svg",
    "losses.svg",
    "gates.svg",
    "report.html",
    "result.json",
  }
  result = json.loads((finished / "result.json").read_text())
  with (finished / "results.csv").open(newline="") as file:
    rows = {row["name"]: row for row in csv.DictReader(file)}
  assert rows.keys() == result["points"].keys() >= {"8/8", "4/4", "2/2"}
  for name, point in result["points"].items():
    assert float(rows[name]["accuracy"]) == point["accuracy"]
    assert int(rows[name]["cycles"]) == point["cycles"]
  free = [row for row in rows.values() if row["kind"] == "free_bits"]
  assert free
  for row in rows.values():
    names = [row["name"], *row["aliases"].split()]
    for name in names:
      path = finished / "precision" / f"{points.file_of(name)}.json"
      bits = json.loads(path.read_text())["bits"]
      assert all(int(row[f"bits:{site}"]) == b for site, b in bits.items())
  assert (finished / "front.svg").read_text().startswith("<svg")
  page = (finished / "report.html").read_text()
  assert all(name in page for name in rows)


def test_metrics_have_every_logged_step_once(finished):
  steps = {}
  for line in experiment_runs.metrics(finished):
    steps.setdefault(line["stage"], []).append(line["step"])
  assert {*STAGES} <= steps.keys()
  searches = [stage for stage in steps if stage.startswith("search-")]
  assert len(searches) == 4  # two for each target
  tuned = [stage for stage in steps if stage.startswith("fine-tune-")]
  stages = {path.name for path in (finished / "checkpoints").iterdir()}
  assert steps.keys() == stages and len(tuned) >= 4
  assert steps.pop("float") == [2, 4, 6, 8, 10, 12]
  assert all(found == [2, 4, 6, 8] for found in steps.values())


def test_a_finished_run_is_left_alone(cache, finished):
  def times():
    return {p: p.stat().st_mtime_ns for p in finished.rglob("*")}

  before = times()
  start = time.monotonic()
  status, output = experiment_runs.run(cache, finished)
  assert status == 0 and "is finished" in output
  assert time.monotonic() - start < 30  # no training, no compiling
  assert times() == before


# In the order of a run: each process is killed, the next one resumes.
MOMENTS = (
  "replacing:config.json",
  "logged:float:6",  # between checkpoints
  "saved:float:8",  # right after one
  "cut:search-locked:6",  # in the middle of a line
  "saving:search-free:8",  # before the last checkpoint of a stage is whole
  "saved:fine-tune:4",
  "replacing:front.svg",  # in the report
)


def test_killed_runs_end_with_the_same_numbers(cache, finished, tmp_path):
  """SIGKILL again and again, the last time from outside, bit for bit."""
  workdir = tmp_path / "killed"
  for moment in MOMENTS[:-1]:
    status, output = experiment_runs.run(
      cache, workdir, program="tests/killed.py", moment=moment
    )
    assert status == -signal.SIGKILL, f"{moment}: {output}"
    assert not (workdir / "result.json").exists()
  kill_in_fine_tuning(cache, workdir)
  status, output = experiment_runs.run(
    cache, workdir, program="tests/killed.py", moment=MOMENTS[-1]
  )
  assert status == -signal.SIGKILL, output
  assert (workdir / "results.csv").exists()
  status, output = experiment_runs.run(cache, workdir)
  assert status == 0, output
  expected = experiment_runs.numbers(finished)
  found = experiment_runs.numbers(workdir)
  assert found.keys() == expected.keys()
  differing = [name for name in expected if found[name] != expected[name]]
  assert not differing
  left = [path.name for path in workdir.rglob("*")]
  assert not [n for n in left if n.endswith((".writing", ".tmp", ".part"))]
  assert not [n for n in left if "orbax-checkpoint-tmp" in n]


def kill_in_fine_tuning(cache, workdir):
  """Kills main.py from outside once a second assignment is being tuned."""
  process = experiment_runs.start(cache, workdir)
  deadline = time.monotonic() + 200
  try:
    while time.monotonic() < deadline and process.returncode is None:
      stages = {line["stage"] for line in experiment_runs.metrics(workdir)}
      if sum(stage.startswith("fine-tune-") for stage in stages) >= 2:
        break
      time.sleep(0.005)
  finally:
    process.kill()
    output, _ = process.communicate()
  assert process.returncode == -signal.SIGKILL, output


def test_a_damaged_checkpoint_stops_the_run_by_name(cache, finished, tmp_path):
  workdir = shutil.copytree(finished, tmp_path / "copy")
  (workdir / "result.json").unlink()
  step = workdir / "checkpoints/float/12"
  (data,) = (step / "state/d").iterdir()
  content = bytearray(data.read_bytes())
  content[len(content) // 2] ^= 1
  data.write_bytes(content)
  status, output = experiment_runs.run(cache, workdir)
  assert status == 1
  assert str(step) in output and "is damaged" in output
  assert "Traceback" not in output
  assert not (workdir / "result.json").exists()


RESNET8 = (
  "--config.net.builder=resnet8",
  "--config.net.arguments={'width':0.125,'resolution':8,'in_channels':1}",
  "--config.seeds=(0,3)",
  "--config.search.strengths=(0.01, 30.0)",
  "--config.search.locked=(True,)",
  "--config.float_training.steps=4",
  "--config.search.steps=2",
  "--config.fine_tuning.steps=2",
  "--config.rules=(('stage1.conv1.weight', 4),)",
)


@pytest.fixture(scope="module")
def two_seeds(cache, tmp_path_factory):
  """(workdir, what was printed) of a run of a network with adders."""
  workdir = tmp_path_factory.mktemp("resnet8") / "run"
  status, output = experiment_runs.run(
    cache, workdir, *RESNET8, tells_compiles=True
  )
  assert status == 0, output
  return workdir, output


def test_resnet8_and_one_trace_of_each_step(two_seeds):
  """Adders; two seeds, strengths and many assignments that share programs."""
  workdir, output = two_seeds
  # A step for each of float training, search and fine-tuning; an evaluation of
  # the float network for each seed.
  for name, count in (("step", 3), ("right", 3)):
    traced = re.findall(rf"Finished tracing {name} for jit", output)
    assert len(traced) == count
  stages = {line["stage"] for line in experiment_runs.metrics(workdir)}
  assert {"search-locked-0.01", "search-locked-30"} <= stages
  assert sum(stage.startswith("fine-tune-") for stage in stages) >= 3
  bits = json.loads((workdir / "precision/2-2.json").read_text())["bits"]
  assert bits["stage0.add.out"] == bits["stage1.conv2.out"] == 8
  assert bits["stage1.conv1.out"] == bits["classifier.weight"] == 2
  # The rule holds for what is searched and raised; what breaks it is named.
  ruled = {}
  for path in workdir.glob("precision/*.json"):
    bits = json.loads(path.read_text())["bits"]
    ruled[path.stem] = bits["stage1.conv1.weight"] == 4
  assert all(kept for name, kept in ruled.items() if "locked" in name)
  assert ruled["4-4"] and not ruled["8-8"]
  result = json.loads((workdir / "result.json").read_text())
  assert ruled[result["recommended"].replace("/", "-")]


def test_a_run_of_two_seeds_goes_on_in_the_second(cache, two_seeds):
  """What is left of seed 3 after its float training, bit for bit."""
  whole, _ = two_seeds
  expected = experiment_runs.numbers(whole)
  trained = {path.name for path in (whole / "checkpoints").iterdir()}
  later = {n for n in trained if n.startswith("seed3-")} - {"seed3-float"}
  assert "float" in trained and len(later) >= 3
  for name in later:
    shutil.rmtree(whole / "checkpoints" / name)
  for name in ("result.json", "results.json", "results.csv", "report.html"):
    (whole / name).unlink()
  status, output = experiment_runs.run(cache, whole, *RESNET8)
  assert status == 0, output
  found = experiment_runs.numbers(whole)
  assert found.keys() == expected.keys()
  assert not [name for name in expected if found[name] != expected[name]]
  with (whole / "results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  both = [
    [float(row[f"accuracy:seed{seed}"]) for seed in (0, 3)] for row in rows
  ]
  for row, accuracies in zip(rows, both, strict=True):
    assert float(row["accuracy"]) == pytest.approx(sum(accuracies) / 2)
  assert any(first != second for first, second in both)
