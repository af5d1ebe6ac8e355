"""Runs the points of a sweep as tasks of Slurm arrays, by submitit.

A task may be requeued at any time, by Slurm or by itself before its time is up;
its run goes on from its last checkpoint. Submitting twice does no harm.
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


def submit(
  runs: Sequence[Run], cores: int, folder: Path, sbatch: Mapping, **more: Any
) -> list[submitit.Job]:
  """The jobs of some runs, in arrays of at most ARRAY.

  Args:
    cores: number of cores of a task.
    folder: directory for scripts and what tasks print, seen by all nodes.
    sbatch: options of sbatch, {name: value}.
    more: parameters of submitit, for instance time in minutes.

  Raises:
    SweepError: there is no Slurm here, or it refuses.
  """
  slot = Slot((), {"OMP_NUM_THREADS": str(cores)})
  tasks, jobs = [Task(run, slot) for run in runs], []
  try:
    executor = submitit.SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
    executor.update_parameters(
      job_name=folder.resolve().parent.name,
      cpus_per_task=cores,
      srun_args=[f"--cpus-per-task={cores}"],  # not sbatch's since Slurm 22.05
      signal_delay_s=WARN_S,
      stderr_to_stdout=True,
      additional_parameters={"requeue": True, **sbatch},
      **more,
    )
    for first in range(0, len(tasks), ARRAY):
      jobs += executor.submit_array(tasks[first : first + ARRAY])
  except (RuntimeError, FailedJobError, OSError) as error:
    raise SweepError(f"Slurm: {' '.join(str(error).split())}") from error
  return jobs
