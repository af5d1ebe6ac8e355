"""One CSV of all finished points of a sweep, and a picture of their front."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from fbq.files import write_atomically
from launch import manifest
from launch.manifest import Point, SweepError

COST = "cycles"
# What a sweep's networks are judged by, the first that a row has
VALUES = ("accuracy", "box_AP", "mask_AP", "mIoU")


def collect(sweep: Path, points: Sequence[Point], by: str | None = None) -> str:
  """Writes results.csv and front.svg of a sweep; tells what is in them.

  The table has every row of every finished point's results.csv, or one with the
  numbers and texts of its result.json, behind its id and overrides.

  Args:
    by: column whose values have a colour each in the picture.

  Raises:
    SweepError: no point is done, or a result cannot be read; names the file.
  """
  rows = []
  for point in points:
    given = (text.partition("=") for text in point.arguments[1:])
    head = {name.removeprefix("--"): value for name, _, value in given}
    found = _results(manifest.workdir(sweep, point))
    rows += [{"point": point.id} | head | row for row in found]
  if not rows:
    raise SweepError(f"{sweep}: no point is done yet")

  # Overrides first: one that only later points have is no afterthought.
  columns = list(dict.fromkeys(column for row in rows for column in row))
  columns.sort(key=lambda c: c != "point" and not c.startswith("config."))
  out = io.StringIO(newline="")
  writer = csv.DictWriter(out, columns, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  write_atomically(sweep / "results.csv", out.getvalue())

  done, files = len({row["point"] for row in rows}), "results.csv"
  value = _value_of(rows)
  if any(row.get(COST) and row.get(value) for row in rows):
    write_atomically(sweep / "front.svg", front(rows, by))
    files += " and front.svg"
  return f"{sweep}: {files} of {done} of {len(points)} points, {len(rows)} rows"


def front(rows: Sequence[dict[str, str]], by: str | None = None) -> str:
  """SVG of all assignments of all points, and of their joint front.

  Raises:
    SweepError: no row has the column `by`.
  """
  from fbq.report import picture
  from fbq.search import pareto

  metric = _value_of(rows)
  said_metric = metric.replace("_", " ")
  rows = [row for row in rows if row.get(COST) and row.get(metric)]
  if by and not any(by in row for row in rows):
    raise SweepError(f"--by={by}: no row has this column")
  figure = picture.new(9, 6)
  axes = figure.add_subplot(
    xlabel="cycles per image (millions), fewer is faster",
    ylabel=f"test {said_metric} (%)",
  )
  picture.bare(axes, "both")
  cost = [float(row[COST]) / 1e6 for row in rows]
  value = [float(row[metric]) * 100 for row in rows]
  told = ("point", "config.", "name", COST, metric)  # where the mouse rests
  said = [
    ", ".join(f"{k} {v}" for k, v in row.items() if k.startswith(told))
    for row in rows
  ]
  names = [row.get(by, "") if by else "assignments" for row in rows]
  for name in dict.fromkeys(names):
    mine = [i for i, other in enumerate(names) if other == name]
    x, y = [cost[i] for i in mine], [value[i] for i in mine]
    (line,) = axes.plot(x, y, "o", alpha=0.7, label=name)
    picture.title(line, [said[i] for i in mine])

  keep = pareto.front(cost, value)
  ends = sorted({(cost[i], value[i]) for i in range(len(rows)) if keep[i]})
  ends.append((max(cost), ends[-1][1]))
  label = "front of all: nothing faster is as accurate"
  axes.step(*zip(*ends, strict=True), "k", where="post", label=label)
  picture.legend(figure, axes, 3, "lower center")
  return picture.svg(
    figure, f"Test {said_metric} over cycles of all assignments."
  )


def _value_of(rows: Sequence[dict[str, str]]) -> str:
  """The column of what networks are judged by."""
  known = {name for row in rows for name, text in row.items() if text}
  return next((name for name in VALUES if name in known), VALUES[0])


def _results(workdir):
  """The rows of a finished run; none of another."""
  table, result = workdir / "results.csv", workdir / "result.json"
  try:
    if not result.exists():
      return []
    if table.exists():
      with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))
    return [dict(_scalars(json.loads(result.read_text())))]
  except (OSError, ValueError, csv.Error) as error:
    raise SweepError(f"results in {workdir} cannot be read: {error}") from error


def _scalars(tree, prefix=""):
  """(dotted name, text) of everything but lists."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _scalars(value, f"{prefix}{name}.")
    elif not isinstance(value, list):
      yield f"{prefix}{name}", str(value)
