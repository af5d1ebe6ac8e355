"""Sweeps of tests/sweeps/fake_main.py in processes of their own, for tests."""

import collections
import json
import os
import pathlib
import subprocess
import sys
import time

from launch.run import Run

ROOT = pathlib.Path(__file__).parents[1]
PROGRAM = ROOT / "tests/sweeps/fake_main.py"
CONFIG = "tests/sweeps/fake.py"
_started = []


def arguments(workdir, sweep=None, *more):
  """Of launch.sweep."""
  given = [f"--workdir={workdir}", f"--program={PROGRAM}", "--gpus=none"]
  if sweep is not None:
    given += [f"--config={CONFIG}", f"--sweep={CONFIG}:{json.dumps(sweep)}"]
  return [*given, *more]


def fake_runs(workdir, count, **settings):
  """Runs of fake_main without a manifest, as p0, p1, ..."""
  given = [f"--config.{name}={value}" for name, value in settings.items()]
  places = [workdir / f"points/p{i}" for i in range(count)]
  return [
    Run(place, [sys.executable, str(PROGRAM), *given, f"--workdir={place}"])
    for place in places
  ]


def start(command):
  """A process of a module or file of this project, with its output."""
  process = subprocess.Popen(
    [sys.executable, *map(str, command)],
    cwd=ROOT,
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  _started.append(process)
  return process


def end_all():
  """Ends what a failed test left running."""
  while _started:
    process = _started.pop()
    process.kill()
    process.wait()
    process.stdout.close()


def launch(workdir, sweep=None, *more):
  return start(["-m", "launch.sweep", *arguments(workdir, sweep, *more)])


def output(process, timeout=120):
  """(exit status, what was printed)."""
  said, _ = process.communicate(timeout=timeout)
  return process.returncode, said


def wait_for(condition, what, timeout_s=60):
  """The first true value of `condition()`."""
  deadline = time.monotonic() + timeout_s
  while time.monotonic() < deadline:
    if found := condition():
      return found
    time.sleep(0.01)
  raise AssertionError(f"waited in vain for {what}")


def witness(workdir):
  """{point id: [(ns, pid, what it did)]} by all runs of a sweep."""
  seen = {}
  for path in sorted((workdir / "witness").glob("*.txt")):
    lines = [line.split(maxsplit=2) for line in path.read_text().splitlines()]
    seen[path.stem] = [(int(ns), int(pid), what) for ns, pid, what in lines]
  return seen


def pids(workdir):
  """{pid of the last process of each run}."""
  return {lines[-1][1] for lines in witness(workdir).values() if lines}


def check_history(workdir, count, steps=3):
  """Each of `count` points was completed once and never run by two at once.

  Returns:
    The number of starts.
  """
  seen = witness(workdir)
  assert len(seen) == count
  starts = 0
  for point_id, lines in seen.items():
    did = collections.Counter(what for _, _, what in lines)
    assert did["end"] == 1, f"{point_id}: {lines}"
    assert lines[-1][2] == "end"
    pids = [pid for _, pid, _ in lines]
    turns = [p for i, p in enumerate(pids) if i == 0 or p != pids[i - 1]]
    assert len(turns) == len(set(turns)), f"two at once: {point_id}: {lines}"
    assert [ns for ns, _, _ in lines] == sorted(ns for ns, _, _ in lines)
    made = [int(what.split()[1]) for _, _, what in lines if "step" in what]
    assert sorted(set(made)) == list(range(1, steps + 1))
    assert made == sorted(made), f"did not resume: {point_id}: {lines}"
    state = (workdir / "points" / point_id / "state.txt").read_text()
    assert state == "." * steps
    starts += did["start"]
  return starts


def is_alive(pid):
  """Whether a process runs; one that waits for its parent's look does not."""
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except (FileNotFoundError, ProcessLookupError):
    return False
  return stat.rpartition(")")[2].split()[0] not in "ZX"
