"""The Slurm array: its text, its script without Slurm, and a cluster if any."""

import os
import shutil
import signal
import subprocess
import time

import launch_runs
import pytest
from launch_runs import check_history, wait_for, witness

from launch import manifest, slurm
from launch.claims import Claims
from launch.manifest import SweepError
from launch.workdir import Sweep

SWEEP = Sweep(launch_runs.ROOT / "runs/my sweep", launch_runs.PROGRAM)


def script(lines, **options):
  return slurm.script(SWEEP, lines, Claims(SWEEP.claims), **options)


def test_ranges_name_every_number_once():
  for numbers in ([0], [0, 1, 2], [0, 2, 3, 4, 9], list(range(0, 40, 2))):
    found = []
    for part in slurm.ranges(numbers).split(","):
      first, _, last = part.partition("-")
      found += range(int(first), int(last or first) + 1)
    assert found == numbers
  assert slurm.ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"


def test_a_person_can_read_the_script():
  text = script([0, 1, 2, 7], options=["--time=02:00:00"], parallel=3)
  lines = text.splitlines()
  assert lines[0] == "#!/bin/bash" and max(map(len, lines)) < 100
  assert "# 4 points that are not done, 4 tasks of one point." in lines
  directives = [line for line in lines if line.startswith("#SBATCH")]
  assert directives == [
    "#SBATCH --job-name=my_sweep",
    "#SBATCH --array=0-2,7%3",
    f'#SBATCH --output="{SWEEP.workdir}/slurm/%A_%a.txt"',
    "#SBATCH --open-mode=append",
    "#SBATCH --requeue",
    "#SBATCH --signal=B:USR1@60",
    "#SBATCH --time=02:00:00",
  ]
  done = subprocess.run(["bash", "-n"], input=text, text=True)
  assert done.returncode == 0


def test_1200_points_fit_into_1001_array_ids():
  points = [*range(0, 1200, 3), 1199]
  text = script(points)
  array = text.split("--array=")[1].split()[0]
  tasks = []
  for part in array.split(","):
    first, _, last = part.partition("-")
    tasks += range(int(first), int(last or first) + 1)
  assert max(tasks) < 1001
  assert "--line=$(($SLURM_ARRAY_TASK_ID * 2)) --lines=2" in text
  assert set(points) <= {line for t in tasks for line in (2 * t, 2 * t + 1)}
  assert "up to 2 points in turn" in text
  with pytest.raises(SweepError, match="no points"):
    script([])


def prepare(tmp_path, sweep, *more):
  """The script of a sweep, not submitted."""
  status, said = launch_runs.run(
    tmp_path, sweep, "--executor=slurm", "--dry_run", *more
  )
  assert status == 0 and "not submitted" in said, said
  return tmp_path / "slurm/array.sh"


def task(path, number, **environment):
  """A task as Slurm starts it."""
  return subprocess.Popen(
    ["bash", str(path)],
    env=os.environ
    | {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": "42"}
    | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    cwd="/",
  )


def test_a_task_runs_its_line_and_a_second_time_nothing(tmp_path):
  path = prepare(tmp_path, {"grid": {"seed": [0, 1, 2]}})
  ids = [point.id for point in manifest.load(tmp_path / "points.jsonl")]
  for _ in range(2):
    status, said = launch_runs.output(task(path, 1))
    assert status == 0 and said == f"{ids[1]}: done\n"
  assert list(witness(tmp_path)) == [ids[1]]
  assert check_history(tmp_path, 1) == 1
  # Now two points are left for the next array.
  path = prepare(tmp_path, None)
  assert "--array=0,2\n" in path.read_text()


def test_a_task_out_of_time_stops_requeues_itself_and_resumes(tmp_path):
  """With a scontrol that writes down what it was told."""
  path = prepare(tmp_path, {"grid": {"steps": [3], "step_s": [0.7]}})
  scontrol = tmp_path / "bin/scontrol"
  scontrol.parent.mkdir()
  scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n')
  scontrol.chmod(0o755)
  found = f"{scontrol.parent}:{os.environ['PATH']}"
  process = task(path, 0, PATH=found)
  wait_for(
    lambda: (
      any("step 1" in w for _, _, w in [*witness(tmp_path).values()][0])
      if witness(tmp_path)
      else False
    ),
    "the first step",
  )
  time.sleep(0.1)
  process.send_signal(signal.SIGUSR1)
  status, said = launch_runs.output(process)
  assert status == 0 and "stopped" in said, said
  assert (tmp_path / "told").read_text() == "requeue 42\n"
  ((point_id, _),) = witness(tmp_path).items()
  claim = Claims(tmp_path / "claims").last(point_id)
  assert claim.outcome["error"] == "stopped: SIGUSR1"
  status, said = launch_runs.output(task(path, 0, PATH=found))
  assert status == 0 and "done" in said
  assert check_history(tmp_path, 1) == 2
  assert (tmp_path / "told").read_text() == "requeue 42\n"


def test_without_slurm_the_message_names_the_script(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  with pytest.raises(SweepError, match="no sbatch here.*array.sh"):
    slurm.submit(tmp_path / "array.sh")
  assert slurm.max_array_here() == 1001


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
    pytest.skip("sbatch is here, but no cluster answers: see launch/README.md")
  tmp_path = tmp_path_factory.mktemp("slurm")
  sweep = {"list": [{"seed": 0}, {"seed": 1}, {"mood": "bad"}]}
  status, said = launch_runs.run(
    tmp_path, sweep, "--executor=slurm", "--sbatch=--time=00:10:00"
  )
  assert status == 0 and "Submitted batch job" in said, said
  claims = Claims(tmp_path / "claims")
  ids = [point.id for point in manifest.load(tmp_path / "points.jsonl")]

  def ended():
    last = [claims.last(point_id) for point_id in ids]
    return all(a and a.outcome for a in last) and last

  found = wait_for(ended, "the end of the array")
  assert [a.outcome["outcome"] for a in found] == ["done", "done", "failed"]
  assert "learning rate" in found[2].outcome["error"]

  def said_so():
    logs = [path.read_text() for path in (tmp_path / "slurm").glob("*.txt")]
    return sorted(logs) == sorted(
      [f"{ids[0]}: done\n", f"{ids[1]}: done\n", f"{ids[2]}: failed\n"]
    )

  wait_for(said_so, "what the tasks print")
