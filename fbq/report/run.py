"""What a page says of the run behind it."""

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Run:
  """How results came about; can be written as JSON.

  Attributes:
    command: with which it was started.
    next: command that goes on from here, and the words before it.
    commit: commit of the code, "+" if changed; "" without a checkout.
    facts: date, machine, versions and what else there is to say, by name.
    seeds: seeds of all that is random.
    stages: wall time in seconds of each stage.
    settings: all of them, resolved.
    assumptions: sentences about what the numbers rest on.
  """

  command: str = ""
  next: tuple[str, str] | None = None
  commit: str = ""
  facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
  seeds: Sequence[int] = ()
  stages: Mapping[str, float] = dataclasses.field(default_factory=dict)
  settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
  assumptions: Sequence[str] = ()


def command() -> str:
  """The command that started this program, ready to be given again."""
  return shlex.join(["python", *sys.argv])


def commit() -> str:
  """The commit of the checkout that this file is in, "+" if it was changed.

  "" where there is no checkout or no git.
  """
  folder = Path(__file__).parent

  def git(*arguments):
    return subprocess.run(
      ["git", "-C", folder, *arguments],
      capture_output=True,
      text=True,
      check=True,
    ).stdout.strip()

  try:
    # An installed copy may lie within the checkout of something else.
    git("ls-files", "--error-unmatch", __file__)
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
  except (OSError, subprocess.CalledProcessError):
    return ""


def machine() -> dict[str, str]:
  """Date, machine and versions, for `Run.facts`; of jax if it is in use."""
  facts = {
    "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    "versions": f"Python {platform.python_version()}",
  }
  jax = sys.modules.get("jax")
  if jax is not None:
    facts["machine"] += f", jax backend {jax.default_backend()}"
    facts["versions"] += f", jax {jax.__version__}"
  return facts
