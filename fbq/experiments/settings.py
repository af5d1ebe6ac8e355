"""Checks of a configuration before anything long starts."""

import difflib
import fcntl
import hashlib
import json
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fbq.report.tables import write_atomically

# Setting of a file -> what a claim calls its digest.
_DIGESTS = {
  "measured_latency": "measured_sha256",
  "float_checkpoint": "checkpoint_sha256",
}


class ConfigError(ValueError):
  """A setting that cannot be used; the message names it."""


class Optional(NamedTuple):
  """In a template: a setting that may be left out, and what it is else."""

  kind: Any


def check_keys(
  given: Mapping, template: Mapping, where: str = "config"
) -> None:
  """Raises ConfigError unless `given` has the keys and types of `template`.

  Args:
    given: nested settings.
    template: the same with a type or tuple of types as leaves; `dict` allows
      any keys below; `Optional` stands around what may be left out.
    where: name of `given` in messages.
  """
  for key in given:
    if key not in template:
      close = difflib.get_close_matches(key, list(template), 1)
      hint = f"; did you mean {close[0]!r}?" if close else "."
      raise ConfigError(
        f"{where}.{key} is no setting of this experiment{hint} It has "
        f"{', '.join(template)}."
      )
  for key, expected in template.items():
    name = f"{where}.{key}"
    if isinstance(expected, Optional):
      if key not in given:
        continue
      expected = expected.kind
    if key not in given:
      raise ConfigError(f"{name} is missing")
    if isinstance(expected, Mapping):
      if not isinstance(given[key], Mapping):
        raise ConfigError(f"{name} is {given[key]!r}, expected settings")
      check_keys(given[key], expected, name)
    elif not _is(given[key], expected):
      raise ConfigError(
        f"{name} is {given[key]!r} ({type(given[key]).__name__}), expected "
        f"{_name(expected)}"
      )


def require(condition: bool, name: str, value: Any, expected: str) -> None:
  """Raises ConfigError that says what was given and what was expected."""
  if not condition:
    raise ConfigError(f"config.{name} is {value!r}, expected {expected}")


def claim_of(config: Any) -> dict[str, Any]:
  """The settings of a run, and digests of the files that they name.

  The content of such a file counts, not its name alone.

  Args:
    config: ConfigDict of an experiment.
  """
  claim = config.to_dict()
  for setting, digest in _DIGESTS.items():
    if claim.get(setting):
      content = Path(claim[setting]).read_bytes()
      claim[digest] = hashlib.sha256(content).hexdigest()
  return claim


def without_digests(claim: Mapping) -> dict[str, Any]:
  """The settings alone of what `claim_of` gave."""
  return {k: v for k, v in claim.items() if k not in _DIGESTS.values()}


def fingerprint(config: Mapping) -> str:
  """A short name of a configuration: equal settings, equal name."""
  text = json.dumps(_plain(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_workdir(workdir: Path, config: Mapping) -> str:
  """Makes the workdir of a run, or recognizes it as its own.

  Returns:
    The fingerprint of the configuration.

  Raises:
    ConfigError: the directory belongs to another configuration, to something
      else, or to a process that is still at work in it.
  """
  workdir = Path(workdir)
  plain = _plain(config)
  path, lock = workdir / "config.json", workdir / ".lock"
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = set(workdir.glob("config.json.*.writing"))  # of a killed run
    given = set(workdir.iterdir()) - {lock}
    if path in given or not given - unfinished:
      _lock(lock)
    if path in given:
      _compare(path, plain)
      unfinished |= {*workdir.glob("*.writing"), *workdir.glob("*/*.writing")}
    elif given - unfinished:
      raise ConfigError(
        f"workdir {workdir} is not empty and has no config.json, so it is not "
        "one of fbq's; use another --workdir"
      )
    else:
      write_atomically(path, (json.dumps(plain, indent=1) + "\n").encode())
    for leftover in unfinished:
      leftover.unlink(missing_ok=True)
  except OSError as error:
    raise ConfigError(
      f"workdir {workdir} cannot be used: {error}; use another --workdir"
    ) from error
  return fingerprint(config)


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


def _compare(path, plain):
  """Raises ConfigError unless the file holds the same configuration."""
  try:
    found = json.loads(path.read_text())
  except ValueError as error:
    raise ConfigError(
      f"{path} is damaged: {error}; use another --workdir, or delete this one"
    ) from error
  changed = _differences(found, plain)
  if changed:
    raise ConfigError(
      f"workdir {path.parent} belongs to another configuration; it differs in "
      f"{'; '.join(changed[:4])}. Use another --workdir, or delete this one."
    )


def _plain(value):
  """`value` as JSON has it."""
  return json.loads(json.dumps(_convert(value)))


def _convert(value):
  if isinstance(value, Mapping):
    return {key: _convert(value[key]) for key in value}
  if isinstance(value, (list, tuple)):
    return [_convert(item) for item in value]
  return value


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


def _is(value, expected):
  if isinstance(expected, tuple):
    return any(_is(value, kind) for kind in expected)
  if expected is float:  # a whole number will do
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
  if expected is int:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if expected is list:
    return isinstance(value, (list, tuple))
  if expected is dict:
    return isinstance(value, Mapping)
  return isinstance(value, expected)


def _name(expected):
  kinds = expected if isinstance(expected, tuple) else (expected,)
  return " or ".join(kind.__name__ for kind in kinds)
