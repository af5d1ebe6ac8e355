"""A point of a finished Free Bits run, as it was left: what is deployed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import free_bits_settings, settings
from fbq.experiments.stages import Lab, digest
from fbq.model import Model
from fbq.nets import Net
from fbq.schemes.fixed import Fixed
from fbq.train.checkpoints import Checkpoints
from fbq.train.log import Log, Stopwatch

BEST = "best"


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


def load(directory: Path, point: str, log: Log) -> TrainedPoint:
  """A point of the finished run in `directory`.

  Args:
    directory: workdir of the run.
    point: its name, or "best" for the recommended one.
    log: of the experiment that wants it.

  Raises:
    ConfigError: no finished run, or no such point.
    CheckpointError: its checkpoint is damaged.
  """
  directory = Path(directory)
  claim = _read(directory / "config.json")
  result = _read(directory / "result.json")
  points = result.get("points", {})
  if claim.get("experiment") != "free_bits" or not points:
    raise settings.ConfigError(
      f"config.from: {directory} holds a run of "
      f"{claim.get('experiment')!r}, expected one of 'free_bits'"
    )
  name = result["recommended"] if point == BEST else point
  path = directory / "precision" / f"{name.replace('/', '-')}.json"
  if not path.exists():
    raise settings.ConfigError(
      f"config.point is {point!r}, expected 'best' or one of "
      f"{', '.join(sorted(points))}"
    )
  fingerprint = settings.fingerprint(claim)
  config = ConfigDict(
    {key: value for key, value in claim.items() if key != "measured_sha256"}
  )
  config.measured_latency = ""  # costs are settled; the file may be gone
  net, difficulty = free_bits_settings.check(config)
  assignment = precision.from_json(net, path)
  lab = Lab(config, net, difficulty, directory, fingerprint, log, Stopwatch())
  variables, results = _restore(lab, f"fine-tune-{digest(net, assignment)}")
  return TrainedPoint(
    name,
    net,
    assignment,
    variables,
    *lab.test,
    results["test_accuracy"],
  )


def _restore(lab, name):
  """Variables and results of a finished fine-tuning."""
  model = Model(lab.net, Fixed())
  trainer = lab.trainer(
    "fine_tuning",
    model,
    ("params", "ranges"),
    range_learning_rate=lab.config.fine_tuning.range_learning_rate,
  )
  images = jnp.zeros((1, *lab.net.input_shape))
  bits = lab.bits(precision.uniform(lab.net, 8))
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, False, data=bits)
  )
  variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  kinds = ("params", "batch_stats", "ranges")
  like = trainer.start({kind: variables.get(kind, {}) for kind in kinds})
  directory = lab.workdir / "checkpoints" / name
  if not directory.is_dir():
    raise settings.ConfigError(
      f"config.from: {directory} is missing, the fine-tuned network; run the "
      "search again in another workdir"
    )
  checkpoints = Checkpoints(directory, f"{lab.fingerprint}:{name}")
  try:
    state, results = checkpoints.restore(trainer.steps, like)
  finally:
    checkpoints.close()
  return state.variables, results


def _read(path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise settings.ConfigError(
      f"config.from: {path.parent} is no finished run: {error}; give the "
      "workdir of a run of configs/digits_free_bits.py"
    ) from error
