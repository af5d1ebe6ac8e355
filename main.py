"""Runs an experiment: python main.py --config=configs/... --workdir=runs/..."""

import importlib
import os
import sys
import traceback
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from fbq.experiments import running

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go.")


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  config, workdir = _CONFIG.value, Path(_WORKDIR.value or "")
  with running.prepared(workdir) as workdir:
    from fbq.experiments.settings import ConfigError

    name, experiment = config.get("experiment", ""), None
    if (Path(__file__).parent / f"fbq/experiments/{name}.py").is_file():
      experiment = importlib.import_module(f"fbq.experiments.{name}")
    if not hasattr(experiment, "run"):
      raise ConfigError(
        f"config.experiment is {name!r}, expected a pipeline of fbq.experiments"
      )
    experiment.run(config, workdir)


def _parse_flags(arguments):
  """What is left of the command line; what is wrong in it takes one line."""
  try:
    rest = app.parse_flags_with_usage(arguments)
    _CONFIG.value.get("experiment")  # OSError if the file cannot be read
    return rest
  except OSError as error:
    problem = error.__cause__ or error
  except (LookupError, AttributeError, TypeError) as error:
    frames = traceback.extract_tb(error.__traceback__)
    if not any("config_path.py" in frame.filename for frame in frames):
      raise  # a mistake inside of the config file
    problem = error
    while isinstance(problem, Exception):
      problem = problem.args[0]
    given = [text for text in arguments if text.startswith("--config.")]
    problem = f"{' '.join(given)}: no such setting: {problem}"
  sys.exit(" ".join(f"error: {problem}".split()))


def _start_with_large_pages():
  """Starts anew with glibc's large pages, read at start: see the Makefile."""
  if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
  _start_with_large_pages()
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main, flags_parser=_parse_flags)
