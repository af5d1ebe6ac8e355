"""A finished run, as it was left: its lab, its record, its trained networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fbq import config
from fbq.config import ConfigError
from fbq.lab import experiment, rounded_point, workdir
from fbq.lab.lab import Lab
from fbq.lab.settings import Training
from fbq.lab.subject import FromFile
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log
from fbq.train.loop import Trainer


class FinishedRun(NamedTuple):
  """A run of which nothing is left to do.

  Attributes:
    lab: network and data of the run, at work in its workdir.
    results: record of its experiment.
  """

  lab: Lab
  results: Any


def read(directory: Path, log: Log | None = None) -> FinishedRun:
  """The run in a workdir, whose experiment may be anybody's.

  Args:
    directory: workdir of the run.
    log: where lines for the reader go; needed for what loads networks.

  Raises:
    ConfigError: no finished run, one that leaves no network, or one that this
      version cannot read.
  """
  try:
    claim = workdir.read_claim(directory)
    if not workdir.is_finished(directory):
      raise ConfigError("its run is not finished; give its command again")
    kind, results, _ = experiment.load(directory)
    given = workdir.settings_of(claim)
    if issubclass(kind.settings, Training):
      # The trained networks hold all that a float checkpoint gave.
      lab = Lab(config.of(kind.settings, {**given, "float_checkpoint": ""}))
      _ = lab.net, lab.task
    elif issubclass(kind.settings, FromFile):
      lab = Lab(config.of(kind.settings, given))
      lab.workdir = directory
      rounded_point.adopt(lab)
    else:
      raise ConfigError(
        f"a run of {claim['experiment']!r} leaves no network to deploy"
      )
  except ConfigError as error:
    raise ConfigError(f"config.source, {directory}: {error}") from error
  lab.workdir, lab.fingerprint = directory, workdir.fingerprint(claim)
  if log is not None:
    lab.log = log
  return FinishedRun(lab, results)


def restored(
  lab: Lab, name: str, trainer: Trainer, shapes: Any
) -> tuple[Mapping[str, Any], dict[str, float]]:
  """Variables and results of a finished training.

  Args:
    lab: lab of the run it was part of.
    name: name of the training.
    trainer: compiled step that it was trained with.
    shapes: shapes of its variables.

  Raises:
    ConfigError: its checkpoint is missing.
    CheckpointError: its checkpoint is damaged.
  """
  directory = lab.workdir / "checkpoints" / name
  if not directory.is_dir():
    raise ConfigError(
      f"config.source: {directory} is missing, a trained network; make the run "
      "again in another workdir"
    )
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  checkpoints = Checkpoints(directory, f"{lab.fingerprint}:{name}")
  try:
    state, results = checkpoints.restore(trainer.steps, trainer.start(zeros))
  finally:
    checkpoints.close()
  return state.variables, results
