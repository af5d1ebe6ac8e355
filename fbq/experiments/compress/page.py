"""The page: which precisions, how close to the float network, in how much."""

from pathlib import Path

from fbq.experiments.compress import chosen_by, pictures
from fbq.experiments.compress.pictures import AXES
from fbq.experiments.compress.results import Compressed
from fbq.report import (
  blocks,
  cells,
  page,
  points_page,
  points_tables,
  records,
  sentences,
)
from fbq.report.assignments import Assignments
from fbq.report.records import Point
from fbq.report.run import Run
from fbq.train.log import Log


def write(results: Compressed, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  found = results.assignments
  page.write(
    workdir / "report.html",
    f"{found.network} on {found.target}, without training",
    "Which precision should each tensor have, and how close does the network "
    "stay to the one in the file?",
    _blocks(results),
    points_page.about(found, run, workdir),
  )


def tell(results: Compressed, log: Log) -> None:
  """Prints the table of all assignments and the answer."""
  log.console.print(cells.printed(_table(results)))
  log.say(answer(results))
  log.say(_why(results))


def answer(results: Compressed) -> str:
  """The recommendation in plain words; numbers are of inputs reported."""
  best, found = results.assignments.best, results.assignments
  point, eight = best.point, best.reference
  close = results.closeness[point.name]
  same = (
    f"{close.agreement:.2%} of the inputs keep the float network's class, at "
    f"{close.kl:.2g} nats from its probabilities"
  )
  if results.labelled:
    same = (
      f"{point.test.accuracy:.2%} of the inputs are right, "
      f"{found.float_test.accuracy:.2%} in float; {same}"
    )
  if best.is_reference:
    return (
      f"Keep {eight.name} in every tensor of {found.network} on {found.target}:"
      f" {eight.cycles:,} cycles for an input, "
      f"{eight.weight_bytes / 1e3:.1f} kB of weights; {same}."
    )
  return (
    f"Give the tensors of {found.network} the bits of {point.name}: on "
    f"{found.target} an input then takes {point.cycles:,} cycles, "
    f"{sentences.more_or_less(-best.cycles_saved)} than {eight.name}, and "
    f"its weights {point.weight_bytes / 1e3:.1f} kB, not "
    f"{eight.weight_bytes / 1e3:.1f}; "
    f"{same}."
  )


def _why(results: Compressed) -> str:
  said = sentences.why(results.assignments.best)
  return said.replace("Test images", "Inputs that are reported")


def _blocks(results: Compressed) -> list[blocks.Block]:
  found = results.assignments
  best = found.best.point
  over, order, *_ = AXES[found.cost]
  return [
    blocks.Answer(
      [answer(results)],
      [
        blocks.Text(_why(results)),
        blocks.Text(f"That is, {sentences.bits_in_words(best.precision)}."),
        blocks.Links([("Every layer is listed below.", "#layers")]),
      ],
    ),
    blocks.note(_about(results)),
    blocks.Section(
      f"How far from the float network, over {over}",
      [
        blocks.Picture(pictures.front(results), "front.svg"),
        blocks.note(
          "KL divergence in nats of class probabilities on the inputs that "
          "chose, the mean over inputs. Squares: the same bits everywhere; the "
          "star is recommended. Points tell their numbers to the mouse."
        ),
      ],
    ),
    blocks.Section(f"Results, {order} first; ★ recommended", [_table(results)]),
    blocks.Section(
      f"The recommended precision, layer by layer: {best.name}",
      [points_tables.layers_table(found, best)],
      "layers",
    ),
    _integers(results),
    chosen_by.section(results),
    blocks.Section(
      "Every other assignment",
      [
        blocks.Details(
          p.name,
          [points_tables.layers_table(found, p)],
          f"{p.cycles:,} cycles, {results.closeness[p.name].kl:.2g} nats",
        )
        for p in _ordered(found)
        if p != best
      ],
    ),
  ]


def _ordered(found: Assignments) -> list[Point]:
  """Points, of least cost first; of equals the fastest."""
  return sorted(
    records.by_cycles(found.points),
    key=lambda p: records.cost_of(p, found.cost),
  )


def _about(results: Compressed) -> str:
  found = results.assignments
  what = (
    "accuracy by the labels of the inputs"
    if results.labelled
    else "agreement with the float network's class: the inputs have no labels"
  )
  return (
    f"Scores are {what}; ± is one standard error. {found.validation_count:,} "
    f"inputs chose what is recommended, {found.test_count:,} others are "
    f"reported and chose nothing. What is lost to {found.reference} is "
    "measured on the same inputs."
  )


def _table(results: Compressed) -> blocks.Table:
  found, best = results.assignments, results.assignments.best
  eight = best.reference

  def percent(score, field, error):
    cell = 100 * getattr(score, field)
    return blocks.Cell(cell, error=100 * getattr(score, error))

  def name(point: Point):
    note = f"= {', '.join(point.aliases)}" if point.aliases else ""
    return blocks.Cell(point.name, note=note)

  def lost(point: Point, score):
    return None if point == eight else percent(score, "loss", "loss_error")

  close = results.closeness
  energy = [
    (
      blocks.number("energy\nµJ", "{:,.1f}"),
      lambda p: results.microjoules.get(p.name),
    )
  ]
  right = "right" if results.labelled else "same class"
  return blocks.Table.of(
    _ordered(found),
    (
      blocks.Column("mark", "sign"),
      lambda p: "★" if p == best.point else "",
    ),
    ("assignment", name),
    (blocks.number("cycles"), lambda p: p.cycles),
    (
      blocks.number(f"vs {eight.name}\n%", "{:+z.1f}"),
      lambda p: 100 * (p.cycles / eight.cycles - 1),
    ),
    (blocks.number("weights\nkB", "{:.1f}"), lambda p: p.weight_bytes / 1e3),
    (
      blocks.number(f"reported\n{right}, %", "{:.2f}"),
      lambda p: percent(p.test, "accuracy", "error"),
    ),
    (
      blocks.number("KL\nnats", "{:.2g}"),
      lambda p: close[p.name].kl,
    ),
    *(
      [
        (
          blocks.number("same class\n%", "{:.2f}"),
          lambda p: 100 * close[p.name].agreement,
        )
      ]
      if results.labelled
      else []
    ),
    (
      blocks.number("chosen by\nlost", "{:+z.2f}"),
      lambda p: lost(p, p.validation),
    ),
    (
      blocks.number("act.\nkB", "{:.1f}"),
      lambda p: p.peak_activation_bytes / 1e3,
    ),
    *(energy if results.microjoules else []),
    (
      blocks.Column("settings", "soft"),
      lambda p: ", ".join(f"{k} {v}" for k, v in p.detail.items()),
    ),
    marks=lambda p: "best" if p == best.point else "",
    label=f"assignments, {AXES[found.cost][1]} first",
  )


def _integers(results: Compressed) -> blocks.Section:
  made = results.integers
  parts: list[blocks.Block] = []
  if made.sizes:
    word = "right" if results.labelled else "of the float network's class"
    parts.append(
      blocks.Text(
        f"In integers {made.same_class:,} of {made.images:,} inputs get the "
        f"class that the simulated network gives them; {made.accuracy:.2%} are "
        f"{word}. Weights, constants and biases take "
        f"{made.sizes['total_bytes'] / 1e3:.1f} kB, "
        f"{made.sizes['float_bytes'] / 1e3:.1f} in float."
      )
    )
  if made.files:
    parts.append(blocks.Links([(name, name) for name in made.files]))
  for why in (made.failed, made.left_out):
    parts += [
      blocks.Text(reason, lead=f"No {part}:") for part, reason in why.items()
    ]
  return blocks.Section("In integers", parts)
