"""A run that was not trained but looks so, of an experiment of a user's own.

It tells what an export asks for, and nothing else; its hardware is XpulpV2 if
nothing else is said.
"""

import dataclasses
from typing import Any

from fbq import config as config_lib
from fbq.lab import experiment, points, workdir
from fbq.lab.experiment import Experiment
from fbq.lab.fine_tuning import FineTuner, recipe_of
from fbq.lab.lab import Lab
from fbq.lab.settings import FineTuning, OnTarget, Qat, Training
from fbq.report.run import Run
from fbq.train.checkpoints import Checkpoints
from tests.configs import tiny

ACCURACY = 0.5  # that the run reports


class OwnPoints(Training, OnTarget):
  """An experiment that ends in fine-tuned points."""

  fine_tuning: FineTuning = FineTuning()
  "Training at given bits."
  qat: Qat = Qat()
  "Its rule."


@dataclasses.dataclass(frozen=True)
class Listed:
  """What it found: names of points, the best first."""

  names: tuple[str, ...]

  def table(self):
    """Rows of results.csv."""
    return [["name"], *([name] for name in self.names)]

  def summary(self) -> dict[str, Any]:
    """What result.json says."""
    if not self.names:
      return {}
    return {"recommended": self.names[0], "points": dict.fromkeys(self.names)}


def _never(*_):
  raise AssertionError("this run is finished")


EXPERIMENT = Experiment(OwnPoints, _never, _never, Listed, _never, _never)


def opened(directory, **changes) -> Lab:
  """A lab of the experiment at work in a directory.

  Args:
    directory: workdir of the run.
    **changes: settings instead of those of the tiny config.
  """
  base = tiny.get_config().to_dict()
  keys = ("net", "data", "float_training", "checkpoint_every", "log_every")
  given = {key: base[key] for key in keys}
  given |= {"target": "xpulp_v2", **changes}
  given = config_lib.configured("tests.own_points:EXPERIMENT", **given)
  lab = Lab(config_lib.of(OwnPoints, given))
  lab.open(directory)
  return lab


def finish(lab: Lab, *names: str) -> None:
  """Leaves the record of a run, and the mark that it is finished."""
  found = Listed(names)
  about = Run(settings=lab.settings.model_dump(mode="json"))
  experiment.save(lab.workdir, found, about)
  workdir.finish(lab.workdir, found.summary())


def finished(
  directory, name, assignment, variables, *others, **changes
) -> None:
  """A finished run with one trained point, and others that lack everything.

  Args:
    directory: workdir of the run.
    name, assignment: point, and bits of every site of the tiny network.
    variables: variables of the point under `Fixed`.
    *others: names of further points.
    **changes: as for `opened`.
  """
  lab = opened(directory, **changes)
  points.save_precisions(lab, {name: assignment})
  settings = lab.settings
  tuner = FineTuner(lab, recipe_of(settings.qat), settings.fine_tuning)
  training = points.training_of(lab.net, assignment)
  checkpoints = Checkpoints(
    directory / "checkpoints" / training, f"{lab.fingerprint}:{training}"
  )
  state = tuner.trainer.start(variables)
  checkpoints.save(tuner.trainer.steps, state, {"test_accuracy": ACCURACY})
  checkpoints.close()
  finish(lab, name, *others)
