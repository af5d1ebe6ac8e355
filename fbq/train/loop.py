"""The training loop: steps, checkpoints, resume, a stop at the first NaN.

A Python loop over one compiled step, because gradients of convolutions inside
`lax.scan` are 50-90 times slower on a CPU.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from fbq.model import Model
from fbq.train import diagnosis, gate_metrics, memory, monitoring, parallel
from fbq.train import feed as feed_lib
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log
from fbq.train.steps import State

_DIVERGED_CURE = "Lower the learning rate of this stage, or look at its data."
MEMORY_CURE = (
  "lower the batch_size of this stage, or set its compute_dtype to 'bfloat16'"
)


class Trainer(NamedTuple):
  """What all runs of one kind share.

  Attributes:
    model: model that is trained.
    step: compiled step, from `steps.train_step`.
    sample: makes a batch from a key and what is fed; `step` was made with it.
    steps: number of steps of one run.
    start: makes the first state from the variables of a run.
    checkpoint_every: steps between checkpoints.
    log_every: steps between lines of metrics; the loss is checked as often.
    feed: where what steps are given comes from, see `fbq.train.feed`.
    mesh: mesh of the devices that `step` was made with; None is one device.
    batch_size: images of a step, over all devices.
  """

  model: Model
  step: Callable
  sample: Callable
  steps: int
  start: Callable[[Mapping[str, Any]], State]
  checkpoint_every: int
  log_every: int
  feed: feed_lib.Feed = feed_lib.nothing
  mesh: Mesh | None = None
  batch_size: int = 1

  @property
  def place(self) -> NamedSharding | None:
    """Where the states and the data of runs are while they are trained."""
    return None if self.mesh is None else parallel.everywhere(self.mesh)

  @property
  def is_fed(self) -> bool:
    """Whether steps are given their batches."""
    return self.feed is not feed_lib.nothing


class Diverged(FloatingPointError):
  """A loss that is not finite; the message names step and layer."""


def train(
  name: str,
  trainer: Trainer,
  variables: Mapping[str, Any],
  run: Mapping[str, jax.Array],
  log: Log,
  directory: Path,
  fingerprint: str,
  finish: Callable[[Mapping[str, Any]], dict[str, float]],
) -> tuple[Mapping[str, Any], dict[str, float]]:
  """Variables after training and the results of `finish` on them.

  Continues from the newest checkpoint in `directory`. A finished run is not
  trained again.

  Args:
    name: name of the run, for logs and messages.
    trainer: what all runs of this kind share.
    variables: variables to start from.
    run: data of the run, see `steps.train_step`.
    log: log of the experiment.
    directory: directory of this run's checkpoints alone.
    fingerprint: text that identifies configuration and run.
    finish: numbers to keep, computed once from the final variables.

  Raises:
    CheckpointError: a damaged or foreign checkpoint.
    Diverged: the loss is not finite.
    OutOfMemory: a step does not fit the device.
  """
  checkpoints = Checkpoints(directory, fingerprint)
  try:
    # A checkpoint of the last step is a finished run. Metrics after an earlier
    # one are dropped, as their steps are done again.
    state = trainer.start(variables)
    done = checkpoints.latest()
    if done is not None:
      state, results = checkpoints.restore(done, state)
      state = jax.tree.map(jnp.array, state)
      if done == trainer.steps:
        return state.variables, results
      log.resume(name, done)
      log.say(f"{name}: resumes after step {done}")
    else:
      log.resume(name, -1)

    # Only now onto the mesh: a checkpoint is read into host memory.
    with memory.told(name, f"{trainer.batch_size} images a step", MEMORY_CURE):
      state = parallel.put(state, trainer.place)
      run = parallel.put(run, trainer.place)
      state = _run(name, trainer, state, run, log, checkpoints)

    # `finish` sees one process's own copy. Its results are kept in the last
    # checkpoint, so that a run done before gives them without training.
    variables = parallel.home(state.variables)
    results = finish(variables)
    checkpoints.save(trainer.steps, state, results)
    return variables, results
  finally:
    checkpoints.close()


def _run(name, trainer, state, run, log, checkpoints) -> State:
  """From `state` to the end, with a checkpoint every so often."""
  first = int(state.step)
  kept = _copy(state)  # the last state known to be sound
  numbers = range(first + 1, trainer.steps + 1)
  with (
    monitoring.compilation() as compiled,
    trainer.feed(run, first) as fed,
    monitoring.tracer(name, log.workdir, log.say) as trace,
    log.bar(name, trainer.steps, first) as move,
  ):
    meter = monitoring.Meter(trainer.batch_size, trainer.is_fed, compiled)
    for n, given in zip(numbers, meter.waits(fed), strict=False):
      trace(n, state)
      with parallel.no_transfers(n > first + 1):
        state, metrics = trainer.step(state, run, *given)
      if n % trainer.log_every and n != trainer.steps:
        continue
      if int(state.first_bad_step) >= 0:
        raise diverged(name, trainer, kept, run, int(state.first_bad_step))
      metrics = {key: float(value) for key, value in metrics.items()}
      speed = meter.read()
      gates = gate_metrics.of(trainer.model, state.variables, run, n)
      log.write(name, n, speed, **metrics, **gates)
      shown = ("loss", "accuracy")
      move(n, {key: metrics[key] for key in shown if key in metrics}, speed)
      kept = _copy(state)
      if n % trainer.checkpoint_every == 0 and n < trainer.steps:
        checkpoints.save(n, state, {})
  refuse_bad(name, trainer, state.variables)
  return state


def refuse_bad(name: str, trainer: Trainer, variables) -> None:
  """Raises Diverged for what the last update, after the last loss, spoilt."""
  kinds = ("params", "ranges", "averages", "gates", "batch_stats")
  culprit = diagnosis.bad_variable(trainer.model, variables, kinds)
  if culprit is not None:
    raise Diverged(
      f"{name}: step {trainer.steps}, the last, left {culprit} not finite. "
      f"{_DIVERGED_CURE}"
    )


def _copy(state):
  """The step donates its state; this is one to come back to."""
  return jax.tree.map(lambda x: x.copy(), state)


def diverged(
  name: str, trainer: Trainer, state, run, bad_step: int
) -> Diverged:
  """What to raise: repeats the steps from `state` up to the bad one, and looks
  into it."""
  state, run = (parallel.put(tree, trainer.place) for tree in (state, run))
  with trainer.feed(run, int(state.step)) as fed:
    while int(state.step) < bad_step:
      state, _ = trainer.step(state, run, *next(fed))
    given = next(fed)
  culprit = diagnosis.first_bad_tensor(
    trainer.model, trainer.sample, *map(parallel.home, (state, run, given))
  )
  return Diverged(  # counting from 1, as in metrics.jsonl
    f"{name}: the loss of step {bad_step + 1} is not finite; first not finite: "
    f"{culprit}. {_DIVERGED_CURE}"
  )
