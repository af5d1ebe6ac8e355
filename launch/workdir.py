"""Where everything of a sweep lies."""

import dataclasses
import os
import sys
from pathlib import Path

from launch.manifest import Point

MAIN = Path(__file__).parents[1] / "main.py"


@dataclasses.dataclass(frozen=True)
class Sweep:
  """The directory of a sweep.

  Attributes:
    workdir: holds points.jsonl, points/, claims/, logs/.
    program: main.py or another with its flags --config and --workdir.
  """

  workdir: Path
  program: Path = MAIN

  @property
  def manifest(self) -> Path:
    return self.workdir / "points.jsonl"

  @property
  def claims(self) -> Path:
    return self.workdir / "claims"

  def run_of(self, point: Point) -> Path:
    """The workdir of main.py, which must find nothing else in it."""
    return self.workdir / "points" / point.id

  def log_of(self, point: Point) -> Path:
    return self.workdir / "logs" / f"{point.id}.txt"

  def is_done(self, point: Point) -> bool:
    return (self.run_of(point) / "result.json").exists()

  def command(self, point: Point) -> list[str]:
    """What runs a point."""
    return [
      *(sys.executable, "-u", str(self.program)),
      *point.arguments,
      f"--workdir={self.run_of(point)}",
    ]


def last_error(log: Path, start: int = 0) -> str:
  """The last line of a log that tells an error, else its last line."""
  with log.open("rb") as file:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(start, end - 65536))
    lines = file.read().decode(errors="replace").splitlines()
  lines = [line.strip() for line in lines if line.strip()]
  errors = [line for line in lines if line.startswith(("error:", "FATAL"))]
  return (errors or lines or ["it printed nothing"])[-1][:400]
