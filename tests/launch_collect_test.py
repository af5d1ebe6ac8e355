"""What is told of a sweep: slots, status, one table, one picture."""

import csv
import fcntl
import os
import subprocess
import sys

import numpy as np
import pytest

from fbq.report import picture
from launch import collect, local, manifest, slots, sweep
from launch.manifest import Point, SweepError


def finished(directory, point, results=None, result="{}"):
  """A workdir of main.py as a finished run leaves it."""
  run = manifest.workdir(directory, point)
  run.mkdir(parents=True)
  if results is not None:
    (run / "results.csv").write_text(results)
  (run / "result.json").write_text(result)


def points(count):
  return [
    Point(f"p{i}", "c.py", {"seed": i // 2, "target": "xy"[i % 2]})
    for i in range(count)
  ]


def test_every_state_is_told(tmp_path, capsys):
  given = points(5)
  manifest.write(tmp_path, given)
  finished(tmp_path, given[0])
  where = [manifest.workdir(tmp_path, point) for point in given]
  for i, log in {
    1: "step 3\n",
    2: "-- c\n",
    3: "-- killed by signal 9\n",
  }.items():
    where[i].with_suffix(".log").write_text(log)
  where[2].with_suffix(".error").write_text("error: rate\n")
  with where[1].with_suffix(".log").open() as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    assert sweep.main(["status", f"--workdir={tmp_path}"]) == 0
  head, *lines = capsys.readouterr().out.splitlines()
  assert head == (
    f"{tmp_path}: 5 points: 1 running, 1 failed, 1 stopped, 1 missing, 1 done"
  )
  assert lines == [
    "  running p1  seed=0 target=y: step 3",
    "  failed  p2  seed=1 target=x: error: rate",
    "  stopped p3  seed=1 target=y: -- killed by signal 9",
  ]
  assert sweep.main(["status", "--all", f"--workdir={tmp_path}"]) == 0
  assert len(capsys.readouterr().out.splitlines()) == 6


def test_one_table_of_all_rows(tmp_path):
  given = points(4)
  finished(
    tmp_path, given[0], "name,cycles,accuracy\n8/8,100,0.9\n4/4,70,0.8\n"
  )
  finished(tmp_path, given[1], 'name,accuracy,note\n8/8,0.7,"a, b"\n')
  finished(
    tmp_path, given[3], None, '{"best": {"cycles": 5, "all": [1]}, "n": "x"}'
  )
  told = collect.collect(tmp_path, given)
  with (tmp_path / "results.csv").open(newline="") as file:
    reader = csv.DictReader(file)
    found = [{k: v for k, v in row.items() if v} for row in reader]
  head = [
    {"point": p.id, "config.seed": str(s), "config.target": t}
    for p, s, t in zip(given, (0, 0, 1, 1), "xyxy", strict=True)
  ]
  assert found == [
    head[0] | {"name": "8/8", "cycles": "100", "accuracy": "0.9"},
    head[0] | {"name": "4/4", "cycles": "70", "accuracy": "0.8"},
    head[1] | {"name": "8/8", "accuracy": "0.7", "note": "a, b"},
    head[3] | {"best.cycles": "5", "n": "x"},
  ]
  assert reader.fieldnames[:3] == ["point", "config.seed", "config.target"]
  assert "results.csv and front.svg of 3 of 4 points, 4 rows" in told
  assert "<svg" in (tmp_path / "front.svg").read_text()


def test_the_front_of_a_sweep_is_that_of_its_rows(monkeypatch):
  """The line drawn, against brute force over all rows."""
  random = np.random.default_rng(0)
  rows = [
    {
      "config.target": "xy"[i % 2],
      "cycles": str(random.integers(1, 30) * 10**6),
      "accuracy": str(random.integers(0, 30) / 100),
    }
    for i in range(60)
  ]
  drawn = []
  svg = picture.svg
  keep = lambda figure, alt: drawn.append(figure) or svg(figure, alt)
  monkeypatch.setattr(picture, "svg", keep)
  told = collect.front([*rows, {"config.target": "x"}], "config.target")
  assert told.count("<title>config.target") == 60
  (axes,) = drawn[0].axes
  lines = {line.get_label(): line for line in axes.lines}
  assert sum(len(lines[target].get_xdata()) for target in "xy") == 60
  (front,) = [line for name, line in lines.items() if "front" in name]
  pairs = {(int(r["cycles"]) / 1e6, float(r["accuracy"]) * 100) for r in rows}
  best = {
    (c, a)
    for c, a in pairs
    if not any((d <= c and b >= a and (d, b) != (c, a)) for d, b in pairs)
  }
  ends = list(zip(front.get_xdata(), front.get_ydata(), strict=True))
  assert set(ends[:-1]) == best
  with pytest.raises(SweepError, match="--by=nonsense: no row"):
    collect.front(rows, by="nonsense")


def test_nothing_done_and_damaged_results_are_told(tmp_path):
  with pytest.raises(SweepError, match="no point is done"):
    collect.collect(tmp_path, points(2))
  finished(tmp_path, points(1)[0], None, "{")
  with pytest.raises(SweepError, match="p0 cannot be read"):
    collect.collect(tmp_path, points(2))


def test_status_and_collect_load_no_jax(tmp_path):
  manifest.write(tmp_path, points(1))
  finished(tmp_path, points(1)[0], "name,cycles,accuracy\n8/8,100,0.9\n")
  script = f"""
import sys
from launch import sweep
assert sweep.main(["status", "--workdir={tmp_path}"]) == 0
import launch.local, launch.slots
assert not {{"numpy", "absl", "rich", "pydantic"}} & set(sys.modules)
assert sweep.main(["collect", "--workdir={tmp_path}"]) == 0
assert "matplotlib" in sys.modules and "jax" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", script], check=True)


@pytest.fixture
def machine(monkeypatch):
  """Makes this machine one of 8 cores."""
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
  monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_slots_share_cores_out_and_never_share_one(machine):
  for count, each in ((1, 8), (2, 4), (3, 2), (8, 1), (0, 1)):
    made = slots.make(count, "none")
    used = [core for slot in made for core in slot.cores]
    assert len(made) == (count or 8) and len(set(used)) == len(used)
    for slot in made:
      assert len(slot.cores) == each
      assert slot.environment == {"OMP_NUM_THREADS": str(each)}


def test_slots_of_gpus_get_a_gpu_each_and_share_their_memory(
  machine, monkeypatch
):
  made = slots.make(4, "0,2")
  assert [s.environment["CUDA_VISIBLE_DEVICES"] for s in made] == [*"0202"]
  assert [s.cores for s in made] == [[0, 1], [2, 3], [4, 5], [6, 7]]
  assert made[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
  (alone,) = slots.make(0, None)
  assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in alone.environment
  assert alone.environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
  assert len(alone.cores) == 8
  assert len(slots.make(0, "")) == 8
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
  both = slots.make(0, "0,1")  # fewer cores than GPUs are shared
  assert [slot.cores for slot in both] == [[3], [3]]


@pytest.mark.parametrize("count, gpus", [(9, "none"), (-1, "none"), (9, "0")])
def test_more_slots_than_there_are_cores_are_refused(machine, count, gpus):
  with pytest.raises(SweepError, match=f"--slots={count}, expected 1 to 8"):
    slots.make(count, gpus)


def test_counts_take_a_line():
  counts = local.Counter(done=3, failed=1)
  assert local.told(counts, 10) == "3/10 done, 1 failed"
  assert local.told(local.Counter(stopped=2), 2) == "0/2 done, 2 stopped"
