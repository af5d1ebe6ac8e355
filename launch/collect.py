"""One CSV of all finished points of a sweep, and a picture of their front."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from launch.manifest import Point, SweepError, text, write_atomically
from launch.workdir import Sweep

COST, VALUE = "cycles", "accuracy"
MAX_GROUPS = 8


def rows(sweep: Sweep, points: Sequence[Point]) -> list[dict[str, str]]:
  """Every row of every finished point's results.csv, behind its overrides.

  A run without results.csv gives one row: the numbers and texts of result.json.
  Columns of overrides begin with `config.`, `point` is the id.

  Raises:
    SweepError: a result cannot be read; names the file.
  """
  found = []
  for point in points:
    if not sweep.is_done(point):
      continue
    head = {"point": point.id}
    for name, value in point.overrides.items():
      head[f"config.{name}"] = text(value)
    found += [head | row for row in _results(sweep.run_of(point))]
  return found


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
  """Writes rows with all columns of all of them; what one lacks is empty."""
  columns = {column: None for row in rows for column in row}
  # Overrides first: one that only later points have is no afterthought.
  heads = [c for c in columns if c == "point" or c.startswith("config.")]
  rest = [column for column in columns if column not in set(heads)]
  out = io.StringIO(newline="")
  writer = csv.DictWriter(out, heads + rest, lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  write_atomically(path, out.getvalue().encode())


def front_png(rows: Sequence[dict[str, str]], by: str | None = None) -> bytes:
  """A picture of all assignments of all points, and of their joint front.

  Args:
    rows: with columns `cycles` and `accuracy`.
    by: column whose values have a colour each; by default the first override
      with 2 to 8 values that is not a seed.

  Raises:
    SweepError: no row has the columns, or none has `by`.
  """
  from fbq.report import figures
  from fbq.search import pareto

  rows = [row for row in rows if row.get(COST) and row.get(VALUE)]
  if not rows:
    raise SweepError(f"no finished point has {COST} and {VALUE} to draw")
  by = by or _telling(rows)
  if by and not any(by in row for row in rows):
    raise SweepError(f"no row has a column {by!r} to colour by")
  cost = [float(row[COST]) / 1e6 for row in rows]
  value = [float(row[VALUE]) * 100 for row in rows]
  names = [row.get(by, "") if by else "" for row in rows]
  figure = figures.new(9, 6)
  axes = figure.add_subplot()
  figures.bare(axes, "both")
  colours = (
    *(figures.BLUE, figures.VERMILION, figures.PURPLE, figures.AMBER),
    *(figures.SKY, figures.GREY, "#000000", "#F0E442"),
  )
  for i, name in enumerate(dict.fromkeys(names)):
    mine = [j for j, other in enumerate(names) if other == name]
    axes.plot(
      [cost[j] for j in mine],
      [value[j] for j in mine],
      "os^Dv<>p"[i % MAX_GROUPS],
      color=colours[i % MAX_GROUPS],
      markersize=5,
      alpha=0.7,
      label=f"{by.removeprefix('config.')} {name}" if by else "assignments",
    )
  keep = pareto.front(cost, value)
  ends = sorted({(cost[j], value[j]) for j in range(len(rows)) if keep[j]})
  axes.step(
    [x for x, _ in ends] + [max(cost)],
    [y for _, y in ends] + [ends[-1][1]],
    where="post",
    color=figures.GREEN,
    linewidth=1.6,
    label="front of all: nothing faster is as accurate",
  )
  axes.set_xlabel("cycles per image (millions), fewer is faster")
  axes.set_ylabel("test accuracy (%)")
  axes.legend(fontsize=8.5, frameon=False)
  return figures.png(figure)


def collect(
  sweep: Sweep, points: Sequence[Point], by: str | None = None
) -> str:
  """Writes results.csv and front.png of the sweep; tells what is in them.

  Raises:
    SweepError: no point is done, or a result cannot be read.
  """
  kept = [point for point in points if point.in_sweep]
  found = rows(sweep, kept)
  if not found:
    raise SweepError(f"{sweep.workdir}: no point is done yet")
  write_csv(sweep.workdir / "results.csv", found)
  done = len({row["point"] for row in found})
  told = f"{done} of {len(kept)} points, {len(found)} rows: "
  told += str(sweep.workdir / "results.csv")
  if any(row.get(COST) and row.get(VALUE) for row in found):
    write_atomically(sweep.workdir / "front.png", front_png(found, by))
    told += f", {sweep.workdir / 'front.png'}"
  if len(kept) < len(points):
    told += (
      f"\nleft out: {len(points) - len(kept)} points no longer in the sweep"
    )
  return told


def _results(workdir):
  table = workdir / "results.csv"
  try:
    if table.exists():
      with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))
    result = json.loads((workdir / "result.json").read_text())
    return [dict(_scalars(result))]
  except (OSError, ValueError, csv.Error) as error:
    raise SweepError(f"results in {workdir} cannot be read: {error}") from error


def _scalars(tree, prefix=""):
  """(dotted name, text) of everything but lists."""
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from _scalars(value, f"{prefix}{name}.")
    elif not isinstance(value, list):
      yield f"{prefix}{name}", str(value)


def _telling(rows):
  """The override to colour by, if there is one."""
  columns = {column: None for row in rows for column in row}
  for column in columns:
    if column.startswith("config.") and not column.endswith("seed"):
      values = {row.get(column, "") for row in rows}
      if 2 <= len(values) <= MAX_GROUPS:
        return column
  return None
