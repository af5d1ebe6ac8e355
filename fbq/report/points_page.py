"""The page of points: which assignment to take, and what each one costs."""

import dataclasses
import shlex
from pathlib import Path

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
from fbq.report.run import Run


def heading(results: Assignments) -> tuple[str, str]:
  """Title of the page, and the question that it answers."""
  return (
    f"{results.network} on {results.target}",
    "Which precision should each tensor of this network have, so that it runs "
    f"fastest on {results.target} at the accuracy I need?",
  )


def about(results: Assignments, run: Run, workdir: Path) -> Run:
  """What the page says of the run: what the numbers rest on, what is next."""
  config = f"configs/export.py:from={workdir},point=best"
  words = ["python", "main.py", f"--config={config}"]
  export = shlex.join([*words, f"--workdir={workdir}-export"])
  return dataclasses.replace(
    run,
    assumptions=results.assumptions,
    next=(export, "To lower the recommended assignment to integers:"),
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
  best, eight = results.best.point, results.best.reference
  points = tables.by_cycles(results.points)
  fronts = dict(zip(map(id, points), records.on_front(points), strict=True))

  def mark(point):
    return "★" if point == best else "●" if fronts[id(point)] else ""

  def name(point):
    note = f"= {', '.join(point.aliases)}" if point.aliases else ""
    return Cell(point.name, note=note)

  def accuracy(point):
    error = records.standard_error(point.accuracy, results.test_count)
    return Cell(100 * point.accuracy, error=100 * error)

  def details(point):
    return ", ".join(f"{key} {value}" for key, value in point.detail.items())

  return Table.of(
    points,
    (Column("mark", "sign"), mark),
    (Column("assignment"), name),
    (Column("made from", "soft"), lambda p: p.parent or ""),
    (number("cycles"), lambda p: p.cycles),
    (
      number(f"vs {eight.name}\n%", "{:+z.1f}"),
      lambda p: 100 * (p.cycles / eight.cycles - 1),
    ),
    (number("test accuracy\n%", "{:.2f}"), accuracy),
    (
      number(f"vs {eight.name}\npoints", "{:+z.2f}"),
      lambda p: 100 * (p.accuracy - eight.accuracy),
    ),
    (number("GBOPs", "{:.3f}"), lambda p: p.bops / 1e9),
    (number("weights\nkB", "{:.1f}"), lambda p: p.weight_bytes / 1e3),
    (
      number("peak act.\nkB", "{:.1f}"),
      lambda p: p.peak_activation_bytes / 1e3,
    ),
    (Column("settings", "soft"), details),
    marks=lambda p: "best" if p == best else "",
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

  def change(row):
    before = reference.get(row.layer)
    return 100 * (row.cycles / before - 1) if before else None

  return Table.of(
    rows,
    (Column("layer"), lambda row: row.layer),
    (Column("operator", "soft"), lambda row: row.op),
    (Column("input\nbits", "bits"), lambda row: row.in_bits),
    (Column("weight\nbits", "bits"), lambda row: row.weight_bits),
    (Column("output\nbits", "bits"), lambda row: row.out_bits),
    (number("MACs"), lambda row: row.macs or None),
    (number("cycles"), lambda row: row.cycles),
    (number(f"vs {name}\n%", "{:+z.1f}"), change),
    (Column("share of cycles", "bar", "{:.1f} %"), lambda r: 100 * r.share),
    label=label,
  )


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
  def percent(change):
    before = change.cycles_before
    return 100 * (change.cycles_after / before - 1) if before else None

  return Table.of(
    results.changes[point.name],
    (Column("tensors raised"), lambda change: ", ".join(change.sites)),
    (Column("layer", "soft"), lambda change: change.layer),
    (Column("bits before\ninput / weight", "bits"), lambda c: c.from_bits),
    (Column("bits after\ninput / weight", "bits"), lambda c: c.to_bits),
    (number("cycles\nbefore"), lambda change: change.cycles_before),
    (number("cycles\nafter"), lambda change: change.cycles_after),
    (number("change\n%", "{:+z.1f}"), percent),
    (Column("why", "long"), lambda change: change.reason),
    label=f"what was raised for {point.name}",
  )


def _other(results: Assignments, point: Point) -> Details:
  parts: list[Block] = [_layers(results, point)]
  if results.changes.get(point.name):
    said = f"Raised by the Free Bits pass from {point.parent}:"
    parts = [Text(said, note=True), _changes(results, point), *parts]
  note = f"{point.cycles:,} cycles, {100 * point.accuracy:.2f} %"
  return Details(point.name, parts, note)
