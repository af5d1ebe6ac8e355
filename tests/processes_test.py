"""Two processes train as one, over loopback; one is killed, then the other."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import experiment_runs
import pytest
from launch_slurm_test import has_cluster

from fbq.train import processes

ADDRESS = "127.0.0.1:1"


def free_port():
  with socket.create_server(("127.0.0.1", 0)) as server:
    return server.getsockname()[1]


def run_two(cache, workdir, moments=(None, None)):
  """[(exit status, what was printed)] of both, dying at moments if any."""
  address = f"127.0.0.1:{free_port()}"
  both = [
    experiment_runs.start(
      cache,
      workdir,
      f"--distributed={address},{index},2",
      program="tests/killed.py" if moment else "main.py",
      moment=moment,
    )
    for index, moment in enumerate(moments)
  ]
  try:
    said = [process.communicate(timeout=300)[0] for process in both]
  finally:
    for process in both:
      process.kill()
  return [(p.returncode, text) for p, text in zip(both, said, strict=True)]


def float_lines(workdir):
  return [
    [line["step"], line["loss"], line["accuracy"]]
    for line in experiment_runs.metrics(workdir)
    if line["stage"] == "float"
  ]


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory):
  """What two processes said that were killed in turn, and their workdir; and
  the workdir of one process."""
  path = tmp_path_factory.mktemp("processes")
  workdir, alone = path / "two", path / "one"
  second_dies = run_two(cache, workdir, (None, "logged:float:6"))
  first_dies = run_two(cache, workdir, ("saved:float:12", None))
  experiment_runs.run(
    cache, alone, program="tests/killed.py", moment="saved:float:12"
  )
  (workdir / "result.json").write_text("{}\n")
  finished = run_two(cache, workdir)
  return second_dies, first_dies, finished, workdir, alone


def test_process_1_of_2_killed_ends_process_0(runs):
  (status, said), (killed, _) = runs[0]
  assert killed == -signal.SIGKILL and status == processes.LOST
  assert said.count("error: process 1 of 2 is gone") == 1
  assert "Start all processes again by the same command" in said
  assert "Traceback" not in said


def test_process_0_of_2_killed_ends_process_1(runs):
  (killed, said), (status, other) = runs[1]
  assert killed == -signal.SIGKILL and status == processes.LOST
  assert "float: resumes after step 4" in said
  assert "error: process 0 of 2 is gone" in other
  assert "resumes" not in other and "Traceback" not in other


def test_2_processes_killed_in_turn_give_the_numbers_of_1(runs):
  two, one = map(float_lines, runs[3:])
  assert len(two) == len(one) == 6
  for a, b in zip(two, one, strict=True):
    # By another order of sums; 1e-7 is measured.
    assert a == pytest.approx(b, rel=1e-5)
  notes = [
    json.loads((path / "checkpoints/float/12/notes/metadata").read_text())
    for path in runs[3:]
  ]
  assert notes[0]["results"] == notes[1]["results"] != {}
  assert notes[0]["fingerprint"] == notes[1]["fingerprint"]


def test_2_processes_end_together_and_one_of_them_speaks(runs):
  (status, said), (other_status, other) = runs[2]
  assert status == other_status == 0, said + other
  assert "is finished" in said and "is finished" not in other


@pytest.mark.parametrize(
  "given, environment, expected",
  [
    ("", {}, None),
    ("", {"SLURM_STEP_NUM_TASKS": "1"}, None),
    ("", {"SLURM_STEP_NUM_TASKS": "2"}, processes.Job()),
    ("auto", {}, processes.Job()),
    (f"{ADDRESS},0,2", {}, processes.Job(ADDRESS, 0, 2)),
    ("[::1]:80,1,2", {}, processes.Job("[::1]:80", 1, 2)),
    (
      "",
      {
        "JAX_COORDINATOR_ADDRESS": ADDRESS,
        "JAX_PROCESS_ID": "3",
        "JAX_NUM_PROCESSES": "4",
        "SLURM_STEP_NUM_TASKS": "2",
      },
      processes.Job(ADDRESS, 3, 4),
    ),
  ],
)
def test_a_job_is_what_the_flag_or_the_environment_says(
  given, environment, expected
):
  assert processes.job(given, environment) == expected


@pytest.mark.parametrize(
  "given", ["1", ADDRESS, f"{ADDRESS},2,2", "host,0,2", f"{ADDRESS},-1,2"]
)
def test_a_wrong_job_is_refused(given):
  with pytest.raises(ValueError, match="expected 'auto' or HOST:PORT,INDEX"):
    processes.job(given, {})
  with pytest.raises(ValueError, match="--distributed is 'x:1,,'"):
    processes.job("", {"JAX_COORDINATOR_ADDRESS": "x:1"})


def test_of_one_process_nothing_is_copied_and_errors_stay(tmp_path):
  with processes.joined(None), processes.own_workdir(tmp_path) as own:
    assert own is tmp_path and processes.is_first()
  with pytest.raises(ZeroDivisionError):
    processes.from_first(lambda: 1 / 0)


@pytest.mark.skipif(not shutil.which("srun"), reason="no srun here")
def test_a_slurm_step_of_2_tasks_is_one_run(tmp_path):
  if not has_cluster():
    pytest.skip("srun is here, but no cluster answers it")
  done = subprocess.run(
    [
      *("srun", "--ntasks=2", "--overcommit", "--time=20", sys.executable),
      *("main.py", f"--config={experiment_runs.CONFIG}"),
      *(f"--workdir={tmp_path / 'run'}", "--compilation_cache="),
    ],
    cwd=experiment_runs.ROOT,
    env={**os.environ, "XLA_FLAGS": experiment_runs.XLA_FLAGS},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert len(re.findall("^(Give|Keep) ", done.stdout, re.MULTILINE)) == 1
  assert (tmp_path / "run/result.json").exists()
