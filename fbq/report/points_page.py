"""The page of points: which assignment to take, and what each one costs."""

import dataclasses
import shlex
from pathlib import Path

from fbq.report import blocks, cells, plots, records, sentences
from fbq.report.assignments import Assignments
from fbq.report.means import mean
from fbq.report.records import Point
from fbq.report.run import Run

_ORDER = (
  "fastest first; ● on the front, ★ recommended; lost: points, to the reference"
)


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
  log.console.print(cells.printed(_results(results, _BRIEF)))
  log.say(f"{_answer(results)} {sentences.why(results.best)}")
  for warning in results.warnings:
    log.say(f"warning: {warning}")


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
    f"the float network has {results.float_test.accuracy:.2%}",
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
        blocks.Text(sentences.why(best)),
        blocks.Text(f"That is, {'; '.join(facts)}."),
        blocks.Links([("Every layer is listed below.", "#layers")]),
      ],
    ),
    *(blocks.Text(text, lead="Warning:") for text in results.warnings),
    blocks.note(_about_errors(results)),
    blocks.Section(
      "Accuracy in validation over cycles",
      [
        blocks.Picture(plots.front(results), "front.svg"),
        blocks.note(
          "Named are the front, what the recommended one was made from, and "
          "what is far less accurate; others tell their names to the mouse."
        ),
      ],
    ),
    blocks.Section(
      f"Results, {_ORDER}", [_results(results), *_of_seeds(results)]
    ),
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
      f"{p.cycles:,} cycles, {p.test.accuracy:.2%} in test",
    )
    for p in records.by_cycles(results.points)
    if p != point
  ]
  if others:
    parts.append(blocks.Section("Every other assignment", others))
  return parts


def _answer(results):
  return sentences.answer(results.best, results.network, results.target)


def _about_errors(results: Assignments) -> str:
  """What the numbers behind ± stand for."""
  seeds = len(results.seeds)
  by = "one standard error, clustered by source image"
  if seeds > 1:
    by += f" and by seed, of the mean of {seeds} seeds"
  only = "" if seeds > 1 else " Of one seed: others would differ by more."
  return (
    f"± and bars: {by}. Validation: {results.validation_count:,} images of "
    f"{results.validation_sources:,} sources, which chose the front and the "
    f"recommended one; test: {results.test_count:,} of "
    f"{results.test_sources:,}, which chose nothing. What is lost to "
    f"{results.reference} is measured on the same images, so its error is that "
    f"of the difference.{only}"
  )


_BRIEF = 7  # columns that fit a terminal


def _results(results, columns=None):
  """All points; the first `columns` of what is told of them."""
  best, eight = results.best.point, results.best.reference
  front = records.front(results.points)

  def mark(point):
    return "★" if point == best else "●" if point.name in front else ""

  def name(point):
    note = f"= {', '.join(point.aliases)}" if point.aliases else ""
    return blocks.Cell(point.name, note=note)

  def cycles(point):
    error = mean([one.cycles for one in point.by_seed or [point]]).error
    return blocks.Cell(point.cycles, error=error or None)

  def details(point):
    return ", ".join(f"{key} {value}" for key, value in point.detail.items())

  told = [
    (blocks.Column("mark", "sign"), mark),
    ("assignment", name),
    (blocks.number("cycles", "{:,.0f}"), cycles),
    (
      blocks.number(f"vs {eight.name}\n%", "{:+z.1f}"),
      lambda p: 100 * (p.cycles / eight.cycles - 1),
    ),
    (
      blocks.number("validation\nlost", "{:+z.2f}"),
      lambda p: _percents(p.validation.loss, p.validation.loss_error),
    ),
    (
      blocks.number("test\n%", "{:.2f}"),
      lambda p: _percents(p.test.accuracy, p.test.error),
    ),
    (
      blocks.number("test\nlost", "{:+z.2f}"),
      lambda p: _percents(p.test.loss, p.test.loss_error),
    ),
    (
      blocks.number("validation\n%", "{:.2f}"),
      lambda p: _percents(p.validation.accuracy, p.validation.error),
    ),
    (blocks.number("GBOPs", "{:.3f}"), lambda p: p.bops / 1e9),
    (blocks.number("weights\nkB", "{:.1f}"), lambda p: p.weight_bytes / 1e3),
    (
      blocks.number("act.\nkB", "{:.1f}"),
      lambda p: p.peak_activation_bytes / 1e3,
    ),
    (blocks.Column("made from", "soft"), lambda p: p.parent or ""),
    (blocks.Column("settings", "soft"), details),
  ]
  return blocks.Table.of(
    records.by_cycles(results.points),
    *told[:columns],
    marks=lambda p: "best" if p == best else "",
    label=_ORDER,
  )


def _of_seeds(results: Assignments) -> list[blocks.Block]:
  """What each seed found, where there are several."""
  if len(results.seeds) == 1:
    return []
  rows = [
    (point, one)
    for point in records.by_cycles(results.points)
    for one in point.by_seed
  ]
  table = blocks.Table.of(
    rows,
    ("assignment", lambda row: row[0].name),
    (blocks.number("seed"), lambda row: row[1].seed),
    (blocks.number("cycles"), lambda row: row[1].cycles),
    (
      blocks.number("validation\nlost", "{:+z.2f}"),
      lambda row: _percents(
        row[1].validation.loss, row[1].validation.loss_error
      ),
    ),
    (
      blocks.number("test\n%", "{:.2f}"),
      lambda row: _percents(row[1].test.accuracy, row[1].test.error),
    ),
    (
      blocks.number("test\nlost", "{:+z.2f}"),
      lambda row: _percents(row[1].test.loss, row[1].test.loss_error),
    ),
    ("bits", lambda row: sentences.bits_in_words(row[1].precision)),
    label="what each seed found",
  )
  return [
    blocks.Details("Every seed", [table], "± clustered by source image alone")
  ]


def _percents(value: float, error: float) -> blocks.Cell:
  return blocks.Cell(100 * value, error=100 * error)


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
