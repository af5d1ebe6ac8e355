"""The workdir of a run: claimed when it starts, marked when all is done."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fbq.config import ConfigError, Settings
from fbq.files import user_path, write_atomically

# Setting of a file -> what a claim calls its digest.
_DIGESTS = {
  "measured_latency": "measured_sha256",
  "float_checkpoint": "checkpoint_sha256",
}
FORMAT = 2  # of workdirs; other ones are refused


def claim_of(settings: Settings) -> dict[str, Any]:
  """The settings of a run, and digests of the files that they name.

  The content of such a file counts, not its name alone.

  Raises:
    ConfigError: a file cannot be read.
  """
  claim = {"fbq": FORMAT, **settings.model_dump(mode="json")}
  for setting, digest in _DIGESTS.items():
    if claim.get(setting):
      try:
        content = user_path(claim[setting]).read_bytes()
      except OSError as error:
        raise ConfigError(f"config.{setting}: {error}") from error
      claim[digest] = hashlib.sha256(content).hexdigest()
  return claim


def settings_of(claim: Mapping) -> dict[str, Any]:
  """The settings alone of what `claim_of` gave."""
  return {
    k: v for k, v in claim.items() if k not in ("fbq", *_DIGESTS.values())
  }


def fingerprint(claim: Mapping) -> str:
  """A short name of a configuration: equal settings, equal name."""
  text = json.dumps(claim, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_workdir(workdir: Path, claim: Mapping) -> str:
  """Makes the workdir of a run, or recognizes it as its own.

  Returns:
    The fingerprint of the configuration.

  Raises:
    ConfigError: the directory belongs to another configuration, to something
      else, or to a process that is still at work in it.
  """
  workdir = Path(workdir)
  path, lock = workdir / "config.json", workdir / ".lock"
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = set(workdir.glob("config.json.*.writing"))  # of a killed run
    given = set(workdir.iterdir()) - {lock}
    if path in given or not given - unfinished:
      _lock(lock)
    if path in given:
      _compare(path, claim)
      unfinished |= {*workdir.glob("*.writing"), *workdir.glob("*/*.writing")}
    elif given - unfinished:
      raise ConfigError(
        f"workdir {workdir} is not empty and has no config.json, so it is not "
        "one of fbq's; use another --workdir"
      )
    else:
      write_atomically(path, json.dumps(claim, indent=1) + "\n")
    for leftover in unfinished:
      leftover.unlink(missing_ok=True)
  except OSError as error:
    raise ConfigError(
      f"workdir {workdir} cannot be used: {error}; use another --workdir"
    ) from error
  return fingerprint(claim)


def _lock(path: Path) -> None:
  """Takes `path` for this process until it ends, however it ends."""
  holder = os.open(path, os.O_RDWR | os.O_CREAT)  # stays open for good
  try:
    fcntl.lockf(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(holder)
    raise ConfigError(
      f"another process is at work in workdir {path.parent}; wait for it, or "
      "use another --workdir"
    ) from None


def _compare(path, claim):
  """Raises ConfigError unless the file holds the same configuration."""
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
    raise ConfigError(
      f"{path} is damaged: {error}; use another --workdir, or delete this one"
    ) from error
  if not isinstance(found, dict) or found.get("fbq") != FORMAT:
    raise ConfigError(
      f"workdir {path.parent} was made by another version of fbq, which this "
      "one cannot resume; use another --workdir, or delete this one"
    )
  changed = _differences(found, claim)
  if changed:
    raise ConfigError(
      f"workdir {path.parent} belongs to another configuration; it differs in "
      f"{'; '.join(changed[:4])}. Use another --workdir, or delete this one."
    )


def _differences(found, expected, where="config"):
  if isinstance(found, Mapping) and isinstance(expected, Mapping):
    keys = sorted(set(found) | set(expected))
    return [
      text
      for key in keys
      for text in _differences(
        found.get(key), expected.get(key), f"{where}.{key}"
      )
    ]
  return [] if found == expected else [f"{where} ({found!r}, now {expected!r})"]


def is_finished(workdir: Path) -> bool:
  """Whether all of a run is done."""
  return (workdir / "result.json").exists()


def finish(workdir: Path, summary: Mapping[str, Any]) -> None:
  """Writes result.json, the mark that all is done."""
  write_atomically(
    workdir / "result.json", json.dumps(summary, indent=1) + "\n"
  )
