"""A point of a finished run, as it was left: what is deployed.

Of any experiment whose record tells "points" and the "recommended" one, as
`fbq.lab.points` does, and whose settings have `fine_tuning` and `qat`, or are
of a network out of a file, which is rounded and not trained.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.config import ConfigError, require
from fbq.deploy.trained import deployable
from fbq.lab import finished, rounded_point
from fbq.lab.fine_tuning import FineTuner, recipe_of
from fbq.lab.finished import FinishedRun
from fbq.lab.points import digest, file_of, training_of
from fbq.lab.subject import FromFile
from fbq.nets import Net

BEST = "best"


class TrainedPoint(NamedTuple):
  """An assignment of a run, fine-tuned or rounded.

  Attributes:
    name: name of the point in the run.
    net: network of the run, as it is deployed.
    assignment: bits of every site.
    variables: as it was left: params, batch_stats, ranges.
    images, labels: test set of the run; the float network's classes where it
      has no labels.
    accuracy: test accuracy that the run reports.
    made: "trained" or "rounded".
    measure: "accuracy", or "agreement" with the float network's classes.
  """

  name: str
  net: Net
  assignment: dict[str, int]
  variables: Mapping[str, Any]
  images: jax.Array
  labels: jax.Array
  accuracy: float
  made: str = "trained"
  measure: str = "accuracy"


def find(run: FinishedRun, point: str) -> tuple[str, dict[str, int]]:
  """Name of a point and its bits of every site.

  Args:
    run: run that ends in points.
    point: name of the point, or "best" for the recommended one.

  Raises:
    ConfigError: the run ends in no points, has none of this name, or its file
      is damaged.
  """
  directory, settings = run.lab.workdir, run.lab.settings
  summary = run.results.summary()
  is_left = isinstance(settings, FromFile) or (
    hasattr(settings, "fine_tuning") and hasattr(settings, "qat")
  )
  if not is_left or not {"points", "recommended"} <= set(summary):
    raise ConfigError(
      f"config.source, {directory}: a run of {settings.experiment!r} ends in "
      "no fine-tuned points; expected one whose results tell points and the "
      "recommended one, and whose settings have fine_tuning and qat"
    )
  name = summary["recommended"] if point == BEST else point
  path = directory / "precision" / f"{file_of(name)}.json"
  known = ", ".join(sorted(summary["points"]))
  require(os.path.isfile(path), "point", point, f"{BEST!r} or one of {known}")
  try:
    return name, precision.from_json(run.lab.net, path, run.lab.ladder)
  except ValueError as error:
    raise ConfigError(f"config.source: {error}") from error


def load(run: FinishedRun, point: str) -> TrainedPoint:
  """A point with its variables and the run's test images, see `find`.

  Raises:
    ConfigError: there is no such point, its network is missing, or it cannot
      be deployed.
    CheckpointError: its checkpoint is damaged.
  """
  name, assignment = find(run, point)
  lab, settings = run.lab, run.lab.settings
  if isinstance(settings, FromFile):
    variables, logits = rounded_point.load(
      lab.workdir, digest(lab.net, assignment), assignment
    )
    images, labels = lab.test
    return TrainedPoint(
      *(name, lab.net, assignment, variables, images, labels),
      accuracy=float(np.mean(logits.argmax(-1) == labels)),
      made="rounded",
      measure=run.results.summary()["measure"],
    )
  tuner = FineTuner(lab, recipe_of(settings.qat), settings.fine_tuning)

  # The checkpoint, in the shapes of what was trained
  images = jnp.zeros((1, *lab.net.input_shape))
  bits = lab.bits(assignment)
  shapes = jax.eval_shape(
    lambda: tuner.model.init(jax.random.key(0), images, False, data=bits)
  )
  scheme, norm, *_ = tuner.recipe
  kinds = ("params", "batch_stats", scheme.collection)
  variables, results = finished.restored(
    lab,
    training_of(lab.net, assignment),
    tuner.trainer,
    {kind: shapes.get(kind, {}) for kind in kinds},
  )

  # In the form that is lowered to integers
  try:
    net, variables = deployable(lab.net, scheme, norm, tuner.final(variables))
  except ValueError as error:
    raise ConfigError(f"config.source, {lab.workdir}: {error}") from error
  return TrainedPoint(
    name,
    net,
    assignment,
    variables,
    *lab.test,
    accuracy=results["test_accuracy"],
  )
