"""One point: who may run it, what its run leaves, when it is stopped."""

import os
import sys
import threading
import time

import launch_runs
import pytest

from launch import run, slots
from launch.run import Run, State, state

SLOT = slots.Slot((), {})


@pytest.fixture(autouse=True)
def nothing_left_running():
  yield
  launch_runs.end_all()


def ended(workdir, **settings):
  """How a run of fake_main ends."""
  (only,) = launch_runs.fake_runs(workdir, 1, **settings)
  return only(SLOT, threading.Event())


def test_of_8_launchers_one_runs_a_point_and_8_know_that_it_failed(tmp_path):
  (only,) = launch_runs.fake_runs(tmp_path, 1, mood="late", step_s=0.1)
  found = []

  def launcher():
    while (state := only(SLOT, threading.Event())).name == "running":
      time.sleep(0.001)
    found.append(state)

  threads = [threading.Thread(target=launcher) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == [State("failed", "error: diverged")] * 8
  (lines,) = launch_runs.witness(tmp_path).values()
  assert sum(what == "start" for _, _, what in lines) == 1


def test_a_point_is_run_once_and_its_log_kept(tmp_path):
  assert ended(tmp_path, steps=2) == State("done")
  log = (tmp_path / "points/p0.log").read_text()
  assert log.startswith("-- 2") and "--config.steps=2" in log
  assert ended(tmp_path) == State("done")
  assert launch_runs.check_history(tmp_path, 1, steps=2) == 1
  assert (tmp_path / "points/p0.log").read_text() == log


def test_a_run_killed_after_its_result_is_done(tmp_path):
  assert ended(tmp_path, mood="killed late") == State("done")
  assert launch_runs.check_history(tmp_path, 1) == 1


@pytest.mark.parametrize(
  "mood, starts, message",
  [
    ("bad", 1, "error: the learning rate is too high"),
    ("idle", 1, "no result.json; it said: it printed nothing"),
    ("killed", 3, "3 times killed by signal 9, given up"),
  ],
)
def test_a_failure_is_kept_until_it_is_to_be_tried_again(
  tmp_path, mood, starts, message
):
  def count():
    (lines,) = launch_runs.witness(tmp_path).values()
    return sum(what == "start" for _, _, what in lines)

  expected = State("failed", message)
  assert ended(tmp_path, mood=mood) == expected and count() == starts
  assert ended(tmp_path, mood="good") == expected and count() == starts
  (again,) = launch_runs.fake_runs(tmp_path, 1, mood="good")
  again = again._replace(retry_failed=True)
  assert again(SLOT, threading.Event()) == State("done")
  assert count() == starts + 1 and state(again.workdir) == State("done")


def test_a_stopped_run_is_ended_at_once_and_goes_on_later(tmp_path):
  (first,) = launch_runs.fake_runs(tmp_path, 1, steps=3, step_s=0.2)
  stop = threading.Event()
  found = []
  thread = threading.Thread(target=lambda: found.append(first(SLOT, stop)))
  thread.start()
  launch_runs.wait_for(
    lambda: "step 1" in str(launch_runs.witness(tmp_path)), "a step"
  )
  assert state(first.workdir).name == "running"
  assert ended(tmp_path).name == "running"  # another launcher lets it be
  stop.set()
  thread.join()
  assert found == [State("stopped")]
  assert state(first.workdir) == State("stopped", "-- killed by signal 9")
  assert ended(tmp_path, steps=3) == State("done")
  assert launch_runs.check_history(tmp_path, 1) == 2


def test_a_run_gets_the_cores_and_the_environment_of_its_slot(tmp_path):
  place, core = tmp_path / "points/p", max(os.sched_getaffinity(0))
  code = (
    "import os, pathlib, sys; path = pathlib.Path(sys.argv[1]);"
    "path.parent.mkdir(); path.write_text(str([os.sched_getaffinity(0),"
    "os.environ['OMP_NUM_THREADS'], sys.stdin.read()]))"
  )
  command = [sys.executable, "-c", code, str(place / "result.json")]
  slot = slots.Slot((core,), {"OMP_NUM_THREADS": "7"})
  assert Run(place, command)(slot, threading.Event()) == State("done")
  assert (place / "result.json").read_text() == str([{core}, "7", ""])


def test_the_error_of_a_log_is_found_behind_later_lines(tmp_path):
  log = tmp_path / "log.txt"
  log.write_text("error: an old run\nstep 1\nerror: rate\nbye\n\n")
  assert run._last_line(log) == "error: rate"
  begin = len("error: an old run\nstep 1\nerror: rate\n")
  assert run._last_line(log, begin) == "bye"
  log.write_text("Traceback\n  File\nZeroDivisionError: division\n")
  assert run._last_line(log) == "ZeroDivisionError: division"
  log.write_text("")
  assert "nothing" in run._last_line(log)


def test_the_real_main_fills_its_workdir(tmp_path):
  main = [sys.executable, str(launch_runs.ROOT / "main.py")]
  main.append("--config=configs/profile_pulp.py:net=resnet8")
  given = ["width=0.25", "resolution=8"]
  main += [f"--config.net.arguments.{setting}" for setting in given]
  main += ["--config.l2_sweep_bytes=(0,)", "--config.draws=0"]
  main += [f"--workdir={tmp_path / 'w'}"]
  one = Run(tmp_path / "w", main)
  assert one(SLOT, threading.Event()) == State("done")
  assert len((tmp_path / "w/results.csv").read_text().splitlines()) > 100
