"""Tables of a page of points: what each one costs, and how it classifies."""

from fbq.report import blocks, records, sentences
from fbq.report.assignments import Assignments
from fbq.report.means import mean
from fbq.report.records import Point

ORDER = (
  "fastest first; ● on the front, ★ recommended; lost: points, to the reference"
)

BRIEF = 7  # columns that fit a terminal


def results_table(results, columns=None):
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

  def lost(point, score):
    if point == eight:
      return None
    return _percents(score.loss, score.loss_error)

  def details(point):
    told = [f"from {point.parent}"] if point.parent else []
    told += [f"{key} {value}" for key, value in point.detail.items()]
    return ", ".join(told)

  # Of classifiers the title of the page says what it is
  named = "" if results.metric == "accuracy" else f" {results.metric}"
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
      lambda p: lost(p, p.validation),
    ),
    (
      blocks.number(f"test{named}\n%", "{:.2f}"),
      lambda p: _percents(p.test.accuracy, p.test.error),
    ),
    (
      blocks.number("test\nlost", "{:+z.2f}"),
      lambda p: lost(p, p.test),
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
    (blocks.Column("made from, settings", "soft"), details),
  ]
  return blocks.Table.of(
    records.by_cycles(results.points),
    *told[:columns],
    marks=lambda p: "best" if p == best else "",
    label=ORDER,
  )


def seeds_table(results: Assignments) -> list[blocks.Block]:
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


def layers_table(results: Assignments, point: Point) -> blocks.Table:
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


def raised_table(results: Assignments, point: Point) -> list[blocks.Block]:
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
