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

# Setting of a file, or of the workdir of a run -> name of its digest in claims.
_DIGESTS = {
  "measured_latency": "measured_sha256",
  "float_checkpoint": "checkpoint_sha256",
  "source": "source_sha256",
  "model": "model_sha256",
}
FORMAT = 3  # of workdirs; other ones are refused
RESULT = "result.json"  # the mark that all is done


def claim_of(settings: Settings) -> dict[str, Any]:
  """The settings of a run, and digests of the files that they name.

  The content of such a file counts, not its name alone; that of a run is its
  result.json.

  Raises:
    ConfigError: a file cannot be read.
  """
  claim: dict[str, Any] = {"fbq": FORMAT, **settings.model_dump(mode="json")}
  for setting, digest in _DIGESTS.items():
    if claim.get(setting):
      path = user_path(claim[setting])
      try:
        content = (path / RESULT if path.is_dir() else path).read_bytes()
      except (OSError, ValueError) as error:
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

    # Locked before it is read, but never what is somebody else's
    if path in given or not given - unfinished:
      _lock(lock)
    if path in given:
      _compare(workdir, claim)
      unfinished |= {*workdir.glob("*.writing"), *workdir.glob("*/*.writing")}
    elif given - unfinished:
      raise _not_ours(workdir)
    else:
      write_atomically(path, json.dumps(claim, indent=1) + "\n")

    # What a killed process was writing is written again
    for leftover in unfinished:
      leftover.unlink(missing_ok=True)
  except OSError as error:
    raise _unusable(workdir, error) from error
  return fingerprint(claim)


def refuse_foreign(workdir: Path, settings: Settings) -> None:
  """Raises ConfigError for a directory that `claim_workdir` would refuse.

  It looks at names and settings alone, which takes no time, and writes nothing.
  """
  if not os.path.exists(workdir):
    return
  try:
    given = {path.name for path in workdir.iterdir()}
  except OSError as error:
    raise _unusable(workdir, error) from error
  if "config.json" in given:
    settings_now = {"fbq": FORMAT, **settings.model_dump(mode="json")}
    _compare(workdir, settings_now, settings_of)
  elif any(
    name != ".lock" and not name.startswith("config.json.") for name in given
  ):
    raise _not_ours(workdir)


def _unusable(workdir, error):
  return ConfigError(
    f"workdir {workdir} cannot be used: {error}; use another --workdir"
  )


def _not_ours(workdir):
  return ConfigError(
    f"workdir {workdir} is not empty and has no config.json, so it is not "
    "one of fbq's; use another --workdir"
  )


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


def read_claim(workdir: Path) -> dict[str, Any]:
  """What the config.json of a workdir says.

  Raises:
    ConfigError: it is missing or damaged, or of another version of fbq.
  """
  path = workdir / "config.json"
  try:
    found = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError) as error:
    seen = "" if workdir.is_absolute() else f", seen from {Path.cwd()}"
    raise ConfigError(
      f"{path} cannot be read: {error.strerror}{seen}; expected the workdir of "
      "a run"
    ) from error
  except (OSError, ValueError) as error:
    raise ConfigError(f"{path} cannot be read: {error}") from error
  if not isinstance(found, dict) or found.get("fbq") != FORMAT:
    raise ConfigError(
      f"workdir {workdir} was made by another version of fbq, which this one "
      "cannot read"
    )
  return found


def _compare(workdir, claim, part=lambda found: found):
  """Raises ConfigError unless a workdir is of the same configuration."""
  advice = "use another --workdir, or delete this one"
  try:
    found = read_claim(workdir)
  except ConfigError as error:
    raise ConfigError(f"{error}; {advice}") from error
  found, claim = part(found), part(claim)
  changed = _differences(found, claim)
  other = [text for text in changed if text.startswith("config.experiment ")]
  changed = other or changed  # of another experiment everything differs
  if changed:
    raise ConfigError(
      f"workdir {workdir} belongs to another configuration; it differs in "
      f"{'; '.join(changed[:4])}; {advice}"
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
  return (workdir / RESULT).exists()


def finish(workdir: Path, summary: Mapping[str, Any]) -> None:
  """Writes result.json, the mark that all is done."""
  write_atomically(workdir / RESULT, json.dumps(summary, indent=1) + "\n")


def failure(workdir: Path) -> str:
  """What of a finished run failed, in one line; "" if nothing did.

  Parts that may fail alone stand in result.json: "failed": {part: reason}.
  """
  try:
    failed = json.loads((workdir / RESULT).read_text()).get("failed", {})
  except (ValueError, AttributeError) as error:
    raise ConfigError(
      f"{workdir / RESULT} is damaged: {error}; delete it, and what is missing "
      "is made again"
    ) from error
  if not failed:
    return ""
  reasons = "; ".join(f"{part}: {reason}" for part, reason in failed.items())
  return f"{len(failed)} failed, all else is in {workdir}: {reasons}"
