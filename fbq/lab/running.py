"""How an experiment runs, which changes none of its numbers: flags of main.py.

Importing it loads nothing heavy: --help and wrong flags need not wait.
"""

import contextlib
import errno
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags, logging

_CACHE = flags.DEFINE_string(
  "compilation_cache",
  os.environ.get("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache/fbq")),
  "Where compiled programs are kept between runs; empty for nowhere.",
)
_DISTRIBUTED = flags.DEFINE_string(
  "distributed",
  "",
  "HOST:PORT,INDEX,COUNT: this is process INDEX of COUNT that train "
  "as one; process 0 listens there. 'auto': as Slurm, Open MPI or a pod say.",
)
_PROFILE = flags.DEFINE_string(
  "profile",
  "",
  "[STAGE:]FIRST:LAST: writes a JAX trace of these steps into the workdir.",
)
_TENSORBOARD = flags.DEFINE_bool(
  "tensorboard",
  False,
  "Write metrics for TensorBoard too, into the workdir.",
)


@contextlib.contextmanager
def prepared(workdir: Path) -> Iterator[Path]:
  """The directory to work in; errors that a user can mend end the program.

  Args:
    workdir: that was asked for; of several processes the first has it.
  """
  from fbq.config import ConfigError
  from fbq.data import DataError
  from fbq.train import monitoring, processes
  from fbq.train.checkpoints import CheckpointError
  from fbq.train.loop import Diverged
  from fbq.train.memory import OutOfMemory

  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)  # orbax tells every move
  if _CACHE.value:
    monitoring.keep_programs(_CACHE.value)
  with _told(ValueError, ModuleNotFoundError):
    trace = monitoring.span(_PROFILE.value) if _PROFILE.value else None
    options = monitoring.Options(_TENSORBOARD.value, trace)
    if options.tensorboard:
      monitoring.summary_writer()
    job = processes.job(_DISTRIBUTED.value)
  with (
    monitoring.monitored(options),
    processes.joined(job),
    processes.own_workdir(workdir) as own,
    _told(ConfigError, CheckpointError, DataError, Diverged, OutOfMemory),
    interruptible(),  # here too: of several processes each ends by itself
  ):
    yield own


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
  """Ends the program with a line where a reader pressed Ctrl-C."""
  try:
    yield
  except KeyboardInterrupt:
    # As a shell tells it: 128 + SIGINT. A line of its own after "^C".
    print(
      "\nstopped; give the same command again: it goes on from the last "
      "checkpoint and ends with the same numbers",
      file=sys.stderr,
    )
    sys.exit(130)


@contextlib.contextmanager
def _told(*kinds: type[Exception]) -> Iterator[None]:
  """Ends the program with a line for errors of these kinds or a full disk."""
  try:
    yield
  except kinds as error:
    sys.exit(f"error: {error}")
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    sys.exit(
      f"error: {error}. Free some space and give the same command again: the "
      "run goes on from its last checkpoint."
    )


def print_settings(given: Any) -> None:
  """Prints every setting of the experiment of a ConfigDict."""
  from fbq import config, config_words

  with _told(config.ConfigError):
    name = given.get("experiment")
    kind = config.brought("experiment", name, "experiment").settings
    values = config.of(kind, given)
  try:
    for row in config_words.table(kind, values=values):
      value: Any = values
      for part in row.name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
      now = f" = {value!r}"
      if repr(value) != row.default and row.default:
        now += f"  [default {row.default}]"
      text = f"{row.meaning} Takes {row.expected}."
      print(f"{row.name}{now}")
      print(textwrap.indent(textwrap.fill(text, 74), "    "))
    sys.stdout.flush()
  except BrokenPipeError:  # `| head` has read enough; so Python's manual says
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
