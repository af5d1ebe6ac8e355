"""Results as text: the CSV file, the printed table, the one-line answer."""

import collections
import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from typing import Any

from fbq.report import records
from fbq.report.records import Point, Recommendation

_COLUMNS = (
  "name",
  "kind",
  "parent",
  "aliases",
  "cycles",
  "accuracy",
  "bops",
  "weight_bytes",
  "peak_activation_bytes",
  "on_front",
)
_NUMBERS = ("cycles", "bops", "weight_bytes", "peak_activation_bytes")
_BITS, _DETAIL = "bits:", "detail:"
_WEIGHT = ".weight"  # hwsim.workload.Workload.weight_site


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
  """Puts `data` at `path`: a reader finds all of it or the file before it."""
  temporary = f"{os.fspath(path)}.{os.getpid()}.writing"
  try:
    with open(temporary, "wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)


def csv_rows(points: Sequence[Point]) -> Iterator[Sequence[Any]]:
  """Headings, then a row per point, fastest first; `bits:<site>` per site.

  Accuracies are written in full, aliases joined by spaces, and a detail that a
  point does not have is an empty cell.

  Raises:
    ValueError: the points do not fit together, or an alias contains a space.
  """
  records.check(points)
  for point in points:
    if any(len(alias.split()) != 1 for alias in point.aliases):
      raise ValueError(
        f"point {point.name!r}: aliases {point.aliases} contain spaces"
      )
  details = dict.fromkeys(key for point in points for key in point.detail)
  sites = list(points[0].precision)
  yield [
    *_COLUMNS,
    *(_DETAIL + key for key in details),
    *(_BITS + site for site in sites),
  ]
  fronts = dict(zip(map(id, points), records.on_front(points), strict=True))
  for point in by_cycles(points):
    row = {column: getattr(point, column, None) for column in _COLUMNS}
    row["accuracy"] = repr(point.accuracy)
    row["aliases"] = " ".join(point.aliases)
    row["on_front"] = int(fronts[id(point)])
    yield [
      *row.values(),
      *(point.detail.get(key) for key in details),
      *(point.precision[site] for site in sites),
    ]


def read_csv(path: str | os.PathLike) -> list[Point]:
  """The points of a file that `write_csv` wrote.

  Raises:
    ValueError: a column is missing or a cell cannot be read; names the row.
  """
  with open(path, newline="", encoding="utf-8") as file:
    reader = csv.DictReader(file)
    missing = sorted(set(_COLUMNS) - set(reader.fieldnames or ()))
    if missing:
      raise ValueError(f"{path}: no columns {missing}, expected a results.csv")
    points = []
    for number, row in enumerate(reader, start=2):
      try:
        points.append(_point(row))
      except (TypeError, ValueError) as error:
        raise ValueError(f"{path}, row {number}: {error}") from error
  return points


def _point(row):
  def prefixed(prefix):
    return {
      column.removeprefix(prefix): value
      for column, value in row.items()
      if column and column.startswith(prefix) and value != ""
    }

  return Point(
    name=row["name"],
    kind=row["kind"],
    parent=row["parent"] or None,
    precision={site: int(bits) for site, bits in prefixed(_BITS).items()},
    accuracy=float(row["accuracy"]),
    detail=prefixed(_DETAIL),
    aliases=tuple(row["aliases"].split()),
    **{column: int(row[column]) for column in _NUMBERS},
  )


def by_cycles(points: Sequence[Point]) -> list[Point]:
  """The points, fastest first, of equally fast ones the most accurate."""
  return sorted(points, key=lambda p: (p.cycles, -p.accuracy, p.name))


def results_table(points: Sequence[Point], best: Recommendation, test_count):
  """A `rich.table.Table` of the points, fastest first."""
  from rich.table import Table

  table = Table(title="Fastest first; ● on the front, ★ recommended")
  table.add_column("assignment", overflow="fold")
  table.add_column("from", overflow="fold")
  for heading in (
    "cycles",
    f"vs {best.reference.name}",
    "accuracy %",
    "GBOPs",
    "weights kB",
    "peak act. kB",
  ):
    table.add_column(heading, justify="right", no_wrap=True)
  fronts = dict(zip(map(id, points), records.on_front(points), strict=True))
  for point in by_cycles(points):
    mark = "● " if fronts[id(point)] else "  "
    if point == best.point:
      mark = "★ "
    error = records.standard_error(point.accuracy, test_count)
    table.add_row(
      _plain(mark + point.name),
      _plain(point.parent or ""),
      f"{point.cycles:,}",
      f"{point.cycles / best.reference.cycles - 1:+.1%}",
      f"{point.accuracy:.2%} ±{error * 100:.2f}".replace("%", ""),
      f"{point.bops / 1e9:,.2f}",
      f"{point.weight_bytes / 1e3:,.1f}",
      f"{point.peak_activation_bytes / 1e3:,.1f}",
      style="bold" if point == best.point else None,
    )
  return table


def _plain(text):
  """Text in which rich finds no markup, whatever a name contains."""
  from rich.text import Text

  return Text(text)


def bits_in_words(precision) -> str:
  """For instance 'weights 2 bits in 3 and 8 in 5, activations 8 bits in 8'.

  Counts tensors; sites that end in '.weight' are weights.
  """
  groups = {"weights": [], "activations": []}
  for site, bits in precision.items():
    groups["weights" if site.endswith(_WEIGHT) else "activations"].append(bits)
  said = []
  for group, bits in groups.items():
    counts = sorted(collections.Counter(bits).items())
    parts = [f"{b} bits in {n}" for b, n in counts[:1]]
    parts += [f"{b} in {n}" for b, n in counts[1:]]
    if parts:
      said.append(f"{group}: {', '.join(parts)} tensors")
  return "; ".join(said)


def sentence(best: Recommendation, network: str, target: str) -> str:
  """The answer to the question of the report, in plain words."""
  point, reference = best.point, best.reference
  tolerance = f"{best.tolerance * 100:g} points"
  if best.is_reference:
    return (
      f"Keep {reference.name} in every tensor of {network} on {target}: of the "
      f"{best.others} other assignments none is faster and loses at most "
      f"{tolerance} of its {reference.accuracy:.2%} accuracy; it takes "
      f"{reference.cycles:,} cycles per image."
    )
  difference = (point.accuracy - reference.accuracy) * 100
  side = "above" if difference > 0 else "below"
  distance = (
    f"{abs(difference):.2f} points {side}" if difference else "equal to"
  )
  fewer = "fewer" if best.cycles_saved >= 0 else "more"
  allowed = f"({tolerance} below are allowed)"
  if not best.is_accurate:
    allowed = (
      f"(more than the {tolerance} allowed, but {reference.name} breaks "
      f"{reference.breaks}, and nothing that breaks no demand is more accurate)"
    )
  elif reference.breaks:
    allowed += f"; {reference.name} breaks {reference.breaks}"
  return (
    f"Give the tensors of {network} the bits of {point.name}: on {target} an "
    f"image then takes {point.cycles:,} cycles, {abs(best.cycles_saved):.1%} "
    f"{fewer} than {reference.name} ({best.speedup:.2f}x as fast), at "
    f"{point.accuracy:.2%} test accuracy, {distance} {reference.name} "
    f"{allowed}."
  )


def summary(best: Recommendation) -> str:
  """The answer in one line for a console."""
  point, reference = best.point, best.reference
  if best.is_reference:
    return (
      f"recommended: {reference.name}, {reference.cycles:,} cycles, "
      f"{reference.accuracy:.2%}; nothing faster within "
      f"{best.tolerance * 100:g} points"
    )
  return (
    f"recommended: {point.name}, {point.cycles:,} cycles "
    f"({-best.cycles_saved:+.1%} vs {reference.name}), {point.accuracy:.2%} "
    f"({(point.accuracy - reference.accuracy) * 100:+.2f} points)"
  )
