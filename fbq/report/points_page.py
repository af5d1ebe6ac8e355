"""The page of points: which assignment to take, and what each one costs."""

import dataclasses
import shlex
from pathlib import Path

from fbq.report import blocks, cells, plots, records, sentences
from fbq.report.assignments import Assignments
from fbq.report.records import Point
from fbq.report.run import Run

_ORDER = "fastest first; ● on the front, ★ recommended"


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


def tell(results: Assignments, log) -> None:
  """Prints the table of all assignments and the answer."""
  log.console.print(cells.printed(_results(results)))
  log.say(_answer(results))


def content(results: Assignments) -> list[blocks.Block]:
  """The page, but for the facts of the run.

  Raises:
    ValueError: there is no reference point to compare with.
  """
  best = results.best
  point, reference = best.point, best.reference
  facts = [
    sentences.bits_in_words(point.precision),
    f"{point.weight_bytes / 1e3:.1f} kB of weights, which are "
    f"{reference.weight_bytes / 1e3:.1f} at {reference.name}",
    f"the float network has {results.float_accuracy:.2%}",
  ]
  if results.clock_hertz:
    milliseconds = point.cycles / results.clock_hertz * 1e3
    clock = f"{results.clock_hertz / 1e6:g} MHz"
    facts.append(f"an image takes {milliseconds:.2f} ms at {clock}")
  facts += [f"{name}: {value}" for name, value in point.detail.items()]
  parts: list[blocks.Block] = [
    blocks.Answer(
      [_answer(results)],
      [
        blocks.Text(f"That is, {'; '.join(facts)}."),
        blocks.Links([("Every layer is listed below.", "#layers")]),
      ],
    ),
    blocks.note(
      f"± and bars: one binomial standard error over {results.test_count:,} "
      "test images; smaller differences mean little. The recommended one was "
      "chosen on the same images that score it, which flatters it slightly."
    ),
    blocks.Section(
      "Accuracy over cycles",
      [
        blocks.Picture(plots.front(results), "front.svg"),
        blocks.note(
          "Named are the front, what the recommended one was made from, and "
          "what is far less accurate; others tell their names to the mouse."
        ),
      ],
    ),
    blocks.Section(f"Results, {_ORDER}", [_results(results)]),
    blocks.Section(
      f"The recommended precision, layer by layer: {point.name}",
      [_layers(results, point)],
      "layers",
    ),
  ]
  if results.changes:
    found = _raised(results, point) or [
      blocks.Text(f"Nothing was raised for {point.name}; see the others below.")
    ]
    parts.append(
      blocks.Section("What the Free Bits pass changed and why", found)
    )
  others = [
    blocks.Details(
      p.name,
      [*_raised(results, p), _layers(results, p)],
      f"{p.cycles:,} cycles, {100 * p.accuracy:.2f} %",
    )
    for p in records.by_cycles(results.points)
    if p != point
  ]
  if others:
    parts.append(blocks.Section("Every other assignment", others))
  return parts


def _answer(results):
  return sentences.answer(results.best, results.network, results.target)


def _results(results):
  best, eight = results.best.point, results.best.reference
  front = records.front(results.points)

  def mark(point):
    return "★" if point == best else "●" if point.name in front else ""

  def name(point):
    note = f"= {', '.join(point.aliases)}" if point.aliases else ""
    return blocks.Cell(point.name, note=note)

  def details(point):
    return ", ".join(f"{key} {value}" for key, value in point.detail.items())

  return blocks.Table.of(
    records.by_cycles(results.points),
    (blocks.Column("mark", "sign"), mark),
    ("assignment", name),
    (blocks.Column("made from", "soft"), lambda p: p.parent or ""),
    (blocks.number("cycles"), lambda p: p.cycles),
    (
      blocks.number(f"vs {eight.name}\n%", "{:+z.1f}"),
      lambda p: 100 * (p.cycles / eight.cycles - 1),
    ),
    (
      blocks.number("accuracy\n%", "{:.2f}"),
      lambda p: blocks.Cell(100 * p.accuracy, error=results.error(p)),
    ),
    (
      blocks.number(f"vs {eight.name}\npoints", "{:+z.2f}"),
      lambda p: 100 * (p.accuracy - eight.accuracy),
    ),
    (blocks.number("GBOPs", "{:.3f}"), lambda p: p.bops / 1e9),
    (blocks.number("weights\nkB", "{:.1f}"), lambda p: p.weight_bytes / 1e3),
    (
      blocks.number("act.\nkB", "{:.1f}"),
      lambda p: p.peak_activation_bytes / 1e3,
    ),
    (blocks.Column("settings", "soft"), details),
    marks=lambda p: "best" if p == best else "",
    label=_ORDER,
  )


def _layers(results: Assignments, point: Point) -> blocks.Table:
  """The layers of a point beside those of the reference, or just its bits."""
  rows = results.layers.get(point.name, ())
  label = f"precision of {point.name}"
  if not rows:
    columns = [blocks.Column("tensor"), blocks.Column("bits", "bits")]
    return blocks.Table(columns, list(point.precision.items()), label=label)
  name = results.reference
  reference = {row.layer: row.cycles for row in results.layers.get(name, ())}
  return blocks.Table.of(
    rows,
    ("layer", lambda row: row.layer),
    (blocks.Column("operator", "soft"), lambda row: row.op),
    (blocks.Column("input\nbits", "bits"), lambda row: row.in_bits),
    (blocks.Column("weight\nbits", "bits"), lambda row: row.weight_bits),
    (blocks.Column("output\nbits", "bits"), lambda row: row.out_bits),
    (blocks.number("MACs"), lambda row: row.macs or None),
    (blocks.number("cycles"), lambda row: row.cycles),
    (
      blocks.number(f"vs {name}\n%", "{:+z.1f}"),
      lambda row: _percent(reference.get(row.layer), row.cycles),
    ),
    (
      blocks.Column("share of cycles", "bar", "{:.1f} %"),
      lambda r: 100 * r.share,
    ),
    label=label,
  )


def _percent(before: int | None, after: int) -> float | None:
  return 100 * (after / before - 1) if before else None


def _raised(results: Assignments, point: Point) -> list[blocks.Block]:
  """What the Free Bits pass did to a point; nothing for most."""
  changes = results.changes.get(point.name)
  if not changes:
    return []
  said = f"Raised from {point.parent}, where more bits cost fewer cycles:"
  table = blocks.Table.of(
    changes,
    ("tensors raised", lambda change: ", ".join(change.sites)),
    (blocks.Column("layer", "soft"), lambda change: change.layer),
    (
      blocks.Column("bits before\ninput / weight / output", "bits"),
      lambda c: c.from_bits,
    ),
    (
      blocks.Column("bits after\ninput / weight / output", "bits"),
      lambda c: c.to_bits,
    ),
    (blocks.number("cycles\nbefore"), lambda change: change.cycles_before),
    (blocks.number("cycles\nafter"), lambda change: change.cycles_after),
    (
      blocks.number("change\n%", "{:+z.1f}"),
      lambda change: _percent(change.cycles_before, change.cycles_after),
    ),
    (blocks.Column("why", "long"), lambda change: change.reason),
    label=f"what was raised for {point.name}",
  )
  return [blocks.note(said), table]
