"""Slurm: what is submitted, tasks in submitit's local executor, a cluster.

A cluster of this machine, Debian or Ubuntu, as root; nothing is skipped then:

    apt-get install --no-install-recommends slurm-wlm munge
    cat > /etc/slurm/slurm.conf <<END
    ClusterName=one
    SlurmctldHost=$(hostname -s)
    SlurmUser=root
    StateSaveLocation=/var/lib/slurm/ctld
    SlurmdSpoolDir=/var/lib/slurm/d
    ProctrackType=proctrack/linuxproc
    TaskPlugin=task/none
    SelectType=select/cons_tres
    SelectTypeParameters=CR_Core
    ReturnToService=2
    NodeName=$(hostname -s) CPUs=$(nproc) State=UNKNOWN
    PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
    END
    mkdir -p /var/lib/slurm/ctld /var/lib/slurm/d /run/munge
    chown munge: /run/munge
    runuser -u munge -- munged; slurmctld; slurmd; sinfo
"""

import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import threading

import launch_runs
import pytest
import submitit
from launch_runs import check_history, fake_runs, pids, wait_for, witness

from launch import manifest, slots, slurm, sweep
from launch.manifest import SweepError
from launch.run import State, state

# ml_collections loads configurations the old way.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module")
SLOT = slots.Slot((), {})


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
  """A sbatch that keeps what it gets."""
  programs = tmp_path / "bin"
  programs.mkdir()
  for name in ("srun", "sbatch"):
    text = f'#!/bin/sh\ncat "$1" >> {tmp_path}/given; echo job 42\n'
    (programs / name).write_text(text)
    (programs / name).chmod(0o755)
  monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
  return tmp_path / "given"


def test_points_that_are_not_done_become_an_array(tmp_path, fake_slurm, capsys):
  given = launch_runs.arguments(
    tmp_path / "my", {"grid": {"seed": [0, 1, 2, 3]}}
  )
  assert sweep.main(["expand", *given]) == 0
  points, _ = manifest.read(tmp_path / "my")
  done = manifest.workdir(tmp_path / "my", points[1])
  done.mkdir(parents=True)
  (done / "result.json").touch()
  more = ["--minutes=90", "--cores=4", "--parallel=2"]
  options = ["--sbatch=--gpus=1", "--sbatch=--exclusive"]
  capsys.readouterr()
  assert sweep.main([*given, "--executor=slurm", *more, *options]) == 0
  assert "3 of 4 points submitted, as 42" in capsys.readouterr().out
  script = fake_slurm.read_text()
  for expected in (
    *("--array=0-2%2", "--time=90", "--cpus-per-task=4", "--job-name=my"),
    *("--gpus=1", "--exclusive", "--requeue", "--signal=USR2@60"),
  ):
    assert f"#SBATCH {expected}\n" in script
  assert "srun --unbuffered" in script and script.count("cpus-per-task=4") == 2
  left = sorted((tmp_path / "my/slurm").glob("42_*_submitted.pkl"))
  tasks = [submitit.core.utils.DelayedSubmission.load(path) for path in left]
  assert [task.function.run.workdir.name for task in tasks] == [
    points[i].id for i in (0, 2, 3)
  ]


def test_2500_points_become_3_arrays(tmp_path, fake_slurm, monkeypatch):
  arrays = []

  def submit_array(_, tasks):
    arrays.append(len(tasks))
    return tasks

  monkeypatch.setattr(submitit.SlurmExecutor, "submit_array", submit_array)
  runs = fake_runs(tmp_path, 2500)
  tasks = slurm.submit(runs, 2, tmp_path / "slurm", {})
  assert arrays == [1000, 1000, 500] and [task.run for task in tasks] == runs
  assert {task.slot.environment["OMP_NUM_THREADS"] for task in tasks} == {"2"}


def test_without_slurm_or_when_it_refuses_a_line_says_so(tmp_path, monkeypatch):
  path = tmp_path / "bin"
  path.mkdir()
  monkeypatch.setenv("PATH", str(path))
  with pytest.raises(SweepError, match="Slurm: Could not detect .*srun"):
    slurm.submit(fake_runs(tmp_path, 2), 1, tmp_path, {})
  for name in ("srun", "sbatch"):
    (path / name).write_text("#!/bin/sh\necho no such partition >&2; exit 1\n")
    (path / name).chmod(0o755)
  with pytest.raises(SweepError, match="Slurm: .*no such partition"):
    slurm.submit(fake_runs(tmp_path, 2), 1, tmp_path, {})


def test_a_task_out_of_time_is_requeued_and_resumes(tmp_path):
  """By submitit's local executor, which requeues as Slurm does."""
  runs = fake_runs(tmp_path, 1, steps=3, step_s=0.3)
  tasks = [slurm.Task(run, SLOT) for run in runs]
  (job,) = submitit.LocalExecutor(tmp_path / "jobs").submit_array(tasks)
  wait_for(lambda: "step 1" in str(witness(tmp_path)), "a step")
  (run,) = pids(tmp_path)
  stat = pathlib.Path(f"/proc/{run}/stat").read_text()
  parent = int(stat.rpartition(")")[2].split()[1])
  os.kill(parent, signal.SIGUSR2)  # as Slurm warns
  wait_for(lambda: state(runs[0].workdir) == State("done"), "the end")
  assert check_history(tmp_path, 1) == 2
  job._process.wait()


def test_a_task_waits_for_the_lock_of_a_node_that_died(tmp_path, monkeypatch):
  monkeypatch.setattr(slurm, "LOOK_S", 0.05)
  (only,) = fake_runs(tmp_path, 1)
  only.workdir.parent.mkdir()
  with only.workdir.with_suffix(".log").open("w") as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    timer = threading.Timer(0.2, lambda: fcntl.flock(log, fcntl.LOCK_UN))
    timer.start()
    assert slurm.Task(only, SLOT)() == State("done")
    timer.join()
    fcntl.flock(log, fcntl.LOCK_EX)
    monkeypatch.setattr(slurm, "WAIT_S", 0.1)
    assert slurm.Task(only, SLOT)() == State("running")


def has_cluster():
  if not shutil.which("sbatch"):
    return False
  try:
    done = subprocess.run(["sinfo", "-h"], capture_output=True, timeout=5)
  except subprocess.TimeoutExpired:
    return False
  return done.returncode == 0 and bool(done.stdout.strip())


@pytest.mark.skipif(not shutil.which("sbatch"), reason="no sbatch here")
def test_an_array_of_3_points_on_this_cluster(tmp_path_factory):
  if not has_cluster():
    pytest.skip(
      "sbatch is here, but no cluster answers: see the top of this file"
    )
  tmp_path = tmp_path_factory.mktemp("slurm")
  given = {"list": [{"seed": 0}, {"seed": 1}, {"mood": "bad"}]}
  process = launch_runs.launch(
    tmp_path, given, "--executor=slurm", "--minutes=10"
  )
  status, said = launch_runs.output(process)
  assert status == 0 and "3 of 3 points submitted" in said, said
  points, _ = manifest.read(tmp_path)

  def ended():
    found = [state(manifest.workdir(tmp_path, point)) for point in points]
    over = {"done", "failed"} >= {name for name, _ in found}
    return over and found

  assert wait_for(ended, "the end of the array") == [
    *(State("done"), State("done")),
    State("failed", "error: the learning rate is too high"),
  ]
