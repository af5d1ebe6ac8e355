"""One worker, one point: what it runs, what it leaves, when it stops."""

import os
import time

import launch_runs
import pytest

from launch import manifest, process, worker
from launch.claims import Claim, ClaimLost, Claims
from launch.manifest import Point
from launch.workdir import Sweep
from launch.worker import Exit

# Tests of jax may have run in this process; a worker never loads it.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork")


class NoSignals:
  number = 0


@pytest.fixture
def sweep(tmp_path):
  return Sweep(tmp_path, launch_runs.PROGRAM)


def run(sweep, **overrides):
  claims = Claims(sweep.claims, 0.1, 0.4)
  point = Point("p", launch_runs.CONFIG, overrides)
  status = worker.run(sweep, point, claims, NoSignals())
  return status, claims.last("p")


def test_a_point_finished_during_the_claim_is_run_0_times(
  tmp_path, monkeypatch
):
  """Another ended it after this worker had looked, before it had the claim."""
  point = Point("p", launch_runs.CONFIG, {})
  sweep = Sweep(tmp_path, launch_runs.PROGRAM)
  claims = Claims(sweep.claims)
  acquire = Claims.acquire

  def late(*args):
    sweep.run_of(point).mkdir(parents=True)
    (sweep.run_of(point) / "result.json").touch()
    return acquire(*args)

  monkeypatch.setattr(Claims, "acquire", late)
  monkeypatch.setattr(process, "start", lambda *_: pytest.fail("it was run"))
  assert worker.run(sweep, point, claims, NoSignals()) is Exit.DONE
  assert claims.last("p").outcome == {"outcome": "done"}


def test_a_point_is_run_and_its_outcome_kept(sweep):
  status, last = run(sweep, steps=2)
  assert status is Exit.DONE and last.outcome["outcome"] == "done"
  assert last.outcome["seconds"] > 0
  log = (sweep.workdir / "logs/p.txt").read_text()
  assert log.startswith("-- p.1 on ") and "--config.steps=2" in log
  assert run(sweep)[1] == last  # not even claimed again


def test_a_failure_is_kept_with_its_last_line(sweep):
  status, last = run(sweep, mood="bad")
  assert status is Exit.FAILED
  assert last.outcome["exit"] == 1
  assert last.outcome["error"] == "error: the learning rate is too high"
  assert run(sweep, mood="good")[1] == last  # not without --retry_failed


def test_an_end_without_result_is_a_failure_and_a_signal_is_not(sweep):
  status, last = run(sweep, mood="killed")
  assert status is Exit.KILLED and last.outcome["error"] == "killed: SIGKILL"
  status, last = run(sweep, mood="idle")
  assert status is Exit.FAILED and "no result.json" in last.outcome["error"]


def test_a_held_point_is_left_alone(sweep):
  claim = Claims(sweep.claims).acquire("p")
  assert run(sweep) == (Exit.BUSY, Claims(sweep.claims).last("p"))
  assert not sweep.log_of(Point("p", "", {})).exists()
  claim.end("stopped")


@pytest.fixture
def children(monkeypatch):
  """The processes of runs, for a look at their ends."""
  started = []
  start = process.start

  def noted(*args):
    started.append(start(*args))
    return started[-1]

  monkeypatch.setattr(process, "start", noted)
  return started


def test_a_run_whose_claim_is_lost_is_killed(sweep, children, monkeypatch):
  def lost(_):
    raise ClaimLost

  monkeypatch.setattr(Claim, "beat", lost)
  status, last = run(sweep, step_s=60)
  assert status is Exit.LOST and last.outcome["outcome"] == "lost"
  assert children[0].returncode == -9


def test_a_run_that_outlives_its_worker_keeps_the_claim(
  sweep, children, monkeypatch
):
  """The kernel kills the run with the worker, but maybe a moment later."""

  def worker_is_gone(claim):
    os.close(claim.descriptor)
    claims = Claims(sweep.claims)
    seen.append(claims.is_free(claims.last("p")))
    claim.descriptor = os.open(claim.path, os.O_RDONLY)
    raise ClaimLost

  seen = []
  monkeypatch.setattr(Claim, "beat", worker_is_gone)
  run(sweep, step_s=60)
  assert seen == [False]


def test_a_file_server_that_stays_away_ends_the_run(
  sweep, children, monkeypatch
):
  """A short absence is borne; before others may take over the run is ended."""

  def away(_):
    beats.append(time.monotonic())
    raise OSError(5, "Input/output error")

  beats = []
  monkeypatch.setattr(Claim, "beat", away)
  with pytest.raises(OSError, match="Input/output"):
    run(sweep, step_s=60)
  assert len(beats) >= 2  # stale after 0.4 s, given up after 0.2 s
  assert children[0].returncode == -9


def test_a_run_that_does_not_heed_sigterm_is_killed(tmp_path):
  with (tmp_path / "log").open("w") as log:
    child = process.start(
      ["bash", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], log
    )
    launch_runs.wait_for((tmp_path / "log").read_text, "the trap")
    process.stop(child, 0.2)
    assert child.returncode == -9
    child = process.start(["sleep", "60"], log)
    process.stop(child, 60)
    assert child.returncode == -15


def test_a_task_waits_for_a_claim_that_may_be_stale(sweep):
  """As one that Slurm requeued after its node had died."""
  launch_runs.run(
    sweep.workdir, {"grid": {"seed": [0]}}, "--executor=slurm", "--dry_run"
  )
  (point_id,) = [point.id for point in manifest.load(sweep.manifest)]
  dead = Claims(sweep.claims, 0.1, 0.5, machine="dead")
  assert dead.acquire(point_id)
  task = launch_runs.start(
    [
      *("-m", "launch.worker", f"--workdir={sweep.workdir}", "--line=0"),
      *(f"--program={launch_runs.PROGRAM}", "--wait_s=60"),
    ]
  )
  assert launch_runs.output(task) == (0, f"{point_id}: done\n")
  assert launch_runs.check_history(sweep.workdir, 1) == 1
  assert dead.last(point_id).number == 2
