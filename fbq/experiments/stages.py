"""What experiments that train share: stages, float networks, ranges."""

import dataclasses
import datetime
import functools
import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import pretrained
from fbq.experiments.settings import ConfigError
from fbq.experiments.task import Task
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges, site_ranges
from fbq.train import optimizer, parallel, steps
from fbq.train.distillation import Distillation
from fbq.train.log import Log, Stopwatch
from fbq.train.loop import Trainer, train
from fbq.train.points import train_points


@dataclasses.dataclass(frozen=True)
class Lab:
  """A network, its data and a workdir, in which stages are run.

  Attributes:
    config: of the experiment; a stage's plan (steps, batch size, rates) is the
      setting of its name.
    net: that is trained.
    task: what it is trained and tested on.
    workdir: where checkpoints go.
    fingerprint: of the configuration.
    log: of the experiment.
    clock: measures the stages.
  """

  config: ConfigDict
  net: Net
  task: Task
  workdir: Path
  fingerprint: str
  log: Log
  clock: Stopwatch

  @property
  def test(self) -> tuple[jax.Array, jax.Array]:
    """All test images and labels at once, see `Task.test_set`."""
    with self.clock.measure("data"):
      return self.task.test_set

  def trainer(
    self,
    stage: str,
    model: Model,
    trained: tuple[str, ...],
    regularizer: Callable | None = None,
    more_steps: int = 0,
    distillation: Distillation | None = None,
    smoothing: float = 0.0,
    **options: Any,
  ) -> Trainer:
    """One compiled step for all runs of a stage.

    Args:
      stage: its plan is the setting of this name.
      model, trained, regularizer, distillation, smoothing: see
        `fbq.train.steps.train_step`.
      more_steps: than the plan says.
      options: of other variables than weights, see `optimizer.make`.
    """
    plan = self.config[stage]
    count = self.task.steps(plan) + more_steps
    with self.clock.measure("data"):
      mesh = self._mesh(plan.batch_size)
      sample, feed = self.task.draws(plan.batch_size, mesh)
    schedule = {key: plan[key] for key in ("warmup", "drops") if key in plan}
    updates = optimizer.make(
      count, plan.learning_rate, plan.weight_decay, **schedule, **options
    )
    return Trainer(
      model,
      steps.train_step(
        model,
        updates,
        trained,
        sample,
        regularizer,
        distillation,
        smoothing,
        mesh,
      ),
      sample,
      count,
      lambda variables: steps.initial_state(
        variables, trained, updates, smoothing > 0
      ),
      self.config.checkpoint_every,
      self.config.log_every,
      feed,
      mesh,
      plan.batch_size,
    )

  def _mesh(self, batch_size: int) -> Mesh | None:
    """Over which batches are spread; None is one device."""
    count = len(jax.devices())
    if count == 1:
      return None
    try:
      mesh = parallel.mesh_of(batch_size)
    except ValueError as error:
      raise ConfigError(str(error)) from error
    if mesh.size < count:
      self.log.say(
        f"{mesh.size} of {count} devices are used: a batch of {batch_size} "
        "divides by no more"
      )
    return mesh if mesh.size > 1 else None

  def run(self, name, stage, trainer, variables, run, finish=lambda v: {}):
    """(variables, results) of one run, or of what of it is left to do.

    Args:
      name: of the run, unique in the workdir.
      stage: whose time is measured.
      trainer, variables, run, finish: see `fbq.train.loop.train`.
    """
    with self.clock.measure(stage):
      return train(
        name,
        trainer,
        variables,
        run,
        self.log,
        self.workdir / "checkpoints" / name,
        f"{self.fingerprint}:{name}",
        finish,
      )

  def run_many(self, names, stage, trainer, variables, runs):
    """Variables after each of several runs; together where that is faster.

    Args:
      names, variables, runs: of each run, see `run`.
      stage, trainer: of all.
    """
    if not names:
      return []
    with self.clock.measure(stage):
      results = train_points(
        names,
        trainer,
        variables,
        runs,
        self.log,
        [self.workdir / "checkpoints" / name for name in names],
        [f"{self.fingerprint}:{name}" for name in names],
        lambda v: {},
      )
    return [ended for ended, _ in results]

  def float_network(self, name: str, keys) -> tuple[Mapping[str, Any], float]:
    """Variables of the trained float network and its test accuracy.

    A checkpoint of the config is that network, trained no further.

    Args:
      name: of the run; its plan is the setting "float_training".
      keys: of the start and of the batches.
    """
    model = Model(self.net)
    correct = steps.evaluator(model)
    if pretrained.is_given(self.config):
      start, report = pretrained.load(self.config, self.net)
      self.log.say(str(report))
    else:
      start = initial_variables(model, keys[0])
    variables, result = self.run(
      name,
      "float training",
      self.float_trainer,
      start,
      {"key": keys[1]},
      lambda v: {"test_accuracy": self.accuracy(correct, v)},
    )
    accuracy = result["test_accuracy"]
    self.log.say(f"{name}: test accuracy {accuracy:.2%}")
    return variables, accuracy

  @functools.cached_property
  def float_trainer(self) -> Trainer:
    """One compiled step for all float training of the experiment."""
    trainer = self.trainer("float_training", Model(self.net), ("params",))
    is_trained = pretrained.is_given(self.config)
    return trainer._replace(steps=0) if is_trained else trainer

  def bits(self, assignment: precision.Precision) -> jax.Array:
    """int32 [S], what the scheme `Fixed` takes."""
    return jnp.asarray(precision.to_array(self.net, assignment))

  def accuracy(self, correct, variables, assignment=None) -> float:
    """Share of the test images that `correct` of `steps.evaluator` counts."""
    bits = None if assignment is None else self.bits(assignment)
    return steps.accuracy(correct, variables, self.task.test_batches(), bits)

  def calibration_set(
    self, key: jax.Array, count: int = 0
  ) -> tuple[jax.Array, jax.Array]:
    """`count` images and labels of the training split, as they are tested.

    Args:
      key: of the choice.
      count: by default the setting "calibration_images".
    """
    count = count or self.config.calibration_images
    return self.task.calibration_set(key, count)


def initial_variables(model: Model, key: jax.Array) -> Mapping[str, Any]:
  """Variables of a model in float mode before training."""
  images = jnp.zeros((2, *model.net.input_shape))
  # The "rbg" generator: threefry's thirty copies take 5 s to compile.
  seed = jax.random.key_data(key)
  key = jax.random.wrap_key_data(jnp.concatenate([seed, seed]), impl="rbg")
  variables = jax.jit(lambda k: model.init(k, images, train=False))(key)
  return {kind: variables.get(kind, {}) for kind in ("params", "batch_stats")}


def calibrate(net: Net, variables, images):
  """({site: {bits: range}}, {activation site: values [N, ...]}) on `images`.

  See `fbq.quantizers.site_ranges`; the values are those before quantizers.

  Args:
    net: the network.
    variables: of its float model.
    images: [N, H, W, C].
  """
  tensors = activations(net, variables, images)
  return site_ranges(net, variables["params"], tensors), tensors


def activations(net: Net, variables, images) -> dict[str, np.ndarray]:
  """{activation site but the image's: values [N, ...]} before quantizers.

  Args:
    net, variables, images: see `calibrate`.
  """
  model = Model(net)
  seen = jax.jit(
    lambda v, x: model.apply(v, x, train=False, mutable=["intermediates"])[1]
  )(variables, images)["intermediates"]
  return {
    f"{node.name}.out": np.asarray(seen[node.name][0])
    for node in net.nodes
    if net.site_of[node.name] == f"{node.name}.out"
  }


def ranges_at(
  ranges: Ranges, assignment: precision.Precision
) -> dict[str, jax.Array]:
  """The "ranges" of a model at the bits of an assignment.

  Of those sites of `ranges` that the assignment has.
  """
  return {
    site: jnp.asarray(by_bits[assignment[site]])
    for site, by_bits in ranges.items()
    if site in assignment
  }


def digest(net, assignment) -> str:
  """A short name for an assignment: equal for equal ones."""
  return hashlib.sha256(
    precision.to_array(net, assignment).tobytes()
  ).hexdigest()[:10]


def machine_facts() -> dict[str, str]:
  """When and on what a run ended, for its report."""
  return {
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
    f"jax backend {jax.default_backend()}",
    "versions": f"Python {platform.python_version()}, jax {jax.__version__}",
  }
