"""What is told of a sweep: slots, progress, status, one table, one picture."""

import csv
import json
import subprocess
import sys

import launch_runs
import numpy as np
import pytest

from launch import collect, manifest, progress, slots, status
from launch.claims import Claims
from launch.local import Tally
from launch.manifest import Point, SweepError
from launch.slots import make
from launch.workdir import Sweep, last_error


def finished(sweep, point, results=None, result="{}"):
  """A workdir of main.py as a finished run leaves it."""
  run = sweep.run_of(point)
  run.mkdir(parents=True)
  if results is not None:
    (run / "results.csv").write_text(results)
  (run / "result.json").write_text(result)


@pytest.fixture
def sweep(tmp_path):
  return Sweep(tmp_path)


def points(count):
  return [
    Point(f"p{i}", "c.py", {"seed": i // 2, "target": "xy"[i % 2]})
    for i in range(count)
  ]


def test_every_state_is_told(sweep):
  given = [
    *points(6),
    Point("old", "c.py", {"seed": 9}, in_sweep=False),
    Point("gone", "c.py", {"seed": 10}, in_sweep=False),
  ]
  manifest.write(sweep.manifest, given)
  claims = Claims(sweep.claims)
  finished(sweep, given[0])
  running = claims.acquire("p1")
  claims.acquire("p2").end("failed", error="error: rate\tof 3")
  claims.acquire("p3").end("stopped", error="stopped: SIGINT")
  claims.acquire("p3").end("killed", error="killed: SIGKILL")
  foreign = Claims(sweep.claims, machine="far away")
  held = foreign.acquire("p4")
  finished(sweep, given[6])
  states = status.states(sweep, given, claims)
  assert [s.state for s in states] == [
    *("done", "running", "failed", "stopped", "running", "missing"),
    *("removed", "removed"),
  ]
  assert states[3].attempts == 2 and states[3].detail == "killed: SIGKILL"
  text = status.table(sweep, claims)
  head, *lines = text.splitlines()
  assert "8 points: 1 done, 2 running, 1 failed, 1 stopped, 1 missing" in head
  assert "2 removed" in head and len(lines) == 4
  assert "p2  seed=1 target=x: error: rate" in text
  assert "heard 0 s ago" in text and "(begun 2 times)" in text
  assert len(status.table(sweep, claims, every=True).splitlines()) == 9
  running.end("done")
  held.end("done")


def test_one_table_of_all_rows(sweep):
  given = points(4)
  finished(sweep, given[0], "name,cycles,accuracy\n8/8,100,0.9\n4/4,70,0.8\n")
  finished(sweep, given[1], 'name,accuracy,note\n8/8,0.7,"a, b"\n')
  finished(
    sweep, given[3], None, '{"best": {"cycles": 5, "all": [1]}, "n": "x"}'
  )
  rows = collect.rows(sweep, given)
  collect.write_csv(sweep.workdir / "out.csv", rows)
  with (sweep.workdir / "out.csv").open(newline="") as file:
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
  told = collect.collect(sweep, [*given, Point("r", "c.py", {}, False)])
  assert "3 of 4 points, 4 rows" in told and "left out: 1" in told


def test_the_front_of_a_sweep_is_that_of_its_rows(sweep, monkeypatch):
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
  from fbq.report import figures

  drawn = []
  png = figures.png
  monkeypatch.setattr(figures, "png", lambda f: drawn.append(f) or png(f))
  picture = collect.front_png([*rows, {"config.target": "x"}])
  assert picture.startswith(b"\x89PNG")
  (axes,) = drawn[0].axes
  lines = {line.get_label(): line for line in axes.lines}
  assert {"target x", "target y"} < lines.keys()
  assert sum(len(lines[f"target {t}"].get_xdata()) for t in "xy") == 60
  (front,) = [line for name, line in lines.items() if "front" in name]
  pairs = {(int(r["cycles"]) / 1e6, float(r["accuracy"]) * 100) for r in rows}
  best = {
    (c, a)
    for c, a in pairs
    if not any((d <= c and b >= a and (d, b) != (c, a)) for d, b in pairs)
  }
  ends = list(zip(front.get_xdata(), front.get_ydata(), strict=True))
  assert set(ends[:-1]) == best
  with pytest.raises(SweepError, match="nonsense"):
    collect.front_png(rows, by="nonsense")
  with pytest.raises(SweepError, match="cycles and accuracy"):
    collect.front_png([{"name": "8/8"}])


def test_nothing_done_and_damaged_results_are_told(sweep):
  with pytest.raises(SweepError, match="no point is done"):
    collect.collect(sweep, points(2))
  finished(sweep, points(1)[0], None, "{")
  with pytest.raises(SweepError, match="p0 cannot be read"):
    collect.collect(sweep, points(2))


def test_collecting_loads_no_jax(sweep):
  manifest.write(sweep.manifest, points(1))
  finished(sweep, points(1)[0], "name,cycles,accuracy\n8/8,100,0.9\n")
  script = f"""
import sys
from launch import sweep
assert sweep.main(["collect", "--workdir={sweep.workdir}"]) == 0
assert "matplotlib" in sys.modules and "jax" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", script], check=True)
  assert (sweep.workdir / "front.png").read_bytes().startswith(b"\x89PNG")


def test_slots_share_cores_out_and_never_share_one():
  for count, each in ((1, 0), (2, 0), (3, 0), (4, 2), (2, 4), (8, 1)):
    made = make(range(8), slots=count, cores_per_point=each)
    used = [core for slot in made for core in slot.cores]
    assert len(made) == count and len(set(used)) == len(used)
    assert all(len(slot.cores) == (each or 8 // count) for slot in made)
    for slot in made:
      assert slot.environment["OMP_NUM_THREADS"] == str(len(slot.cores))
      assert "CUDA_VISIBLE_DEVICES" not in slot.environment
  assert [slot.cores for slot in make([3, 5])] == [(3,), (5,)]


def test_slots_of_gpus_get_a_gpu_each_and_share_their_memory():
  made = make(range(8), ["0", "2"], points_per_gpu=2)
  assert [s.environment["CUDA_VISIBLE_DEVICES"] for s in made] == [*"0022"]
  assert [s.cores for s in made] == [(0, 1), (2, 3), (4, 5), (6, 7)]
  assert made[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
  (alone,) = make(range(8), ["GPU-1"])
  assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in alone.environment
  assert len(alone.cores) == 8
  assert len(make([0], ["0", "1"])) == 2  # fewer cores than GPUs are shared


@pytest.mark.parametrize(
  "wrong",
  [
    dict(slots=9),
    dict(cores_per_point=9),
    dict(slots=3, cores_per_point=4),
    dict(gpus=["0"], slots=2),
    dict(gpus=["0"], points_per_gpu=0),
    dict(slots=-1),
  ],
)
def test_more_than_there_is_is_refused(wrong):
  with pytest.raises(SweepError):
    make(range(8), **wrong)


def test_gpus_come_from_the_flag_then_the_environment(monkeypatch):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
  assert slots.gpus_here() == ["1", "3"]
  assert slots.gpus_here("0") == ["0"]
  assert slots.gpus_here("none") == slots.gpus_here("") == []


def test_points_run_on_the_cores_of_their_slots(tmp_path):
  """What main.py sees: its cores, its threads, and nothing on its stdin."""
  main = tmp_path / "main.py"
  main.write_text(
    "import json, os, pathlib, sys\n"
    "out = pathlib.Path(sys.argv[-1].split('=')[1])\n"
    "out.mkdir(parents=True)\n"
    "(out / 'result.json').write_text(json.dumps({\n"
    "  'cores': sorted(os.sched_getaffinity(0)), 'in': sys.stdin.read(),\n"
    "  'threads': os.environ['OMP_NUM_THREADS']}))\n"
  )
  count = min(2, len(slots.cores_here()))
  sweep = Sweep(tmp_path / "sweep")
  sweep.workdir.mkdir()
  manifest.write(sweep.manifest, points(count))
  status, said = launch_runs.run(
    sweep.workdir, None, f"--program={main}", f"--slots={count}"
  )
  assert status == 0, said
  used = []
  for point in points(count):
    found = json.loads((sweep.run_of(point) / "result.json").read_text())
    assert found["in"] == "" and found["threads"] == str(len(found["cores"]))
    used += found["cores"]
  assert used and len(set(used)) == len(used)


def test_the_last_error_is_found_behind_later_lines(tmp_path):
  log = tmp_path / "log.txt"
  log.write_text("error: an old run\nstep 1\nerror: rate\nbye\n\n")
  assert last_error(log) == "error: rate"
  assert (
    last_error(log, start=len("error: an old run\nstep 1\n")) == "error: rate"
  )
  log.write_text("Traceback\n  File\nZeroDivisionError: division\n")
  assert last_error(log) == "ZeroDivisionError: division"
  log.write_text("")
  assert "nothing" in last_error(log)


def test_the_time_left_is_what_is_left_over_the_slots(monkeypatch):
  monkeypatch.setattr("time.monotonic", lambda: 100.0)
  tally = Tally(total=10, slots=2)
  assert tally.left_s is None and "left" not in progress.line(tally)
  tally.done |= {"a", "b", "c"}
  tally.seconds += [10.0, 20.0, 30.0]
  tally.running.update(d=95.0, e=0.0)  # 5 s of 20 s; longer than the mean
  tally.failed["f"] = "error"
  # 10 - 3 - 1 = 6 points of 20 s, 5 + 20 s of them done, on two slots.
  assert tally.left_s == (6 * 20 - 25) / 2
  said = progress.line(tally)
  assert said == "3/10 done, 2 running, 1 failed, 48 s left"
  told = [progress.duration(s) for s in (3, 89, 600, 7500)]
  assert told == ["3 s", "89 s", "10 min", "2 h 05 min"]


def test_the_real_main_runs_in_a_sweep(tmp_path):
  """One point that ends well, one that main.py refuses in its own words."""
  file = tmp_path / "sweep.py"
  file.write_text(
    "def get_sweep():\n"
    "  return dict(list=[dict(), {'target': 'nonsense'}], grid={\n"
    "    'l2_sweep_bytes': [(0,)], 'net.arguments.width': [0.25],\n"
    "    'net.arguments.resolution': [8]})\n"
  )
  process = launch_runs.start(
    [
      *("-m", "launch.sweep", f"--workdir={tmp_path / 'w'}", "--gpus=none"),
      *("--config=configs/profile_pulp.py:net=resnet8", f"--sweep={file}"),
    ]
  )
  code, said = launch_runs.output(process, 300)
  assert code == 1 and "1/2 done" in said, said
  assert "error: " in said and "nonsense" in said
  collected = launch_runs.start(
    ["-m", "launch.sweep", "collect", f"--workdir={tmp_path / 'w'}"]
  )
  code, said = launch_runs.output(collected)
  assert code == 0 and "1 of 2 points" in said, said
  with (tmp_path / "w/results.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert len(rows) > 100
  assert {row["config.net.arguments.width"] for row in rows} == {"0.25"}
