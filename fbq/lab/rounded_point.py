"""A point of a run that rounded a network out of a file: what is deployed.

Kept with each point are its variables, kernels as codes, and the float
network's logits, whose classes stand in for labels where inputs have none.
Network and inputs are read again as the settings say, and have to be those of
the run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from fbq.config import ConfigError
from fbq.lab import subject as subject_lib
from fbq.lab.held_out import HeldOut, independent
from fbq.lab.kept import refuse_others
from fbq.lab.lab import Lab
from fbq.lab.subject import Part, Subject
from fbq.lab.task import Task
from fbq.nets.graph import Net

FLOAT = "float.npz"  # logits of the float network, by part of the inputs
Arrays = dict[str, np.ndarray]


def path_of(workdir: Path, digest: str) -> Path:
  """Where a point of a run is kept, see `fbq.lab.points.digest`."""
  return workdir / "points" / f"{digest}.npz"


def packed(variables: Mapping[str, Any], bits: Mapping[str, int]) -> Arrays:
  """Variables on their grids as arrays by path, kernels as their codes.

  Args:
    variables: "params", "batch_stats" and "ranges", kernels on the grids of
      their ranges.
    bits: bits of every site.
  """
  found = traverse_util.flatten_dict(dict(variables), sep="/")
  arrays = {key: np.asarray(x) for key, x in found.items()}
  for key, step in _steps(arrays, bits).items():
    arrays[key] = np.rint(arrays[key] / step).astype(np.int8)
  return arrays


def unpacked(arrays: Mapping[str, np.ndarray], bits: Mapping[str, int]):
  """Variables of `packed`, bit for bit."""
  found = dict(arrays)
  for key, step in _steps(found, bits).items():
    found[key] = found[key].astype(np.float32) * step
  nothing = {"params": {}, "batch_stats": {}, "ranges": {}}
  return nothing | traverse_util.unflatten_dict(found, sep="/")


def _steps(arrays: Mapping[str, np.ndarray], bits) -> Arrays:
  """{path of a kernel: what a code of 1 stands for}."""
  return {
    f"params/{site.removesuffix('.weight')}_kernel": (
      arrays[f"ranges/{site}"] / np.float32(2 ** (b - 1))
    )
    for site, b in bits.items()
    if site.endswith(".weight")
  }


def load(
  workdir: Path, digest: str, bits: Mapping[str, int]
) -> tuple[dict[str, Any], np.ndarray]:
  """(variables of a point under `Fixed`, its logits of the inputs reported).

  Raises:
    ConfigError: it is not there, or damaged.
  """
  path = path_of(workdir, digest)
  try:
    with np.load(path, allow_pickle=False) as stored:
      arrays = {key: stored[key] for key in stored.files if "/" in key}
      return unpacked(arrays, bits), stored["logits1"]
  except (OSError, ValueError, KeyError) as error:
    raise ConfigError(
      f"config.source: {path} cannot be read, a rounded network: {error}; make "
      "the run again in another workdir"
    ) from error


def adopt(lab: Lab) -> None:
  """Gives the lab of a finished run its network, and inputs to judge by.

  Raises:
    ConfigError: network or inputs cannot be read, or are others than those.
  """
  subject = subject_lib.of(lab.settings)
  refuse_changed(lab.workdir, subject)
  with np.load(lab.workdir / FLOAT, allow_pickle=False) as stored:
    logits = [stored[part] for part in ("validation", "test")]
  lab.adopt(subject.net, task_of(subject.net, *labelled(subject, *logits)))


def refuse_changed(workdir: Path, subject: Subject) -> None:
  """ConfigError if a run was begun with another network or other inputs."""
  images = subject.validation.images, subject.test.images
  refuse_others(workdir, "inputs", subject.calibration, *images)
  leaves = jax.tree.leaves(dict(subject.variables))
  refuse_others(workdir, "network", *map(np.asarray, leaves))


def labelled(
  subject: Subject, validation: np.ndarray, test: np.ndarray
) -> tuple[Part, Part]:
  """(to choose by, to report), without labels with the float network's classes.

  Args:
    subject: network and inputs.
    validation, test: logits of the float network for these inputs.
  """
  if subject.has_labels:
    return subject.validation, subject.test
  return (
    subject.validation._replace(labels=validation.argmax(-1)),
    subject.test._replace(labels=test.argmax(-1)),
  )


def task_of(net: Net, validation: Part, test: Part) -> Task:
  """What records ask of data: nothing is trained on it."""

  def held_out(part):
    images, labels = part
    ones = np.ones(len(images), np.float32)
    return HeldOut(
      lambda: iter([(images, labels, ones)]), lambda: independent(len(images))
    )

  def nothing(*_):
    raise ConfigError("inputs that calibrate are not trained on")

  return Task(
    input_shape=net.input_shape,
    classes=net.shapes[net.nodes[-1].name][2],
    draws=nothing,
    calibration_set=nothing,
    epoch=lambda: 0,
    validation=held_out(validation),
    test=held_out(test),
    batch=len(validation.images),
    about_test="",
  )
