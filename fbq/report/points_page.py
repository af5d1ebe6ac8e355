"""The page of points: which assignment to take, and what each one costs."""

import dataclasses
import shlex
from pathlib import Path

from fbq.report import (
  blocks,
  cells,
  plots,
  points_tables,
  records,
  sentences,
  strip,
)
from fbq.report.assignments import Assignments
from fbq.report.run import Run


def heading(results: Assignments) -> tuple[str, str]:
  """Title of the page, and the question that it answers."""
  return (
    f"{results.network} on {results.target}",
    "Which precision should each tensor of this network have, so that it runs "
    f"fastest on {results.target} at the {results.metric} I need?",
  )


def about(results: Assignments, run: Run, workdir: Path) -> Run:
  """What the page says of the run: what the numbers rest on, what is next."""
  config = f"configs/export.py:from={workdir},point=best"
  words = ["python", "main.py", f"--config={config}"]
  export = shlex.join([*words, f"--workdir={workdir}-export"])
  return dataclasses.replace(
    run,
    assumptions=results.assumptions,
    next=(export, "To lower the recommended assignment to integers:")
    if results.metric == "accuracy"
    else None,
  )


def tell(results: Assignments, log) -> None:
  """Prints the table of all assignments and the answer."""
  log.console.print(
    cells.printed(points_tables.results_table(results, points_tables.BRIEF))
  )
  log.say(f"{_answer(results)} {sentences.why(results.best)}")
  for warning in results.warnings:
    log.say(f"warning: {warning}")


def content(results: Assignments) -> list[blocks.Block]:
  """The page, but for the facts of the run.

  Raises:
    ValueError: there is no reference point to compare with.
  """
  best, drawn = results.best, plots.front(results)
  point, reference = best.point, best.reference
  facts = [
    sentences.bits_in_words(point.precision),
    f"{point.weight_bytes / 1e3:.1f} kB of weights, which are "
    f"{reference.weight_bytes / 1e3:.1f} at {reference.name}",
    f"the float network has {results.float_test.accuracy:.2%}"
    + (f" {results.metric}" if results.metric != "accuracy" else ""),
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
      f"{_title(results.metric)} in validation over cycles",
      [
        blocks.Picture(drawn.svg, "front.svg"),
        blocks.note(drawn.note),
      ],
    ),
    blocks.Section(
      f"Results, {points_tables.ORDER}",
      [
        points_tables.results_table(results),
        *points_tables.seeds_table(results),
      ],
    ),
    blocks.Section(
      f"The recommended precision, layer by layer: {point.name}",
      [points_tables.layers_table(results, point)],
      "layers",
    ),
    *_strips(results),
  ]
  if results.changes:
    found = points_tables.raised_table(results, point) or [
      blocks.Text(f"Nothing was raised for {point.name}; see the others below.")
    ]
    parts.append(
      blocks.Section("What the Free Bits pass changed and why", found)
    )
  others = [
    blocks.Details(
      p.name,
      [
        *points_tables.raised_table(results, p),
        points_tables.layers_table(results, p),
      ],
      f"{p.cycles:,} cycles, {p.test.accuracy:.2%} in test",
    )
    for p in records.by_cycles(results.points)
    if p != point
  ]
  if others:
    parts.append(blocks.Section("Every other assignment", others))
  return parts


def _strips(results: Assignments) -> list[blocks.Block]:
  """Which bits where; nothing where layers are not told."""
  if not results.layers.get(results.best.point.name):
    return []
  return [
    blocks.Section(
      "Which bits where",
      [
        blocks.Picture(strip.of_points(results), "bits.svg"),
        blocks.note(
          "Layers in the order of the network; bits of the wider input where "
          "there are two. Shown are the recommended assignment (★), the "
          "reference, what the first was made from, and the front around it"
          + ", of the first seed." * (len(results.seeds) > 1)
          + "." * (len(results.seeds) == 1)
        ),
      ],
    )
  ]


def _answer(results):
  named = results.network, results.target, results.metric
  return sentences.answer(results.best, *named)


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


def _title(metric: str) -> str:
  """A metric at the start of a title; mIoU stays mIoU."""
  return metric.capitalize() if metric.islower() else metric
