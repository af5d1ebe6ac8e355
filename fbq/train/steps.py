"""The compiled step of training.

Everything that differs between runs of one stage, assignments, regularization
strengths, seeds, is data, so one compilation serves all of them.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from fbq import norms
from fbq.model import Model
from fbq.train import parallel
from fbq.train.distillation import Distillation, teacher_outputs
from fbq.train.objective import CLASSIFICATION, Objective
from fbq.train.regularizers import Regularizer

Array = jax.Array
Batch = tuple[Array, Any]  # images and their truth
Variables = Mapping[str, Any]


class State(NamedTuple):
  """What a step turns into the next one.

  Attributes:
    step: int32 [], steps done.
    variables: collections of the model: params, batch_stats, ranges, gates.
    opt_state: state of the optimizer.
    first_bad_step: int32 [], the first step, counted from 0, whose loss is not
      finite; -1 if there was none.
  """

  step: Array
  variables: Variables
  opt_state: Any
  first_bad_step: Array


def compile_once(function: Callable, **options) -> Callable:
  """`jax.jit(function, **options)` for which a second trace is an error.

  One compilation must serve a whole stage. (chex counts by the place in the
  source, so it takes two steps made by one factory for one.)
  """
  traces = 0

  @functools.wraps(function)
  def counted(*args, **kwargs):
    nonlocal traces
    traces += 1
    if traces > 1:
      raise RuntimeError(
        f"{function.__name__} is compiled a second time: shapes, types or weak "
        "types of its arguments differ from those of the first call"
      )
    return function(*args, **kwargs)

  return jax.jit(counted, **options)


def complete(model: Model, variables: Variables, data: Any = None) -> Variables:
  """`variables` and those of the model's scheme that they lack, at their start.

  Ranges of weights start from the weights given.

  Args:
    model: model with a scheme.
    variables: params, batch_stats and what else is known, such as calibrated
      ranges of activations.
    data: data of the scheme, where it has some.
  """
  images = jnp.zeros((1, *model.net.input_shape))
  kinds = ("ranges", "averages", "gates")
  start = jax.jit(
    lambda v: model.apply(v, images, False, data=data, mutable=list(kinds))[1]
  )
  return {**variables, **start(dict(variables))}


def initial_state(
  variables: Variables,
  trained: tuple[str, ...],
  optimizer,
  smooths: bool = False,
) -> State:
  """The state before the first step, in memory of its own: steps donate it.

  Through numpy, which knows no weak types: those would compile the step twice.

  Args:
    variables: variables to start from.
    trained, optimizer: what `train_step` is given.
    smooths: whether `train_step` is given a `smoothing`.
  """
  if smooths:
    smoothed = {kind: variables[kind] for kind in trained}
    variables = {**variables, "smoothed": smoothed}
  variables = jax.tree.map(
    lambda x: jnp.array(np.asarray(x), copy=True), dict(variables)
  )
  return State(
    jnp.int32(0),
    variables,
    optimizer.init({kind: variables[kind] for kind in trained}),
    jnp.int32(-1),
  )


def train_step(
  model: Model,
  optimizer: optax.GradientTransformation,
  trained: tuple[str, ...],
  sample: Callable[..., Batch],
  regularizer: Regularizer | None = None,
  distillation: Distillation | None = None,
  smoothing: float = 0.0,
  mesh: Mesh | None = None,
  objective: Objective = CLASSIFICATION,
) -> Callable[..., tuple[State, Mapping[str, Array]]]:
  """A compiled `step(state, run, *given) -> (state, metrics)`.

  `run` holds what distinguishes runs: "key", the seed of batches and gates;
  what the model's scheme reads ("bits", int [S], for `Fixed`); "strength"
  of the regularizer; "teacher", the float network's variables, for
  distillation; "freeze_step", int [], of batch norms that freeze.
  Step n, counted from 0, sees the batch that `sample` makes from fold_in(key,
  n) and from what it is given (`fbq.train.feed`): a function of the seed and of
  n alone, so a resumed run sees what an uninterrupted one does.

  Args:
    model: model of any scheme.
    optimizer: optimizer of {kind: variables} for the trained kinds.
    trained: collections that are trained.
    sample: makes a batch (images, truth) from a key and `given`, jittable.
    regularizer: from `fbq.train.regularizers`, added to the loss with the run's
      strength.
    distillation: how much the float network's answers count; None for not at
      all.
    smoothing: decay of averages of what is trained, in "smoothed"; 0 for none.
    mesh: mesh over which batches are spread, see `fbq.train.parallel`; state
      and run are `everywhere` on it. None is one device.
    objective: task of the network; the truth of classifiers is labels [B].

  The state given is donated. A second trace is an error.
  """

  def loss_of(values, state, run, batch, noise_key):
    images, truth = batch
    check_images(images)
    outputs, updates = model.apply(
      {**state.variables, **values},
      images,
      train=True,
      **inputs_of(model, run, state.step, noise_key, len(images)),
      mutable=["batch_stats", "averages"],
    )

    # The truth, then the teacher, then the price of precision: each is added
    # to what was there, so a run without one pays nothing for it.
    task_loss, told = objective.loss(outputs, truth)
    loss = task_loss
    if distillation is not None:
      teacher = teacher_outputs(model.net, run["teacher"], images)
      softened = teacher, outputs, distillation.temperature
      loss = distillation.loss(task_loss, objective.divergence(*softened))
    if regularizer is not None:
      cost = regularizer({**state.variables, **values}, run, state.step)
      loss += run["strength"] * cost
    return loss, (task_loss, told, {"batch_stats": {}, **updates})

  def step(state: State, run: Mapping[str, Array], *given):
    # Fresh keys from the number of the step, so a resumed run draws the same.
    key, noise_key = jax.random.split(
      jax.random.fold_in(run["key"], state.step)
    )
    batch = parallel.spread(sample(key, *given), mesh)
    batch = parallel.own_rows(batch, model.axis_name)

    # Only what is trained is differentiated. Sums over devices are XLA's under
    # a mesh, and an explicit mean under `jax.pmap`.
    values = {kind: state.variables[kind] for kind in trained}
    found = jax.value_and_grad(loss_of, has_aux=True)(
      values, state, run, batch, noise_key
    )
    (loss, aux), gradients = parallel.mean(found, model.axis_name)
    task_loss, told, seen = aux

    # Variables that the forward pass moved (statistics, averages) come from it,
    # the trained ones from the optimizer.
    updates, opt_state = optimizer.update(gradients, state.opt_state, values)
    values = cast(dict, optax.apply_updates(values, updates))
    if smoothing:
      seen["smoothed"] = jax.tree.map(
        lambda mean, x: smoothing * mean + (1.0 - smoothing) * x,
        state.variables["smoothed"],
        values,
      )

    # A bad step is noted, not raised: nothing in a compiled step can raise, and
    # the host looks at it every `log_every` steps.
    is_bad = (state.first_bad_step < 0) & ~jnp.isfinite(loss)
    new = State(
      state.step + 1,
      {**state.variables, **values, **seen},
      opt_state,
      jnp.where(is_bad, state.step, state.first_bad_step),
    )
    return new, {"loss": loss, "cross_entropy": task_loss, **told}

  placed = {} if mesh is None else {"out_shardings": parallel.everywhere(mesh)}
  return compile_once(step, donate_argnums=0, **placed)


def inputs_of(model, run, step, noise_key, batch: int) -> dict[str, Any]:
  """What a model needs in one step besides the images."""
  inputs = {}
  if model.norm == norms.CORRECT:
    if model.axis_name:
      raise ValueError(
        f"norm {model.norm!r} does not average over axis_name "
        f"{model.axis_name!r}: use jax.jit and a mesh, or another norm"
      )
    inputs["frozen"] = step >= run["freeze_step"]
  if model.scheme is not None:
    inputs["data"] = model.scheme.data(run, step)
    inputs["noise"] = parallel.own_noise(
      model.scheme.noise, noise_key, batch, model.axis_name
    )
  return inputs


def check_images(images: Array) -> None:
  """Raises AssertionError unless images are [B, H, W, C]."""
  chex.assert_rank(images, 4)
