"""What experiments that train on the digits share: data, stages, ranges."""

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
from ml_collections import ConfigDict

from fbq import precision
from fbq.data import digits
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges, site_ranges
from fbq.schemes.fixed import Fixed
from fbq.train import optimizer, steps
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
    difficulty: of the data.
    workdir: where checkpoints go.
    fingerprint: of the configuration.
    log: of the experiment.
    clock: measures the stages.
  """

  config: ConfigDict
  net: Net
  difficulty: digits.Difficulty
  workdir: Path
  fingerprint: str
  log: Log
  clock: Stopwatch

  @functools.cached_property
  def source(self) -> digits.Digits:
    with self.clock.measure("data"):
      return digits.load(self.config.data.split_seed)

  @functools.cached_property
  def test(self) -> tuple[jax.Array, jax.Array]:
    """Images and labels that every accuracy is measured on."""
    source = self.source
    with self.clock.measure("data"):
      return digits.test_set(
        source,
        self.net.input_shape[0],
        self.difficulty,
        self.config.data.renders_per_test_image,
        self.config.data.test_seed,
      )

  def trainer(
    self,
    stage: str,
    model: Model,
    trained: tuple[str, ...],
    regularizer: Callable | None = None,
    more_steps: int = 0,
    **options: Any,
  ) -> Trainer:
    """One compiled step for all runs of a stage.

    Args:
      stage: its plan is the setting of this name.
      model, trained, regularizer: see `fbq.train.steps.train_step`.
      more_steps: than the plan says.
      options: of other variables than weights, see `optimizer.make`.
    """
    plan = self.config[stage]
    count = plan.steps + more_steps
    sample = functools.partial(
      digits.train_batch,
      digits=self.source,
      batch_size=plan.batch_size,
      resolution=self.net.input_shape[0],
      difficulty=self.difficulty,
    )
    updates = optimizer.make(
      count, plan.learning_rate, plan.weight_decay, **options
    )
    return Trainer(
      model,
      steps.train_step(model, updates, trained, sample, regularizer),
      sample,
      count,
      lambda variables: steps.initial_state(variables, trained, updates),
      self.config.checkpoint_every,
      self.config.log_every,
    )

  def run(self, name, stage, trainer, variables, run, finish=lambda v: {}):
    """(variables, results) of one run, or of what of it is left to do.

    Args:
      name: of the run, unique in the workdir.
      stage: whose time is measured.
      trainer, variables, run, finish: see `fbq.train.loop.train`.
    """
    self.test  # noqa: B018  loading it is no part of the stage's time
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
    self.test  # noqa: B018  see above
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

    Args:
      name: of the run; its plan is the setting "float_training".
      keys: of the start and of the batches.
    """
    model = Model(self.net)
    correct = steps.evaluator(model)
    variables, result = self.run(
      name,
      "float training",
      self.float_trainer,
      initial_variables(model, keys[0]),
      {"key": keys[1]},
      lambda v: {"test_accuracy": self.accuracy(correct, v)},
    )
    accuracy = result["test_accuracy"]
    self.log.say(f"{name}: test accuracy {accuracy:.2%}")
    return variables, accuracy

  @functools.cached_property
  def float_trainer(self) -> Trainer:
    """One compiled step for all float training of the experiment."""
    return self.trainer("float_training", Model(self.net), ("params",))

  def fine_tuner(self, more_steps: int = 0) -> Callable[..., float]:
    """A function (name, variables, ranges, assignment, key) -> accuracy.

    It fine-tunes at fixed precision, from ranges {site: {bits: range}}; one
    compiled step serves all calls. The plan is the setting "fine_tuning".
    """
    model = Model(self.net, Fixed())
    correct = steps.evaluator(model)
    trainer = self.trainer(
      "fine_tuning",
      model,
      ("params", "ranges"),
      more_steps=more_steps,
      range_learning_rate=self.config.fine_tuning.range_learning_rate,
    )

    def fine_tune(name, variables, ranges, assignment, key):
      _, result = self.run(
        name,
        "fine-tuning",
        trainer,
        {**variables, "ranges": ranges_at(ranges, assignment)},
        {"key": key, "bits": self.bits(assignment)},
        lambda v: {"test_accuracy": self.accuracy(correct, v, assignment)},
      )
      return result["test_accuracy"]

    return fine_tune

  def bits(self, assignment: precision.Precision) -> jax.Array:
    """int32 [S], what the scheme `Fixed` takes."""
    return jnp.asarray(precision.to_array(self.net, assignment))

  def accuracy(self, correct, variables, assignment=None) -> float:
    """Share of the test images that `correct` of `steps.evaluator` counts."""
    bits = None if assignment is None else self.bits(assignment)
    return steps.accuracy(correct, variables, *self.test, bits)

  def calibration_set(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`calibration_images` images and labels of the training split."""
    return digits.calibration_set(
      key,
      self.source,
      self.config.calibration_images,
      self.net.input_shape[0],
      self.difficulty,
    )


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
