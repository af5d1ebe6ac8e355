"""A finished run, as it was left: its settings, its record, its networks."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fbq import config
from fbq.config import ConfigError
from fbq.lab import experiment, workdir
from fbq.lab.lab import Lab
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log
from fbq.train.loop import Trainer


class FinishedRun(NamedTuple):
  """A finished run, of which nothing is loaded but its record.

  Attributes:
    lab: network and data of the run, at work in its workdir.
    results: record of its experiment.
    sha256: digest of result.json, to which an export belongs.
  """

  lab: Lab
  results: Any
  sha256: str


def read(directory: Path, log: Log) -> FinishedRun:
  """The run in a workdir.

  Args:
    directory: workdir of the run, which is only read.
    log: where what is said goes.

  Raises:
    ConfigError: no finished run, or settings that this version does not know.
  """
  try:
    kind, results, about = experiment.load(directory)
    content = (directory / "result.json").read_bytes()
    claim = json.loads((directory / "config.json").read_text())
    lab = Lab(config.of(kind.settings, about.settings))
  except (ConfigError, OSError, ValueError) as error:
    raise ConfigError(
      f"config.source: {directory} is no finished run: {error}"
    ) from error
  lab.workdir, lab.log = directory, log
  lab.fingerprint = workdir.fingerprint(claim)
  return FinishedRun(lab, results, hashlib.sha256(content).hexdigest())


def restored(
  lab: Lab, name: str, trainer: Trainer, shapes: Any
) -> tuple[Mapping[str, Any], dict[str, float]]:
  """Variables and results of a finished training.

  Args:
    lab: lab of the run it was part of.
    name: name of the training.
    trainer: with which it was trained.
    shapes: shapes of its variables.

  Raises:
    ConfigError: its checkpoint is missing.
    CheckpointError: its checkpoint is damaged.
  """
  directory = lab.workdir / "checkpoints" / name
  if not directory.is_dir():
    raise ConfigError(
      f"config.source: {directory} is missing, a trained network; run the "
      "search again in another workdir"
    )
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  checkpoints = Checkpoints(directory, f"{lab.fingerprint}:{name}")
  try:
    state, results = checkpoints.restore(trainer.steps, trainer.start(zeros))
  finally:
    checkpoints.close()
  return state.variables, results
