"""Runs the points of a sweep as tasks of Slurm arrays, by submitit.

A task may be requeued at any time, by Slurm or by itself shortly before its
time is up: its run ends, and goes on from its last checkpoint. Submitting twice
does no harm, for locks hold here too.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import FailedJobError

from launch.manifest import SweepError
from launch.run import Run, State
from launch.slots import Slot

ARRAY = 1000  # tasks of one array: Slurm's own MaxArraySize is 1001
TIMEOUTS = 1000  # times that a task may run out of time and be requeued
WARN_S = 60  # before a task's time is up
WAIT_S, LOOK_S = 300.0, 5.0  # for the lock of a node that died


class Task(NamedTuple):
  """A run as submitit calls it in a job."""

  run: Run
  slot: Slot

  def __call__(self) -> State:
    deadline = time.monotonic() + WAIT_S
    while (ended := self.run(self.slot, Event())).name == "running":
      if time.monotonic() > deadline:
        break
      time.sleep(LOOK_S)
    print(self.run.workdir.name, *ended, flush=True)
    return ended

  def checkpoint(self) -> submitit.helpers.DelayedSubmission:
    """What a requeued job calls."""
    return submitit.helpers.DelayedSubmission(self)


def executor(
  folder: Path, cores: int, options: Mapping[str, Any], **more: Any
) -> submitit.SlurmExecutor:
  """What submits to the Slurm of this machine.

  Args:
    folder: directory for scripts and what tasks print, seen by all nodes.
    cores: number of cores of a task.
    options: {name: value} of sbatch.
    more: parameters of submitit, for instance time in minutes.

  Raises:
    SweepError: there is no Slurm here.
  """
  try:
    made = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
  except RuntimeError as error:
    raise SweepError(f"there is no Slurm here: {error}") from error
  made.update_parameters(
    job_name=folder.resolve().parent.name,
    cpus_per_task=cores,
    srun_args=[f"--cpus-per-task={cores}"],  # not sbatch's since Slurm 22.05
    signal_delay_s=WARN_S,
    stderr_to_stdout=True,
    additional_parameters={"requeue": True, **options},
    **more,
  )
  return made


def submit(
  made: submitit.core.core.Executor, runs: Sequence[Run], slot: Slot
) -> list[submitit.Job]:
  """The jobs of some runs, in arrays of at most ARRAY.

  Raises:
    SweepError: Slurm refuses.
  """
  tasks = [Task(run, slot) for run in runs]
  jobs = []
  try:
    for first in range(0, len(tasks), ARRAY):
      jobs += made.submit_array(tasks[first : first + ARRAY])
  except (FailedJobError, OSError) as error:
    raise SweepError(f"Slurm refuses: {error}") from error
  return jobs
