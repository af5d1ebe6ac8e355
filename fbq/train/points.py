"""Many runs of one stage at once: assignments, strengths, budgets, seeds.

Runs that share a compiled step differ in data alone, so on a GPU or TPU they
are one program with a leading axis `P`, spread over the devices; on a CPU they
are trained one after the other, since a vmapped convolution takes 4 times as
long there as the same number of single ones.
"""

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fbq import backend
from fbq.train import feed as feed_lib
from fbq.train import memory, monitoring, parallel
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log
from fbq.train.loop import MEMORY_CURE, Trainer, diverged, refuse_bad, train
from fbq.train.steps import compile_once

Variables = Mapping[str, Any]
Results = tuple[Variables, dict[str, float]]
_SHARE = 0.8  # of a device's memory, which a step may take; the rest is slack


@functools.lru_cache(maxsize=8)
def points_step(step: Callable, mesh: Mesh, count: int) -> Callable:
  """`step(state, run, *given)` over a leading axis `P` of all, compiled once.

  The same arguments give the same program again.

  Args:
    step: step of `steps.train_step`.
    mesh: mesh of `parallel.mesh_of`. Where its data axis has one device, every
      device trains its points alone: the program has no communication.
    count: number `P` of points.

  The states given are donated.
  """
  del count  # another number is another program
  spec = PartitionSpec(parallel.POINT)
  mapped = jax.shard_map(
    jax.vmap(inspect.unwrap(step)),
    mesh=mesh,
    in_specs=spec,
    out_specs=spec,
    axis_names={parallel.POINT},
    check_vma=False,  # optax makes constants that do not vary
  )
  mapped.__name__ = "points_step"
  return compile_once(mapped, donate_argnums=0)


def stack(trees: Sequence[Any], mesh: Mesh, *axes: str) -> Any:
  """Trees of equal structure as one with a leading axis, over the mesh.

  Args:
    trees: one for each point.
    mesh: mesh of `points_step`.
    axes: axes of the mesh over which the arrays' own axes are spread.
  """
  spec = PartitionSpec(parallel.POINT, *axes)
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
  return parallel.put(stacked, NamedSharding(mesh, spec))


def point(tree: Any, index: int) -> Any:
  """One of the trees that were stacked, on this process's own device."""
  return jax.tree.map(
    lambda leaf: jnp.asarray(parallel.to_host(leaf)[index]), tree
  )


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
  below 1e-4 of the largest parameter after 3 steps (`tests/points_test.py`). As
  many are trained at once as the device has memory for. On their way these have
  one checkpoint for all; in the end each has its own, as if trained alone.

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
  count = len(names)
  if None in done:
    count = runs_at_once(trainer, variables, runs)

  for first in range(0, len(names), count):
    own = slice(first, first + count)
    if None not in done[own]:
      yield from done[own]
      continue
    name = f"{directories[first].name}-and-{len(names[own]) - 1}-more"
    states = _train_chunk(
      names[own],
      trainer,
      variables[own],
      runs[own],
      log,
      directories[first].with_name(name),
      "&".join(fingerprints[own]),
    )
    for i, finish in enumerate(finishes[own]):
      state = point(states, i)
      results = finish(state.variables)
      _keep(trainer, state, results, *columns[first + i][1:])
      yield state.variables, results


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


def _train_chunk(names, trainer, variables, runs, log, directory, fingerprint):
  """States after training together; continues from their checkpoint."""
  checkpoints = Checkpoints(directory, fingerprint)
  size = f"{len(names)} runs of {trainer.batch_size} images a step"
  try:
    with memory.told(names[0], size, MEMORY_CURE):
      return _train_together(names, trainer, variables, runs, log, checkpoints)
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
  states = stack([trainer.start(v) for v in variables[:count]], mesh)
  data = stack(runs[:count], mesh)
  given = feed_lib.first(trainer.feed, runs[0])
  given = stack([given] * count, mesh, parallel.DATA)
  try:
    step = points_step(trainer.step, mesh, count)
    program = step.lower(states, data, *given)
    sizes = program.compile().memory_analysis()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return math.inf
  # The states given are donated: what comes out lies where they were.
  return (
    sizes.argument_size_in_bytes
    + sizes.output_size_in_bytes
    - sizes.alias_size_in_bytes
    + sizes.temp_size_in_bytes
  )


def _train_together(names, trainer, variables, runs, log, checkpoints):
  # Every point's state starts as in `loop.train`; then all have an axis `P`.
  mesh = parallel.mesh_of(trainer.batch_size, len(names))
  title = f"{names[0]} and {len(names) - 1} more"
  states = stack([trainer.start(v) for v in variables], mesh)
  data = stack(runs, mesh)

  # As in `loop.train`, with one checkpoint for all.
  done = checkpoints.latest() or 0
  if done:
    restored, _ = checkpoints.restore(done, states)
    states = parallel.put(
      jax.tree.map(jnp.array, restored), parallel.by_point(mesh)
    )
    if done == trainer.steps:
      return states
    log.say(f"{title}: resume after step {done}")
  for name in names:
    log.resume(name, done or -1)

  # The loop of `loop._run`, with metrics and a line for every point.
  step = points_step(trainer.step, mesh, len(names))
  kept = jax.tree.map(jnp.copy, states)  # the last known to be sound
  numbers = range(done + 1, trainer.steps + 1)
  images = trainer.batch_size * len(names)
  with (
    monitoring.compilation() as compiled,
    _fed(trainer, runs, done) as fed,
    monitoring.tracer(names[0], log.workdir, log.say) as trace,
    log.bar(title, trainer.steps, done) as move,
  ):
    meter = monitoring.Meter(images, trainer.is_fed, compiled)
    for n, given in zip(numbers, meter.waits(fed), strict=False):
      trace(n, states)
      given = stack(given, mesh, parallel.DATA)
      with parallel.no_transfers(n > done + 1):
        states, metrics = step(states, data, *given)
      if n % trainer.log_every and n != trainer.steps:
        continue

      # Before this step's states count as sound.
      _refuse_diverged(names, trainer, kept, states, runs)
      metrics = {k: parallel.to_host(v) for k, v in metrics.items()}
      speed = meter.read()
      for i, name in enumerate(names):
        own = {k: float(v[i]) for k, v in metrics.items()}
        log.write(name, n, speed, **own)
      move(n, {"loss": float(np.mean(metrics["loss"]))}, speed)
      kept = jax.tree.map(jnp.copy, states)
      if n % trainer.checkpoint_every == 0 and n < trainer.steps:
        checkpoints.save(n, states, {})

  # The last update comes after the last loss, so it is looked at here.
  for i, name in enumerate(names):
    refuse_bad(name, trainer, point(states.variables, i))
  checkpoints.save(trainer.steps, states, {})
  return states


@contextlib.contextmanager
def _fed(trainer, runs, start):
  """Yields what each run is given, step by step; read once for equal seeds."""
  keys = [np.asarray(jax.random.key_data(run["key"])).tobytes() for run in runs]
  with contextlib.ExitStack() as feeds:
    streams = {
      key: feeds.enter_context(trainer.feed(run, start))
      for key, run in dict(zip(keys, runs, strict=True)).items()
    }

    def steps():
      while True:
        given = {key: next(stream) for key, stream in streams.items()}
        yield [given[key] for key in keys]

    yield steps()


def _refuse_diverged(names, trainer, kept, states, runs):
  """Raises Diverged for the first point that is."""
  for i, bad_step in enumerate(
    parallel.to_host(states.first_bad_step).tolist()
  ):
    if bad_step >= 0:
      raise diverged(names[i], trainer, point(kept, i), runs[i], bad_step)
