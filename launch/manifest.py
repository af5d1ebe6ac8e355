"""The points of a sweep and the file that holds them, points.jsonl.

A line is one point. Its checksum tells a damaged line from a good one; its id
names the resolved configuration, whatever overrides of whatever file led to it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fbq.files import write_atomically


class SweepError(ValueError):
  """A sweep that cannot be run; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Point:
  """One configuration of a sweep.

  Attributes:
    id: digest of the resolved configuration.
    config: the --config of main.py.
    overrides: {name below --config.: value of plain Python}.
  """

  id: str
  config: str
  overrides: Mapping[str, Any]

  @property
  def arguments(self) -> list[str]:
    """What main.py gets to run it, but for the workdir."""
    return [
      f"--config={self.config}",
      *(f"--config.{name}={text(v)}" for name, v in self.overrides.items()),
    ]


def workdir(sweep: Path, point: Point) -> Path:
  """Where main.py puts the results of a point."""
  return sweep / "points" / point.id


def text(value: Any) -> str:
  """A value as it is written on the command line of main.py."""
  return value if isinstance(value, str) else repr(_with_tuples(value))


def digest(value: Any) -> str:
  """12 hex digits: equal for equal values, whatever the order of their keys."""
  written = json.dumps(value, sort_keys=True)
  return hashlib.sha256(written.encode()).hexdigest()[:12]


def read(sweep: Path) -> tuple[list[Point], list[str]]:
  """The good lines of a sweep's manifest, and what is wrong with each other."""
  path, points, problems = sweep / "points.jsonl", [], []
  lines = path.read_bytes().splitlines() if path.exists() else []
  for number, line in enumerate(lines, start=1):
    try:
      fields = json.loads(line)
      if fields.pop("check") != digest(fields):
        raise ValueError
      points.append(Point(**fields))
    except (ValueError, TypeError, KeyError, AttributeError):
      problems.append(f"{path}, line {number} is damaged")
  return points, problems


def write(sweep: Path, points: Iterable[Point]) -> None:
  """Puts the manifest of a sweep there whole."""
  fields = [dataclasses.asdict(point) for point in points]
  lines = [json.dumps(f | {"check": digest(f)}) + "\n" for f in fields]
  sweep.mkdir(parents=True, exist_ok=True)
  write_atomically(sweep / "points.jsonl", "".join(lines))


def _with_tuples(value):
  """Lists as tuples, as configurations have them."""
  if isinstance(value, Mapping):
    return {name: _with_tuples(inner) for name, inner in value.items()}
  if isinstance(value, (list, tuple)):
    return tuple(map(_with_tuples, value))
  return value
