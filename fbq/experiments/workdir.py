"""The workdir of a run: taken when it starts, marked when all is done."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fbq.experiments import settings
from fbq.report.tables import write_atomically
from fbq.train.log import Log, Stopwatch


class Opened(NamedTuple):
  """What a run works with.

  Attributes:
    fingerprint: of its configuration.
    log: of its metrics.
    clock: of its stages.
  """

  fingerprint: str
  log: Log
  clock: Stopwatch


def opened(
  workdir: Path, claim: Mapping, report: str = "report.html"
) -> Opened | None:
  """A workdir to work in; None, and a line that says so, if all is done.

  Args:
    workdir: made if it is missing.
    claim: the configuration, see `settings.claim_workdir`.
    report: its name, for that line.

  Raises:
    ConfigError: the directory is somebody else's.
  """
  fingerprint = settings.claim_workdir(workdir, claim)
  log = Log(workdir / "metrics.jsonl")
  if (workdir / "result.json").exists():
    log.say(f"{workdir} is finished: see {workdir / report}")
    return None
  return Opened(fingerprint, log, Stopwatch())


def finish(workdir: Path, summary: Mapping[str, Any]) -> None:
  """Writes result.json, the mark that all is done."""
  text = json.dumps(summary, indent=1) + "\n"
  write_atomically(workdir / "result.json", text.encode())
