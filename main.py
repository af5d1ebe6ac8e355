"""Runs an experiment: python main.py --config=configs/... --workdir=runs/..."""

import importlib
import os
import sys
import traceback
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go.")
_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache/fbq")),
  "Where compiled programs are kept between runs; empty for nowhere.",
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  import jax  # here: --help and wrong flags need not wait for it

  from fbq.experiments.settings import ConfigError
  from fbq.train.checkpoints import CheckpointError
  from fbq.train.loop import Diverged

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # orbax tells every move
  if _CACHE.value:
    jax.config.update("jax_compilation_cache_dir", _CACHE.value)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  name, experiment = _CONFIG.value.get("experiment", ""), None
  if (Path(__file__).parent / f"fbq/experiments/{name}.py").is_file():
    experiment = importlib.import_module(f"fbq.experiments.{name}")
  try:
    if not hasattr(experiment, "run"):
      raise ConfigError(
        f"config.experiment is {name!r}, expected a pipeline of fbq.experiments"
      )
    experiment.run(_CONFIG.value, Path(_WORKDIR.value or ""))
  except (ConfigError, CheckpointError, Diverged) as error:
    sys.exit(f"error: {error}")


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
