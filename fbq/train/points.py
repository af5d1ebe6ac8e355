"""Many runs of one stage at once: assignments, strengths, budgets, seeds.

Runs that share a compiled step differ in data alone, so on a GPU or TPU they
are one program with a leading axis `P`, spread over the devices; on a CPU they
are trained one after the other, since a vmapped convolution takes 4 times as
long there as the same number of single ones.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fbq.train import gate_metrics, monitoring, parallel
from fbq.train.loop import diverged, refuse_bad
from fbq.train.steps import compile_once


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


def train_together(names, trainer, variables, runs, log, checkpoints, compiled):
  """States of `P` runs after training as one program.

  Args:
    names, trainer, variables, runs, log: see `many.train_points`.
    checkpoints: where all states are kept together, on their way.
    compiled: seconds of compilation since last asked, `monitoring.compilation`.
  """
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
        gates = gate_metrics.of(
          trainer.model, states.variables, runs[i], n, row=i
        )
        log.write(name, n, speed, **own, **gates)
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
