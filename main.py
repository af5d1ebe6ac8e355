"""Runs one experiment: python main.py --config=configs/... --workdir=runs/..."""

import importlib
import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to run: a file in configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Where results go; a finished or begun one is continued."
)
_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache/fbq")),
  "Where compiled programs are kept between runs; empty for nowhere.",
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  import jax  # after the flags: --help and wrong flags need not wait for it

  from fbq.experiments.settings import ConfigError
  from fbq.train.checkpoints import CheckpointError
  from fbq.train.loop import Diverged

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # orbax tells every move
  if _CACHE.value:
    jax.config.update("jax_compilation_cache_dir", _CACHE.value)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  config = _CONFIG.value
  name = config.get("experiment", "")
  try:
    if not (Path(__file__).parent / f"fbq/experiments/{name}.py").is_file():
      raise ConfigError(
        f"config.experiment is {name!r}, expected a module of fbq.experiments"
      )
    experiment = importlib.import_module(f"fbq.experiments.{name}")
    experiment.run(config, Path(_WORKDIR.value))
  except (ConfigError, CheckpointError, Diverged) as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
