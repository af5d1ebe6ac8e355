"""What experiments that train on the digits share: data, stages, ranges."""

import dataclasses
import functools
import hashlib
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
from fbq.quantizers import calibration
from fbq.train import optimizer, steps
from fbq.train.log import Log, Stopwatch
from fbq.train.loop import Trainer, train


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
    **rates: float,
  ) -> Trainer:
    """One compiled step for all runs of a stage."""
    plan = self.config[stage]
    sample = functools.partial(
      digits.train_batch,
      digits=self.source,
      batch_size=plan.batch_size,
      resolution=self.net.input_shape[0],
      difficulty=self.difficulty,
    )
    updates = optimizer.make(
      plan.steps, plan.learning_rate, plan.weight_decay, **rates
    )
    return Trainer(
      model,
      steps.train_step(model, updates, trained, sample, regularizer),
      sample,
      plan.steps,
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

  def bits(self, assignment: precision.Precision) -> jax.Array:
    """int32 [S], what the scheme `Fixed` takes."""
    return jnp.asarray(precision.to_array(self.net, assignment))

  def accuracy(self, correct, variables, assignment=None) -> float:
    """Share of the test images that `correct` of `steps.evaluator` counts."""
    bits = None if assignment is None else self.bits(assignment)
    return steps.accuracy(correct, variables, *self.test, bits)

  def calibration_set(self, key: jax.Array):
    """Images and labels of the training split."""
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


def calibrate(model: Model, variables, images):
  """{activation site: {bits: range}} of least squared error on `images`."""
  net = model.net
  seen = jax.jit(
    lambda v, x: model.apply(v, x, train=False, mutable=["intermediates"])[1]
  )(variables, images)["intermediates"]
  tensors = {
    f"{node.name}.out": np.asarray(seen[node.name][0])
    for node in net.nodes
    if net.site_of[node.name] == f"{node.name}.out"
  }
  return calibration.activation_ranges(tensors, net.is_signed)


def starting_ranges(net, variables, activation_ranges, assignment):
  """Ranges of every quantizer at the bits of an assignment."""
  ranges = {
    site: jnp.asarray(by_bits[assignment[site]])
    for site, by_bits in activation_ranges.items()
  }
  for node in net.nodes:
    if node.has_weights:
      site = f"{node.name}.weight"
      ranges[site] = jnp.asarray(
        calibration.weight_ranges(
          variables["params"][f"{node.name}_kernel"],
          node.op != "linear",
          assignment[site],
        )
      )
  return ranges


def digest(net, assignment) -> str:
  """A short name for an assignment: equal for equal ones."""
  return hashlib.sha256(
    precision.to_array(net, assignment).tobytes()
  ).hexdigest()[:10]
