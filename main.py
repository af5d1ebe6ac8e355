"""Runs an experiment: python main.py --config=configs/... --workdir=runs/..."""

import os
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

from fbq.files import user_path
from fbq.lab import running

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go.")
_SETTINGS = flags.DEFINE_bool(
  "settings",
  False,
  "Print every setting of the experiment, its bounds and what it means; end.",
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  if _SETTINGS.value:
    running.print_settings(_CONFIG.value)
    return
  if not _WORKDIR.value:
    raise app.UsageError("--workdir must have a value: where results go")
  with running.prepared(user_path(_WORKDIR.value)) as workdir:
    from fbq.lab import experiment

    failure = experiment.run(_CONFIG.value, workdir)
  if failure:
    sys.exit(f"error: {failure}")


def _parse_flags(arguments):
  """What is left of the command line; what is wrong in it takes one line."""
  try:
    rest = flags.FLAGS(arguments)
    _CONFIG.value.get("experiment")  # OSError if the file cannot be read
    return rest
  except flags.Error as error:
    problem = _of_flags(str(error))
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
    problem = f"{' '.join(given)}: no such setting: {problem}; --settings "
    problem += "lists them"
  sys.exit(" ".join(f"error: {problem}".split()))


def _of_flags(text):
  """What absl says of a wrong flag, in a line if a user is at fault."""
  _, ours, message = text.partition("ConfigError: ")
  if ours:  # of the config file: a word after its colon
    return message
  if "Traceback" in text:
    sys.exit(f"error: {text}")  # a mistake inside of the config file
  if "invalid literal for int" in text or "could not convert" in text:
    text += "; the config has a number there: give one, or change the config"
  return text


def _start_with_large_pages():
  """Starts anew with glibc's large pages, read at start: see the Makefile."""
  if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
  _start_with_large_pages()
  flags.mark_flag_as_required("config")
  app.run(main, flags_parser=_parse_flags)
