"""Runs an experiment: python main.py --config=configs/... --workdir=runs/..."""

import os
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from fbq.files import user_path
from fbq.lab import command_line, running

_CONFIGS = Path(__file__).parent / "configs"
_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go.")
_SETTINGS = flags.DEFINE_bool(
  "settings",
  False,
  "Print every setting of the experiment, its bounds and what it means; end.",
)


def main(argv):
  if len(argv) > 1:
    sys.exit(
      f"error: unexpected arguments {argv[1:]}, expected --NAME=VALUE; --help "
      "lists them"
    )
  if _SETTINGS.value:
    running.print_settings(_CONFIG.value)
    return
  if not _WORKDIR.value:
    sys.exit("error: --workdir must have a value: where results go")
  with (
    running.interruptible(),
    running.prepared(user_path(_WORKDIR.value)) as workdir,
  ):
    from fbq.lab import experiment

    failure = experiment.run(_CONFIG.value, workdir)
  if failure:
    sys.exit(f"error: {failure}")


def _start_with_large_pages():
  """Starts anew with glibc's large pages, read at start: see the Makefile."""
  if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
  _start_with_large_pages()
  __doc__ = command_line.help_text(__doc__, _CONFIGS)
  flags.adopt_module_key_flags(running)
  flags.mark_flag_as_required("config")
  app.run(
    main,
    flags_parser=command_line.parser(
      lambda: _CONFIG.value.get("experiment"), _CONFIGS
    ),
  )
