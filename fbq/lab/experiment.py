"""An experiment, and how every one of them is run.

Results come before pages: the record that a pipeline returns is saved as
results.json and results.csv before any picture is drawn, and the page is made
from that record alone, at once or later by `python -m fbq.report WORKDIR`.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import pydantic
from ml_collections import ConfigDict

from fbq import config as config_lib
from fbq.config import ConfigError, Settings, brought
from fbq.files import write_atomically
from fbq.lab import workdir as workdir_lib
from fbq.lab.lab import Lab
from fbq.lab.settings import Training
from fbq.report import run as run_lib
from fbq.report.run import Run
from fbq.train.log import Log
from fbq.train.objective import CLASSIFICATION


class Results(Protocol):
  """The record of an experiment: a frozen dataclass of plain values."""

  def table(self) -> Iterable[Sequence[Any]]:
    """Rows of results.csv, the headings first."""
    ...

  def summary(self) -> Mapping[str, Any]:
    """What result.json says."""
    ...


class Experiment(NamedTuple):
  """An experiment, made of four files that a fork copies.

  Attributes:
    settings: what it can be set to, a subclass of `Settings`.
    check: (settings, lab): raises ConfigError for what cannot work; builds of
      the lab what the experiment needs, and trains nothing.
    run: (settings, lab) -> record; the whole method.
    results: class of the record, or a union of classes.
    write: (record, run, workdir): writes page and pictures.
    tell: (record, log): prints the answer.
    any_task: whether it takes networks that are no classifiers.
  """

  settings: type[Settings]
  check: Callable[[Any, Lab], None]
  run: Callable[[Any, Lab], Results]
  results: Any
  write: Callable[[Any, Run, Path], None]
  tell: Callable[[Any, Log], None]
  any_task: bool = False


def run(given: ConfigDict, directory: Path) -> str:
  """Carries out an experiment in `directory`, or what is left of it to do.

  Returns:
    What of it failed, in one line; "" if nothing did.

  Raises:
    ConfigError: a setting at fault, before anything is written.
  """
  # ---- All that can be wrong is found before anything is written or trained
  experiment = brought("experiment", given.get("experiment"), "experiment")
  settings = config_lib.of(experiment.settings, given)
  workdir_lib.refuse_foreign(directory, settings)
  lab = Lab(settings)
  experiment.check(settings, lab)
  _check_task(experiment, settings, lab)
  lab.open(directory)
  if workdir_lib.is_finished(directory):
    lab.log.say(f"{directory} is finished: see {directory / 'report.html'}")
    return workdir_lib.failure(directory)

  # ---- The method, then its numbers, then what people look at
  lab.log.say(_beginning(directory))
  with lab.log.alive(lambda: str(lab.clock)):
    results = experiment.run(settings, lab)
  about = _about(settings, lab)
  save(directory, results, about)
  experiment.write(results, about, directory)
  experiment.tell(results, lab.log)
  lab.log.say(f"Report: {directory / 'report.html'}")
  workdir_lib.finish(directory, results.summary())
  return workdir_lib.failure(directory)


def _check_task(experiment: Experiment, settings: Any, lab: Lab) -> None:
  """Raises ConfigError for a task that the experiment cannot judge."""
  if experiment.any_task or not isinstance(settings, Training):
    return
  metric = lab.task.objective.metric_name
  if metric != CLASSIFICATION.metric_name:
    raise ConfigError(
      f"config.data is judged by {metric}, expected classes of images; of "
      "other tasks take experiment='bitq', 'exact' or 'free_bits'"
    )


def _beginning(directory: Path) -> str:
  """What to know while it runs."""
  said = f"In {directory}. Stopped, it goes on by the same command."
  if cache := getattr(jax.config, "jax_compilation_cache_dir", None):
    said += f" Compiled programs: {cache} (--compilation_cache)."
  return said


def save(directory: Path, results: Results, about: Run) -> None:
  """Writes results.json, from which a page can be made, and results.csv."""
  write_atomically(directory / "results.csv", as_csv(results.table()))
  record = {
    "run": dataclasses.asdict(about),
    "results": _adapter(type(results)).dump_python(results, mode="json"),
  }
  write_atomically(directory / "results.json", json.dumps(record, indent=1))


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
  """Rows as the text of a CSV file."""
  text = io.StringIO(newline="")
  csv.writer(text, lineterminator="\n").writerows(rows)
  return text.getvalue()


def load(directory: Path) -> tuple[Experiment, Any, Run]:
  """The experiment of a finished run, its record and what is known of the run.

  Raises:
    ConfigError: the directory holds no results, or damaged ones.
  """
  path = directory / "results.json"
  try:
    record = json.loads(path.read_text())
    about = Run(**record["run"])
    experiment = brought(
      "experiment", about.settings["experiment"], "experiment"
    )
    results = _adapter(experiment.results).validate_python(record["results"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ConfigError(
      f"{path} cannot be read: {' '.join(str(error).split())[:300]}; give the "
      "workdir of a run that has results"
    ) from error
  return experiment, results, about


def _about(settings, lab):
  plain = settings.model_dump(mode="json")
  return Run(
    command=run_lib.command(),
    commit=run_lib.commit(),
    facts=run_lib.machine(),
    seeds=plain.get("seeds", [plain[k] for k in ("seed",) if k in plain]),
    stages=dict(lab.clock.seconds),
    settings=plain,
  )


def _adapter(kind: Any) -> pydantic.TypeAdapter:
  return pydantic.TypeAdapter(kind)
