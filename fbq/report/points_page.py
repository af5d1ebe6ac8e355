"""The page of points: which assignment to take, and what each one costs."""

from fbq.report import plots, records, tables
from fbq.report.assignments import Assignments
from fbq.report.blocks import (
  Answer,
  Block,
  Cell,
  Column,
  Details,
  Figures,
  Links,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.records import Point


def heading(results: Assignments) -> tuple[str, str]:
  """Title of the page, and the question that it answers."""
  return (
    f"{results.network} on {results.target}",
    "Which precision should each tensor of this network have, so that it runs "
    f"fastest on {results.target} at the accuracy I need?",
  )


def blocks(results: Assignments) -> list[Block]:
  """The page, but for the facts of the run.

  Raises:
    ValueError: there is no reference point to compare with.
  """
  best = results.best
  point = best.point
  front = plots.front(
    results.points,
    results.test_count,
    results.float_accuracy,
    point.name,
    f"{results.network} on {results.target}",
  )
  parts: list[Block] = [
    Answer(
      [tables.sentence(best, results.network, results.target)],
      [
        Text(f"That is, {tables.bits_in_words(point.precision)}."),
        Links([("Every layer is listed below.", "#layers")]),
      ],
    ),
    _figures(results),
    Text(
      f"± and bars: one binomial standard error over {results.test_count:,} "
      "test images; smaller differences mean little. The recommended one was "
      "chosen on the same images that score it, which flatters it slightly.",
      note=True,
    ),
    Section("Accuracy over cycles", [Picture(front, "front.svg")]),
    Section(
      "Results",
      [
        Text(
          "Fastest first. ● on the front: nothing that is as fast is more "
          "accurate. ★ recommended.",
          note=True,
        ),
        _results(results),
      ],
    ),
    Section(
      f"The recommended precision, layer by layer: {point.name}",
      [_layers(results, point)],
      "layers",
    ),
  ]
  if results.changes:
    title = "What the Free Bits pass changed and why"
    parts.append(Section(title, _passed(results, point)))
  others = [p for p in tables.by_cycles(results.points) if p != point]
  if others:
    folded = [_other(results, p) for p in others]
    parts.append(Section("Every other assignment", folded))
  return parts


def _figures(results: Assignments) -> Figures:
  best = results.best
  point, reference = best.point, best.reference
  cycles = "cycles per image"
  if results.clock_hertz:
    milliseconds = point.cycles / results.clock_hertz * 1e3
    cycles += f", {milliseconds:.2f} ms at {results.clock_hertz / 1e6:g} MHz"
  error = records.standard_error(point.accuracy, results.test_count)
  accuracy = (
    f"test accuracy, ± {100 * error:.2f}; {reference.name}: "
    f"{100 * reference.accuracy:.2f}, float: {100 * results.float_accuracy:.2f}"
  )
  return Figures(
    [
      (f"{point.cycles:,}", cycles),
      (f"{best.speedup:.2f}×", f"as fast as {reference.name}"),
      (f"{100 * point.accuracy:.2f} %", accuracy),
      (
        f"{point.weight_bytes / 1e3:.1f} kB",
        f"of weights; {reference.name}: {reference.weight_bytes / 1e3:.1f} kB",
      ),
    ]
  )


def _results(results: Assignments) -> Table:
  best, reference = results.best, results.best.reference
  points = tables.by_cycles(results.points)
  fronts = records.on_front(points)

  def row(point, is_front):
    error = records.standard_error(point.accuracy, results.test_count)
    note = f"= {', '.join(point.aliases)}" if point.aliases else ""
    return [
      "★" if point == best.point else "●" if is_front else "",
      Cell(point.name, note=note),
      point.parent or "",
      point.cycles,
      100 * (point.cycles / reference.cycles - 1),
      Cell(100 * point.accuracy, error=100 * error),
      100 * (point.accuracy - reference.accuracy),
      point.bops / 1e9,
      point.weight_bytes / 1e3,
      point.peak_activation_bytes / 1e3,
      ", ".join(f"{key} {value}" for key, value in point.detail.items()),
    ]

  return Table(
    [
      Column("mark", "sign"),
      Column("assignment"),
      Column("made from"),
      number("cycles"),
      number(f"vs {reference.name}\n%", "{:+z.1f}"),
      number("test accuracy\n%", "{:.2f}"),
      number(f"vs {reference.name}\npoints", "{:+z.2f}"),
      number("GBOPs", "{:.3f}"),
      number("weights\nkB", "{:.1f}"),
      number("peak act.\nkB", "{:.1f}"),
      Column("settings", "soft"),
    ],
    [row(*pair) for pair in zip(points, fronts, strict=True)],
    ["best" if point == best.point else "" for point in points],
  )


def _layers(results: Assignments, point: Point) -> Table:
  """The layers of a point beside those of the reference, or just its bits."""
  rows = results.layers.get(point.name, ())
  label = f"precision of {point.name}"
  if not rows:
    columns = [Column("tensor"), Column("bits", "bits")]
    return Table(columns, list(point.precision.items()), label=label)
  name = results.best.reference.name
  reference = {row.layer: row.cycles for row in results.layers.get(name, ())}

  def against_reference(row):
    before = reference.get(row.layer, 0)
    return 100 * (row.cycles / before - 1) if before else None

  columns = [
    Column("layer"),
    Column("operator", "soft"),
    Column("input\nbits", "bits"),
    Column("weight\nbits", "bits"),
    Column("output\nbits", "bits"),
    number("MACs"),
    number("cycles"),
    number(f"vs {name}\n%", "{:+z.1f}"),
    Column("share of cycles", "bar", "{:.1f} %"),
  ]
  cells = [
    [
      row.layer,
      row.op,
      row.in_bits,
      row.weight_bits,
      row.out_bits,
      row.macs or None,
      row.cycles,
      against_reference(row),
      100 * row.share,
    ]
    for row in rows
  ]
  return Table(columns, cells, label=label)


def _passed(results: Assignments, point: Point) -> list[Block]:
  """What the pass did to the recommended point."""
  if results.changes.get(point.name):
    said = f"Raised from {point.parent}, where more bits cost fewer cycles:"
    return [Text(said, note=True), _changes(results, point)]
  if point.kind == "free_bits":
    return [Text(f"Nothing is on record for {point.name}.")]
  return [
    Text(
      f"{point.name} was not made by the Free Bits pass; the assignments that "
      "were are listed under their names below."
    )
  ]


def _changes(results: Assignments, point: Point) -> Table:
  def row(change):
    before, after = change.cycles_before, change.cycles_after
    return [
      ", ".join(change.sites),
      change.layer,
      change.from_bits,
      change.to_bits,
      before,
      after,
      100 * (after / before - 1) if before else None,
      change.reason,
    ]

  return Table(
    [
      Column("tensors raised"),
      Column("layer"),
      Column("bits before\ninput / weight", "bits"),
      Column("bits after\ninput / weight", "bits"),
      number("cycles\nbefore"),
      number("cycles\nafter"),
      number("change\n%", "{:+z.1f}"),
      Column("why", "long"),
    ],
    [row(change) for change in results.changes[point.name]],
    label=f"what was raised for {point.name}",
  )


def _other(results: Assignments, point: Point) -> Details:
  parts: list[Block] = [_layers(results, point)]
  if results.changes.get(point.name):
    said = f"Raised by the Free Bits pass from {point.parent}:"
    parts = [Text(said, note=True), _changes(results, point), *parts]
  note = f"{point.cycles:,} cycles, {100 * point.accuracy:.2f} %"
  return Details(point.name, parts, note)
