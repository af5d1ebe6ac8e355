"""The points of a sweep and the file that holds them, points.jsonl.

A line of points.jsonl is one point and keeps its place for ever, because the
tasks of a Slurm array count lines. A checksum in every line tells a damaged one
from a good one; an id names the resolved configuration, whatever overrides of
whatever file led to it.
"""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class SweepError(ValueError):
  """A sweep that cannot be run; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Point:
  """One configuration of a sweep.

  Attributes:
    id: digest of the resolved configuration.
    config: the --config of main.py.
    overrides: {name below --config.: value}.
    in_sweep: False once the sweep file no longer gives it; it is not run then.
  """

  id: str
  config: str
  overrides: Mapping[str, Any]
  in_sweep: bool = True

  @property
  def arguments(self) -> list[str]:
    """What main.py gets to run it, but for the workdir."""
    return [
      f"--config={self.config}",
      *(f"--config.{name}={text(v)}" for name, v in self.overrides.items()),
    ]


class Merged(NamedTuple):
  """A manifest brought up to date, and the points that came and went."""

  points: list[Point]
  added: list[Point]
  removed: list[Point]


def text(value: Any) -> str:
  """A value as it is written on the command line of main.py."""
  return value if isinstance(value, str) else repr(_tuples(value))


def point_id(resolved: Mapping) -> str:
  """12 hex digits: equal for equal values, whatever the order of their keys.

  Raises:
    SweepError: a value has no JSON.
  """
  try:
    written = json.dumps(resolved, sort_keys=True)
  except TypeError as error:
    raise SweepError(f"the configuration has no JSON: {error}") from error
  return hashlib.sha256(written.encode()).hexdigest()[:12]


def read(path: Path) -> tuple[list[Point], list[str]]:
  """The good lines of a manifest, and what is wrong with each bad one.

  No file has no points. Every problem names the file and the line.
  """
  if not path.exists():
    return [], []
  points, problems, lines = [], [], {}
  for number, line in enumerate(_split(path), start=1):
    try:
      point = _parse(line, number)
      if point.id in lines:
        raise ValueError(f"id {point.id} is that of line {lines[point.id]}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
      problems.append(f"{path}, line {number}: {error}")
    else:
      lines[point.id] = number
      points.append(point)
  return points, problems


def load(path: Path) -> list[Point]:
  """All points of a manifest.

  Raises:
    SweepError: a line is damaged; all of them are named.
  """
  points, problems = read(path)
  if problems:
    raise SweepError(
      "\n".join(problems)
      + "\nNothing was run. Put the line right or, to have the manifest "
      "written anew, delete the file and run the sweep again: points keep "
      "their ids and finished ones are not run again."
    )
  return points


def load_line(path: Path, index: int) -> Point:
  """The point on one line, counted from 0; other lines may be damaged.

  Raises:
    SweepError: the line is damaged or is not there.
  """
  lines = _split(path)
  if not 0 <= index < len(lines):
    raise SweepError(f"{path} has {len(lines)} lines, no line {index + 1}")
  try:
    return _parse(lines[index], index + 1)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise SweepError(f"{path}, line {index + 1}: {error}") from error


def merge(old: Sequence[Point], new: Sequence[Point]) -> Merged:
  """The points of a changed sweep: old ones keep their place, new ones follow.

  What is no longer in the sweep stays, marked.
  """
  by_id = {point.id: point for point in new}
  known = {point.id for point in old}
  gone = [
    dataclasses.replace(point, in_sweep=False)
    for point in old
    if point.id not in by_id
  ]
  marked = {point.id: point for point in gone}
  added = [point for point in by_id.values() if point.id not in known]
  points = [by_id.get(p.id) or marked[p.id] for p in old] + added
  return Merged(points, added, gone)


def write(path: Path, points: Sequence[Point]) -> None:
  """Puts the manifest there whole, or leaves it alone if nothing changed."""
  lines = [_line(*numbered) for numbered in enumerate(points, start=1)]
  data = "".join(f"{line}\n" for line in lines).encode()
  if not path.exists() or path.read_bytes() != data:
    write_atomically(path, data)


def write_atomically(path: Path, data: bytes) -> None:
  """Puts `data` at `path`: a reader finds all of it or the file before it."""
  temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
  try:
    with temporary.open("wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def _split(path):
  """Lines without their ends; a last one that has no end counts."""
  lines = path.read_bytes().split(b"\n")
  return lines if lines[-1] else lines[:-1]


def _line(number, point):
  fields = {"line": number, **dataclasses.asdict(point)}
  return json.dumps(fields | {"check": _check(fields)})


def _parse(line, number):
  fields = json.loads(line)
  check = fields.pop("check")
  if _check(fields) != check:
    raise ValueError(
      f"is damaged: its check is {check!r}, not that of its text"
    )
  # A lost line end would give every later task the point of another.
  if (written := fields.pop("line")) != number:
    raise ValueError(f"is line {written} in the wrong place")
  return Point(**fields)


def _check(fields):
  written = json.dumps(fields, sort_keys=True).encode()
  return hashlib.sha256(written).hexdigest()[:8]


def _tuples(value):
  """Lists as tuples, as configurations have them."""
  if isinstance(value, (list, tuple)):
    return tuple(map(_tuples, value))
  return value


def count_repeated(points: Sequence[Point]) -> int:
  """Number of points whose configuration an earlier one has already."""
  return sum(n - 1 for n in collections.Counter(p.id for p in points).values())
