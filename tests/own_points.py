"""Runs that were not trained but look so, of experiments of a user's own.

Their records tell what an export asks for, and nothing else.
"""

import dataclasses
from typing import Any

from fbq import config as config_lib
from fbq import precision
from fbq.config import require
from fbq.lab import experiment, points, workdir
from fbq.lab.block_point import TrainedFormats
from fbq.lab.experiment import Experiment
from fbq.lab.fine_tuning import FineTuner, recipe_of
from fbq.lab.lab import Lab
from fbq.lab.settings import FineTuning, Qat, Stage, Training
from fbq.model import Model
from fbq.report.run import Run
from fbq.schemes.block_float import BlockFloat
from fbq.train.checkpoints import Checkpoints
from hwsim.bfp import BlockFormat
from tests.configs import tiny

ACCURACY = 0.5  # that every run reports


class OwnPoints(Training):
  """An experiment that ends in fine-tuned points, in its own words."""

  fine_tuning: FineTuning = FineTuning()
  "Training at given bits."
  qat: Qat = Qat()
  "Its rule."


@dataclasses.dataclass(frozen=True)
class Listed:
  """What it found: names of points."""

  names: tuple[str, ...]

  def table(self):
    """Rows of results.csv."""
    return [["name"], *([name] for name in self.names)]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return {"recommended": self.names[0], "points": dict.fromkeys(self.names)}


class OwnFormats(Training):
  """An experiment that ends in a network of block formats."""

  qat: Stage = Stage()
  "Training at given formats."


@dataclasses.dataclass(frozen=True)
class OneNetwork:
  """What it found."""

  formats: dict[str, BlockFormat]
  tops: tuple[int, ...]
  scheme: BlockFloat

  def table(self):
    """Rows of results.csv."""
    return [["name"], ["Short"]]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    return {"recommended": "Short"}

  def deployable(self, point: str) -> TrainedFormats:
    """The network of this name."""
    require(point in ("best", "Short"), "point", point, "'best' or 'Short'")
    return TrainedFormats(
      "Short", self.formats, self.tops, self.scheme, "qat-short"
    )


def _never(*_):
  raise AssertionError("these runs are finished")


POINTS = Experiment(OwnPoints, _never, _never, Listed, _never, _never)
FORMATS = Experiment(OwnFormats, _never, _never, OneNetwork, _never, _never)


def configured(experiment_name: str, **more: Any):
  """Settings of `tests.configs.tiny` for an experiment of this file."""
  base = tiny.get_config().to_dict()
  keys = ("net", "data", "float_training", "checkpoint_every", "log_every")
  given = {key: base[key] for key in keys} | more
  return config_lib.configured(f"tests.own_points:{experiment_name}", **given)


def lab_of(given, directory) -> Lab:
  """A lab at work in a directory."""
  kind = config_lib.brought("experiment", given["experiment"], "experiment")
  lab = Lab(config_lib.of(kind.settings, given))
  lab.open(directory)
  return lab


def finish(lab: Lab, results: Any) -> None:
  """Leaves the record of a run, and the mark that it is finished."""
  about = Run(settings=lab.settings.model_dump(mode="json"))
  experiment.save(lab.workdir, results, about)
  workdir.finish(lab.workdir, results.summary())


def keep(lab: Lab, name: str, trainer, variables, results) -> None:
  """Leaves the checkpoint of a finished training."""
  directory = lab.workdir / "checkpoints" / name
  checkpoints = Checkpoints(directory, f"{lab.fingerprint}:{name}")
  checkpoints.save(trainer.steps, trainer.start(variables), results)
  checkpoints.close()


def run_of_points(directory, name, assignment, variables, others=()) -> None:
  """A finished run with one trained point, and others that lack everything.

  Args:
    directory: workdir of the run.
    name, assignment: point, and bits of every site of the tiny network.
    variables: variables of the point under `Fixed`.
    others: names of further points.
  """
  lab = lab_of(configured("POINTS"), directory)
  precision.check_assignment(lab.net, assignment)
  points.save_precisions(lab, {name: assignment})
  settings = lab.settings
  tuner = FineTuner(lab, recipe_of(settings.qat), settings.fine_tuning)
  training = points.training_of(lab.net, assignment)
  keep(lab, training, tuner.trainer, variables, {"test_accuracy": ACCURACY})
  finish(lab, Listed((name, *others)))


def run_of_formats(directory, results: OneNetwork, variables) -> None:
  """A finished run with one trained network of block formats."""
  net = dict(builder="tests.configs.tiny_bitq:residual", arguments={})
  lab = lab_of(configured("FORMATS", net=net), directory)
  trainer = lab.trainer(lab.settings.qat, Model(lab.net), ("params",))
  keep(lab, "qat-short", trainer, variables, {"test": ACCURACY})
  finish(lab, results)
