"""A point of a finished run, of Free Bits or exact choices, as it was left."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fbq import precision
from fbq.deploy.trained import deployable
from fbq.experiments import (
  exact_settings,
  free_bits_settings,
  settings,
  stage_settings,
  task,
)
from fbq.experiments.fine_tuning import FineTuner, recipe_of
from fbq.experiments.stages import Lab, digest
from fbq.nets import Net
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log, Stopwatch
from fbq.train.loop import Trainer

BEST = "best"
SETTINGS = {
  "free_bits": free_bits_settings.SETTINGS,
  "exact": exact_settings.SETTINGS,
}


class TrainedPoint(NamedTuple):
  """A fine-tuned assignment of a run.

  Attributes:
    name: of the point in the run.
    net: of the run.
    assignment: bits of every site.
    variables: after fine-tuning: params, batch_stats, ranges.
    images, labels: that the run was tested on.
    accuracy: that the run reports.
  """

  name: str
  net: Net
  assignment: dict[str, int]
  variables: Mapping[str, Any]
  images: jax.Array
  labels: jax.Array
  accuracy: float


class Found(NamedTuple):
  """A point of a finished run, before anything is loaded.

  Attributes:
    directory: workdir of the run.
    claim: its configuration.
    name: of the point.
    path: of its assignment.
    sha256: of the run's results, which an export belongs to.
  """

  directory: Path
  claim: dict[str, Any]
  name: str
  path: Path
  sha256: str


def find(directory: Path, point: str) -> Found:
  """Looks a point up, without loading it.

  Args:
    directory: workdir of the run.
    point: its name, or "best" for the recommended one.

  Raises:
    ConfigError: no finished run of such a kind, or no such point.
  """
  directory = Path(directory)
  claim, result, sha256 = read_run(directory)
  if claim.get("experiment") not in SETTINGS or "points" not in result:
    raise settings.ConfigError(
      f"config.source: {directory} holds a run of "
      f"{claim.get('experiment')!r}, expected one of {[*SETTINGS, 'bitq']}"
    )
  name = result["recommended"] if point == BEST else point
  file = name.replace("/", "-").replace("%", "")
  path = directory / "precision" / f"{file}.json"
  if not path.is_file():
    raise settings.ConfigError(
      f"config.point is {point!r}, expected 'best' or one of "
      f"{', '.join(sorted(result['points']))}"
    )
  return Found(directory, claim, name, path, sha256)


def read_run(directory: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
  """Configuration and results of a finished run, and a digest of the latter.

  Raises:
    ConfigError: no finished run.
  """
  claim = _read(directory / "config.json")
  result = _read(directory / "result.json")
  content = (directory / "result.json").read_bytes()
  return claim, result, hashlib.sha256(content).hexdigest()


def load(found: Found, log: Log) -> TrainedPoint:
  """The point that was found, with its variables and the run's test images.

  Raises:
    ConfigError: its network is missing, or the run was made with settings that
      this version does not know.
    CheckpointError: its checkpoint is damaged.
  """
  claim = settings.without_digests(found.claim)
  settings.check_keys(claim, SETTINGS[claim["experiment"]])
  config = ConfigDict(claim)
  net = stage_settings.build_net(config)
  data = task.build(config, net)
  assignment = precision.from_json(net, found.path)
  fingerprint = settings.fingerprint(found.claim)
  lab = Lab(config, net, data, found.directory, fingerprint, log, Stopwatch())
  tuner = FineTuner(lab, recipe_of(config.qat))
  name = f"fine-tune-{digest(net, assignment)}"
  variables, results = _restore(tuner, name, lab.bits(assignment))
  scheme, norm, *_ = tuner.recipe
  net, variables = deployable(net, scheme, norm, tuner.final(variables))
  return TrainedPoint(
    found.name, net, assignment, variables, *lab.test, results["test_accuracy"]
  )


def _restore(tuner, name, bits):
  """Variables and results of a finished fine-tuning."""
  images = jnp.zeros((1, *tuner.lab.net.input_shape))
  shapes = jax.eval_shape(
    lambda: tuner.model.init(jax.random.key(0), images, False, data=bits)
  )
  kinds = ("params", "batch_stats", tuner.recipe.scheme.collection)
  like = {kind: shapes.get(kind, {}) for kind in kinds}
  return restore(tuner.lab, name, tuner.trainer, like)


def restore(
  lab: Lab, name: str, trainer: Trainer, shapes: Any
) -> tuple[Mapping[str, Any], dict[str, float]]:
  """Variables and results of a finished training.

  Args:
    lab: of the run it was part of.
    name: of the training.
    trainer: of it.
    shapes: of its variables.

  Raises:
    ConfigError: its checkpoint is missing.
    CheckpointError: its checkpoint is damaged.
  """
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  directory = lab.workdir / "checkpoints" / name
  if not directory.is_dir():
    raise settings.ConfigError(
      f"config.source: {directory} is missing, a trained network; run the "
      "search again in another workdir"
    )
  checkpoints = Checkpoints(directory, f"{lab.fingerprint}:{name}")
  try:
    state, results = checkpoints.restore(trainer.steps, trainer.start(zeros))
  finally:
    checkpoints.close()
  return state.variables, results


def _read(path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise settings.ConfigError(
      f"config.source: {path.parent} is no finished run: {error}; give the "
      "workdir of a run of configs/digits_free_bits.py, digits_exact.py or "
      "digits_bitq.py"
    ) from error
