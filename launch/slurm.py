"""Runs the points of a sweep as one Slurm array.

The script says all there is to know: an array task is a line of points.jsonl,
or several where the cluster allows fewer tasks than there are points. A task
may be requeued at any time, by Slurm or by itself shortly before its time runs
out: the claim of its point is given up or goes stale, and the run resumes from
its last checkpoint. Submitting twice does no harm, for claims hold here too.
"""

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.claims import Claims
from launch.manifest import SweepError
from launch.workdir import MAIN, Sweep

DEFAULT_MAX_ARRAY = 1001  # Slurm's own default: task ids below it


def script(
  sweep: Sweep,
  lines: Sequence[int],
  claims: Claims,
  options: Sequence[str] = (),
  parallel: int = 0,
  max_array: int = DEFAULT_MAX_ARRAY,
  retry_failed: bool = False,
  warn_s: int = 60,
) -> str:
  """The text of the sbatch script.

  Args:
    lines: of the points to run, counted from 0.
    options: of sbatch, one per line, e.g. "--time=02:00:00".
    parallel: most tasks at the same time; 0 for no limit.
    max_array: task ids have to be smaller.
    warn_s: a task is warned this long before its time is up.

  Raises:
    SweepError: there is nothing to run.
  """
  if not lines:
    raise SweepError("no points to run")
  each = max(lines) // max_array + 1
  tasks = sorted({line // each for line in lines})
  array = ranges(tasks) + (f"%{parallel}" if parallel else "")
  workdir = sweep.workdir.resolve()
  told = "one point" if each == 1 else f"up to {each} points in turn"
  line = "$SLURM_ARRAY_TASK_ID"
  line = line if each == 1 else f"$(({line} * {each}))"
  worker = [
    f"exec {shlex.quote(sys.executable)} -m launch.worker",
    f"--workdir={shlex.quote(str(workdir))}",
    f"--line={line} --lines={each}",
    f"--heartbeat_s={claims.heartbeat_s:g} --stale_s={claims.stale_s:g}",
    f"--wait_s={2 * claims.stale_s:g}",
    f"--program={shlex.quote(str(sweep.program.resolve()))}",
    *(["--retry_failed"] if retry_failed else []),
    '--on_timeout="scontrol requeue $SLURM_JOB_ID"',
  ]
  given = "".join(f"#SBATCH {option}\n" for option in options)
  return f"""#!/bin/bash
# The sweep in {workdir}:
# {len(lines)} points that are not done, {len(tasks)} tasks of {told}.
#SBATCH --job-name={_job_name(workdir.name)}
#SBATCH --array={array}
#SBATCH --output="{workdir}/slurm/%A_%a.txt"
#SBATCH --open-mode=append
#SBATCH --requeue
# The worker below gets USR1 {warn_s} s before the time is up. It stops its run,
# which goes on from its last checkpoint, and puts the task back into the queue.
#SBATCH --signal=B:USR1@{warn_s}
{given}
cd {shlex.quote(str(Path.cwd()))} || exit
export PYTHONPATH={shlex.quote(str(MAIN.parent))}:$PYTHONPATH
export OMP_NUM_THREADS=${{SLURM_CPUS_PER_TASK:-1}}
# A task runs its line of points.jsonl, counted from 0. What the run prints is
# in logs/<id of the point>.txt.
{f" {chr(92)}{chr(10)}  ".join(worker)}
"""


def submit(path: Path) -> str:
  """What sbatch says to a script.

  Raises:
    SweepError: there is no sbatch here, or it refuses.
  """
  try:
    done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True)
  except FileNotFoundError as error:
    raise SweepError(
      f"there is no sbatch here; on a login node run: sbatch {path}"
    ) from error
  if done.returncode:
    raise SweepError(f"sbatch {path}: {done.stderr.strip()}")
  return done.stdout.strip()


def max_array_here() -> int:
  """MaxArraySize of this cluster, or Slurm's default."""
  try:
    done = subprocess.run(
      ["scontrol", "show", "config"], capture_output=True, text=True
    )
  except FileNotFoundError:
    return DEFAULT_MAX_ARRAY
  found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
  return int(found[1]) if found else DEFAULT_MAX_ARRAY


def ranges(numbers: Sequence[int]) -> str:
  """Ascending numbers as sbatch has them, e.g. 0-3,7."""
  groups = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
  runs = [[number for _, number in group] for _, group in groups]
  return ",".join(
    f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs
  )


def _job_name(name):
  return re.sub(r"[^\w.-]", "_", name) or "sweep"
