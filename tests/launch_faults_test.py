"""Sweeps whose processes are killed: nothing lost, nothing run twice."""

import json
import os
import signal
import time

import launch_runs
import pytest
from launch_runs import check_history, is_alive, owners, wait_for, witness

from launch.claims import Claims

MOMENTS = (
  "before the claim",
  "before the claim has its name",
  "after the claim",
  "before the run",
  "after the start of the run",
  "at a heartbeat",
  "after the run",
  "before the outcome",
)


@pytest.fixture(autouse=True)
def nothing_left_running():
  yield
  launch_runs.end_all()


def seeds(count, **settings):
  """A sweep of `count` points."""
  fixed = {name: [value] for name, value in settings.items()}
  return {"grid": {"seed": list(range(count)), **fixed}}


def test_workers_killed_at_8_moments_lose_nothing(tmp_path):
  """One worker for each moment, then a launch that ends all of it."""
  status, _ = launch_runs.run(
    tmp_path, seeds(8, step_s=0.2), "--executor=slurm", "--dry_run"
  )
  assert status == 0  # the manifest is there, nothing has run
  for line, moment in enumerate(MOMENTS):
    worker = launch_runs.start(
      [
        *(launch_runs.KILLED_WORKER, moment, f"--workdir={tmp_path}"),
        *(f"--line={line}", f"--program={launch_runs.PROGRAM}"),
        *("--heartbeat_s=0.2", "--stale_s=1"),
      ]
    )
    status, said = launch_runs.output(worker)
    assert status == -signal.SIGKILL, f"{moment}: {said}"
  assert len(owners(tmp_path)) == 6  # the claims of all but the first two
  status, said = launch_runs.run(tmp_path)
  assert status == 0 and "8/8 done" in said, said
  starts = check_history(tmp_path, 8)
  # Runs of the first four never began; those of the last two had ended.
  assert 8 <= starts <= 10


def test_workers_killed_6_times_under_a_controller_lose_nothing(tmp_path):
  process = launch_runs.launch(
    tmp_path, seeds(4, steps=8, step_s=0.2), "--slots=2", "--attempts=9"
  )
  killed = set()
  while len(killed) < 6:
    pid = wait_for(
      lambda: set(owners(tmp_path).values()) - killed, "a worker"
    ).pop()
    time.sleep(0.05 * (len(killed) % 4))  # at different places of a run
    killed.add(pid)
    try:
      os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
      killed.discard(pid)  # it had ended by itself
  status, said = launch_runs.output(process)
  assert status == 0 and "4/4 done" in said, said
  check_history(tmp_path, 4, steps=8)


def test_one_of_2_controllers_killed_the_other_ends_all_8_points(tmp_path):
  sweep = seeds(8, steps=6, step_s=0.1)
  one = launch_runs.launch(tmp_path, sweep, "--slots=2")
  wait_for(lambda: len(witness(tmp_path)) >= 2, "two runs")
  other = launch_runs.launch(tmp_path, sweep, "--slots=1")
  assert "8 points" in other.stdout.readline()
  one.kill()
  status, said = launch_runs.output(one)
  assert status == -signal.SIGKILL, said
  status, said = launch_runs.output(other)
  assert status == 0 and "8/8 done" in said, said
  assert check_history(tmp_path, 8, steps=6) > 8  # some were in the middle


def test_a_killed_controller_takes_2_workers_and_2_runs_along(tmp_path):
  process = launch_runs.launch(tmp_path, seeds(2, step_s=60), "--slots=2")
  seen = wait_for(lambda: len(witness(tmp_path)) == 2 and witness(tmp_path), "")
  pids = [*owners(tmp_path).values(), *(lines[0][1] for lines in seen.values())]
  assert len(set(pids)) == 4 and all(map(is_alive, pids))
  process.kill()
  process.communicate()
  wait_for(lambda: not any(map(is_alive, pids)), "the end of all", 20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_controller_gives_up_2_claims(tmp_path, number):
  process = launch_runs.launch(tmp_path, seeds(3, step_s=60), "--slots=2")
  seen = wait_for(lambda: len(witness(tmp_path)) == 2 and witness(tmp_path), "")
  pids = [*owners(tmp_path).values(), *(lines[0][1] for lines in seen.values())]
  process.send_signal(number)
  status, said = launch_runs.output(process)
  assert status == 128 + number and "the same command" in said
  assert not any(map(is_alive, pids))
  assert owners(tmp_path) == {}  # every claim has its outcome
  told = launch_runs.start(
    ["-m", "launch.sweep", "status", f"--workdir={tmp_path}"]
  )
  _, said = launch_runs.output(told)
  assert "3 points: 2 stopped, 1 missing" in said
  assert said.count("stopped: SIGTERM") == 2


def test_2_controllers_complete_each_of_40_points_once(tmp_path):
  sweep = seeds(40, steps=1, step_s=0)
  both = [launch_runs.launch(tmp_path, sweep, "--slots=2") for _ in range(2)]
  for process in both:
    status, said = launch_runs.output(process)
    assert status == 0 and "40/40 done" in said, said
  assert check_history(tmp_path, 40, steps=1) == 40
  # Finished points never run again.
  status, said = launch_runs.run(tmp_path, sweep)
  assert status == 0 and "40/40 done" in said
  assert check_history(tmp_path, 40, steps=1) == 40


def test_3_kinds_of_failure_are_told_and_run_again_only_on_request(tmp_path):
  sweep = {"list": [{"mood": m} for m in ("bad", "killed", "idle", "good")]}
  status, said = launch_runs.run(tmp_path, sweep, "--attempts=2")
  assert status == 1 and "1/4 done" in said and "3 failed" in said
  assert "error: the learning rate is too high" in said
  assert "killed 2 times, given up" in said
  assert "no result.json" in said

  def starts():
    lines = (lines for lines in witness(tmp_path).values())
    return sorted(sum(w == "start" for _, _, w in each) for each in lines)

  assert starts() == [1, 1, 1, 2]
  status, _ = launch_runs.run(tmp_path, sweep, "--attempts=1")
  assert status == 1 and starts() == [1, 1, 1, 3]  # the killed one may be tried
  status, _ = launch_runs.run(
    tmp_path, sweep, "--attempts=1", "--retry_failed", "--slots=1"
  )
  assert status == 1 and starts() == [1, 2, 2, 4]


def test_a_worker_that_slept_through_a_takeover_stops_its_run(tmp_path):
  """Suspended, taken over by another machine, continued: 0 more steps."""
  launch_runs.run(
    tmp_path, seeds(1, step_s=60), "--executor=slurm", "--dry_run"
  )
  worker = launch_runs.start(
    [
      *("-m", "launch.worker", f"--workdir={tmp_path}", "--line=0"),
      *(f"--program={launch_runs.PROGRAM}",),
      *("--heartbeat_s=0.1", "--stale_s=0.4"),
    ]
  )
  ((point_id, lines),) = wait_for(lambda: witness(tmp_path).items(), "a run")
  pids = [lines[0][1], worker.pid]
  for pid in pids:
    os.kill(pid, signal.SIGSTOP)
  here = Claims(tmp_path / "claims", 0.1, 0.4)
  time.sleep(1)
  assert not here.is_free(here.last(point_id))  # this machine knows better
  there = Claims(tmp_path / "claims", 0.1, 0.4, machine="another")
  taken = wait_for(lambda: there.acquire(point_id), "the takeover")
  before = witness(tmp_path)
  for pid in pids:
    os.kill(pid, signal.SIGCONT)
  status, said = launch_runs.output(worker)
  assert status == 14 and "lost" in said
  assert not is_alive(pids[0])
  assert witness(tmp_path) == before
  taken.beat()  # nobody touched the new claim
  taken.end("stopped")
  outcomes = [
    json.loads(line)["outcome"]
    for line in (tmp_path / f"claims/{point_id}.1").read_text().splitlines()[1:]
  ]
  assert outcomes == ["taken over", "lost"]


def test_a_full_disk_is_told_and_loses_none_of_4_points(small_disk):
  workdir = small_disk / "sweep"
  sweep = seeds(4, steps=1, step_s=0)
  status, _ = launch_runs.run(workdir, sweep, "--executor=slurm", "--dry_run")
  assert status == 0
  with (small_disk / "ballast").open("wb", buffering=0) as file:
    with pytest.raises(OSError, match="No space"):
      while True:
        file.write(bytes(4096))
  status, said = launch_runs.run(workdir)
  assert status == 1 and said.count("No space left on device") == 4, said
  (small_disk / "ballast").unlink()
  status, said = launch_runs.run(workdir)
  assert status == 0 and "4/4 done" in said, said
  assert check_history(workdir, 4, steps=1) == 4
