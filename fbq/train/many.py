"""Several runs of one stage, one after the other or as one program.

As one, as many at once as the device has memory for. On their way these have
one checkpoint for all; in the end each has its own, as if trained alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from fbq import backend
from fbq.train import feed as feed_lib
from fbq.train import memory, monitoring, parallel, points
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log
from fbq.train.loop import MEMORY_CURE, Trainer, train

Variables = Mapping[str, Any]
Results = tuple[Variables, dict[str, float]]
_SHARE = 0.8  # of a device's memory, which a step may take; the rest is slack


def train_points(
  names: Sequence[str],
  trainer: Trainer,
  variables: Sequence[Variables],
  runs: Sequence[Mapping[str, jax.Array]],
  log: Log,
  directories: Sequence[Path],
  fingerprints: Sequence[str],
  finishes: Sequence[Callable[[Variables], dict[str, float]]],
  together: bool | None = None,
) -> Iterator[Results]:
  """Yields what `loop.train` gives for each of `P` runs, in their order.

  One after the other the results are those of separate runs, bit for bit.
  Together they differ by the order of sums alone, which training amplifies:
  below 1e-4 of the largest parameter after 3 steps (`tests/points_test.py`).

  Args:
    names, variables, runs, directories, fingerprints, finishes: one of each for
      every run, see `loop.train`; the variables have equal shapes.
    trainer: what all runs share.
    log: log of the experiment.
    together: whether runs are one program; by default wherever there are
      several, no CPU, and one process.

  Raises:
    CheckpointError: a damaged or foreign checkpoint.
    Diverged: the loss of a run is not finite.
    OutOfMemory: not even one run fits the device.
  """
  if together is None:
    alone = backend.is_cpu() or jax.process_count() > 1 or len(names) == 1
    together = not alone
  if not together:
    columns = (names, variables, runs, directories, fingerprints, finishes)
    for name, start, run, directory, mark, finish in zip(*columns, strict=True):
      yield train(name, trainer, start, run, log, directory, mark, finish)
    return

  # How many fit is asked only where something is left to train.
  columns = list(zip(variables, directories, fingerprints, strict=True))
  done = [_finished(trainer, *column) for column in columns]
  with monitoring.compilation() as compiled:
    count = len(names)
    if None in done:
      count = runs_at_once(trainer, variables, runs)
    for first in range(0, len(names), count):
      own = slice(first, first + count)
      states = None
      if None in done[own]:
        states = _train_chunk(
          names[own],
          trainer,
          variables[own],
          runs[own],
          log,
          directories[first],
          "&".join(fingerprints[own]),
          compiled,
        )
      for i in range(len(names))[own]:
        ended = done[i]
        if ended is None:
          state = points.point(states, i - first)
          ended = state.variables, finishes[i](state.variables)
          _keep(trainer, state, ended[1], directories[i], fingerprints[i])
        yield ended


def _finished(trainer, variables, directory, fingerprint) -> Results | None:
  """What a run that is done has left."""
  checkpoints = Checkpoints(directory, fingerprint)
  try:
    if checkpoints.latest() != trainer.steps:
      return None
    like = trainer.start(variables)
    state, results = checkpoints.restore(trainer.steps, like)
    return jax.tree.map(jnp.array, state).variables, results
  finally:
    checkpoints.close()


def _keep(trainer, state, results, directory, fingerprint):
  """Leaves a run as `loop.train` does."""
  checkpoints = Checkpoints(directory, fingerprint)
  try:
    checkpoints.save(trainer.steps, state, results)
  finally:
    checkpoints.close()


def _train_chunk(
  names, trainer, variables, runs, log, directory, fingerprint, compiled
):
  """States after training together; continues from their checkpoint."""
  name = f"{directory.name}-and-{len(names) - 1}-more"
  checkpoints = Checkpoints(directory.with_name(name), fingerprint)
  size = f"{len(names)} runs of {trainer.batch_size} images a step"
  try:
    with memory.told(names[0], size, MEMORY_CURE):
      return points.train_together(
        names, trainer, variables, runs, log, checkpoints, compiled
      )
  finally:
    checkpoints.close()


def runs_at_once(
  trainer: Trainer,
  variables: Sequence[Variables],
  runs: Sequence[Mapping[str, jax.Array]],
) -> int:
  """How many of the runs one program can train: halved until they fit.

  The same for the same device, so a run that resumes finds its checkpoints.

  Args:
    trainer, variables, runs: see `train_points`.
  """
  count, limit = len(runs), room()
  if limit < math.inf:
    while count > 1 and needed_bytes(trainer, variables, runs, count) > limit:
      count = -(-count // 2)
  return count


def room() -> float:
  """Bytes of a device that a step may take; inf where the device tells none."""
  told = jax.local_devices()[0].memory_stats() or {}
  return _SHARE * told.get("bytes_limit", math.inf)


def needed_bytes(
  trainer: Trainer,
  variables: Sequence[Variables],
  runs: Sequence[Mapping[str, jax.Array]],
  count: int,
) -> float:
  """Memory of a device that a step of `count` runs takes; inf if too much.

  A program that is found to fit is not compiled a second time.
  """
  mesh = parallel.mesh_of(trainer.batch_size, count)
  try:
    states = points.stack([trainer.start(v) for v in variables[:count]], mesh)
    given = feed_lib.first(trainer.feed, runs[0])
    step: Any = points.points_step(trainer.step, mesh, count)
    program = step.lower(
      states,
      points.stack(runs[:count], mesh),
      *points.stack([given] * count, mesh, parallel.DATA),
    )
    sizes = program.compile().memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    if not memory.is_exhausted(error):
      raise
    return math.inf
  if sizes is None:  # the backend does not tell
    return 0.0

  # The states given are donated: what comes out lies where they were.
  return (
    sizes.argument_size_in_bytes
    + sizes.output_size_in_bytes
    - sizes.alias_size_in_bytes
    + sizes.temp_size_in_bytes
  )
