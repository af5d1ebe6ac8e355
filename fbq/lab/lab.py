"""Where an experiment works: its network, its data, its costs and its workdir.

A `Lab` is made of settings; all that can be wrong in them is found before it is
opened in a workdir and anything is trained.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from fbq import precision
from fbq.config import ConfigError
from fbq.lab import calibration, costs, data, networks, pretrained, workdir
from fbq.lab.judgement import Judgement
from fbq.lab.settings import OnTarget, Stage
from fbq.lab.task import Task
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.train import evaluation, memory, optimizer, parallel, steps
from fbq.train.distillation import Distillation
from fbq.train.log import Log, Stopwatch
from fbq.train.loop import Trainer, train
from fbq.train.many import train_points
from hwsim.latency_table import PULP_LADDER, Ladder


class Lab:
  """A network, its data and a workdir, in which stages are run.

  Attributes:
    settings: settings of the experiment, checked.
    workdir: directory of the run, once it is open.
    fingerprint: short name of the settings, which checkpoints carry.
    log: metrics and lines for the reader.
    clock: seconds of every stage.
  """

  workdir: Path
  fingerprint: str
  log: Log

  def __init__(self, settings: Any):
    self.settings = settings
    self.clock = Stopwatch()

  @functools.cached_property
  def net(self) -> Net:
    """Network of the settings; ConfigError if there is none.

    A checkpoint that is named is read here, so that it is known to fit.
    """
    net = networks.build(self.settings.net)
    if pretrained.is_given(self.settings):
      pretrained.load(self.settings, net)
    return net

  @functools.cached_property
  def task(self) -> Task:
    """Data set of the settings, which fits the network, or ConfigError."""
    return data.build(self.settings.data, self.net)

  @property
  def about_images(self) -> str:
    """What the images are that judge, and what they cannot tell."""
    if not pretrained.is_given(self.settings):
      return self.task.about_test
    return (
      f"{self.task.about_test} But the float network came from a file: if it "
      "was trained on images that are held out here, validation flatters every "
      "network alike, and what it tells of losses may not hold for others."
    )

  @functools.cached_property
  def costs(self) -> costs.Costs:
    """Target of the settings and its latency table, or ConfigError."""
    with self.clock.measure("latency table"):
      return costs.build(self.settings, self.net.workload)

  @functools.cached_property
  def ladder(self) -> Ladder:
    """Precisions of the hardware; those of PULP clusters if none is named."""
    if isinstance(self.settings, OnTarget):
      return costs.ladder(self.settings)
    return PULP_LADDER

  @property
  def widths(self) -> tuple[int, ...]:
    """Bits that some tensor may have, ascending: what is calibrated for."""
    searched = precision.BITS  # by gates, whatever the hardware has
    return tuple(sorted({*searched, *itertools.chain(*self.ladder)}))

  def open(self, directory: Path, claim: Mapping | None = None) -> None:
    """Takes a directory to work in.

    Args:
      directory: made if it is missing.
      claim: what makes the run its own, by default its settings.

    Raises:
      ConfigError: the directory is another run's or somebody else's.
    """
    claim = workdir.claim_of(self.settings) if claim is None else claim
    self.fingerprint = workdir.claim_workdir(directory, claim)
    self.workdir = directory
    self.log = Log(directory / "metrics.jsonl")

  def adopt(self, net: Net, task: Task | None = None) -> None:
    """Takes a network, or data, that no settings named `net` or `data` tell.

    Args:
      net: the network of the experiment.
      task: images that it is judged on.
    """
    self.__dict__["net"] = net
    if task is not None:
      self.__dict__["task"] = task

  def with_net(self, net: Net) -> Self:
    """The same lab for another network that takes the same images."""
    other = type(self)(self.settings)
    other.__dict__ |= self.__dict__ | {"net": net, "task": self.task}
    other.__dict__.pop("costs", None)
    other.__dict__.pop("float_trainer", None)
    return other

  @property
  def test(self) -> tuple[jax.Array, Any]:
    """All test images and their truth at once, see `HeldOut.everything`."""
    with self.clock.measure("data"):
      return self.task.test.everything

  def trainer(
    self,
    stage: Stage,
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
      stage: its steps, batches and rates.
      model, trained, regularizer, distillation, smoothing: see
        `fbq.train.steps.train_step`.
      more_steps: steps beyond those of the stage.
      options: rates of other variables than weights, see `optimizer.make`.
    """
    model = model.clone(compute_dtype=stage.compute_dtype)
    count = self.task.steps(stage) + more_steps

    # Looking the images up may take long where there are many files
    with self.clock.measure("data"):
      mesh = self._mesh(stage.batch_size)
      sample, feed = self.task.draws(stage.batch_size, mesh)

    # The schedule ends with the stage, so it has to know the number of steps
    updates = optimizer.make(
      count,
      stage.learning_rate,
      stage.weight_decay,
      stage.warmup,
      stage.drops,
      weights=stage.optimizer,
      **options,
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
        self.task.objective,
      ),
      sample,
      count,
      lambda variables: steps.initial_state(
        variables, trained, updates, smoothing > 0
      ),
      self.settings.checkpoint_every,
      self.settings.log_every,
      feed,
      mesh,
      stage.batch_size,
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
      name: name of the run, unique in the workdir.
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
    """Variables after each of several runs, see `results_of_many`."""
    nothing = [lambda v: {}] * len(names)
    found = self.results_of_many(
      names, stage, trainer, variables, runs, nothing
    )
    return [ended for ended, _ in found]

  def results_of_many(self, names, stage, trainer, variables, runs, finishes):
    """Yields (variables, results) of several runs, together where it is faster.

    Args:
      names, variables, runs, finishes: one of each for every run, see `run`.
      stage: whose time is measured.
      trainer: compiled step of all.
    """
    if not names:
      return
    with self.clock.measure(stage):
      yield from train_points(
        names,
        trainer,
        variables,
        runs,
        self.log,
        [self.workdir / "checkpoints" / name for name in names],
        [f"{self.fingerprint}:{name}" for name in names],
        finishes,
      )

  def float_network(
    self, name: str, keys
  ) -> tuple[Mapping[str, Any], Judgement]:
    """Variables of the trained float network, and how it was judged.

    A checkpoint of the settings is that network, trained no further.

    Args:
      name: name of the run; its stage is the setting "float_training".
      keys: random keys of the start and of the batches.
    """
    model = Model(self.net)
    right = evaluation.evaluator(model, self.task.objective)
    if pretrained.is_given(self.settings):
      start, report = pretrained.load(self.settings, self.net)
      self.log.say(str(report))
    else:
      start = calibration.initial_variables(model, keys[0])
    variables, results = self.run(
      name,
      "float training",
      self.float_trainer,
      start,
      {"key": keys[1]},
      lambda v: self.judge(right, v).results(),
    )
    judgement = Judgement.restored(self.task, results)
    self.log.say(f"{name}: {judgement}")
    return variables, judgement

  @functools.cached_property
  def float_trainer(self) -> Trainer:
    """One compiled step for all float training of the experiment."""
    trainer = self.trainer(
      self.settings.float_training, Model(self.net), ("params",)
    )
    is_trained = pretrained.is_given(self.settings)
    return trainer._replace(steps=0) if is_trained else trainer

  def bits(self, assignment: precision.Precision) -> jax.Array:
    """int32 [S], what the scheme `Fixed` takes."""
    found = precision.to_array(self.net, assignment, self.ladder)
    return jnp.asarray(found)

  def judge(self, right, variables, assignment=None) -> Judgement:
    """What a network makes of the images of validation and of test.

    Args:
      right: compiled function of `evaluation.evaluator`.
      variables: variables of the model that it evaluates.
      assignment: bits of every site; None for a float network.
    """
    bits = None if assignment is None else self.bits(assignment)
    size = f"{self.task.batch} images"
    with memory.told("test", size, "lower config.data.evaluation_batch"):
      found = [
        evaluation.right_images(right, variables, split.batches(), bits)
        for split in (self.task.validation, self.task.test)
      ]
    return Judgement.of(self.task, *found)

  def calibration_set(
    self, key: jax.Array, count: int = 0
  ) -> tuple[jax.Array, Any]:
    """`count` images and truth of the training split, as they are tested.

    Args:
      key: random key of the choice.
      count: by default the setting "calibration_images".
    """
    count = count or self.settings.calibration_images
    return self.task.calibration_set(key, count)
