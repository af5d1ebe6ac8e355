"""The page of an exact choice: the points, and what they were chosen by."""

from pathlib import Path

from fbq.experiments.exact import pictures
from fbq.experiments.exact.results import Chosen
from fbq.report import page, points_page
from fbq.report.blocks import (
  Block,
  Column,
  Details,
  Picture,
  Section,
  Table,
  Text,
  note,
  number,
)
from fbq.report.run import Run
from fbq.report.sentences import counted
from fbq.train.log import Log

_MEASURES = {
  "kl": "KL divergence of the outputs",
  "loss": "increase of the loss",
  "mse": "squared error of the outputs",
}


def write(results: Chosen, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  found = results.assignments
  page.write(
    workdir / "report.html",
    *points_page.heading(found),
    [*points_page.content(found), *_choice(results)],
    points_page.about(found, run, workdir),
  )


def tell(results: Chosen, log: Log) -> None:
  """Prints the table of all assignments and the answer."""
  points_page.tell(results.assignments, log)


def _choice(results: Chosen) -> list[Block]:
  """What the assignments were chosen by, and what is proven of the choice."""
  measure = _MEASURES[results.measure]
  drawn, told = pictures.front(results)
  return [
    Section(
      "What every precision of every tensor harms",
      [
        Text(
          f"Harm is the {measure} that a precision of one tensor alone causes "
          f"on {results.images:,} calibration images. The choice takes the "
          "least sum of harms; the best of a sum is the best network only as "
          "far as harms add up: the rank correlation of that sum with the "
          f"{results.assignments.metric} that is lost after training is "
          f"{_correlation(results)}."
        ),
        Picture(pictures.harms(results), "sensitivities.svg"),
        _harms(results),
      ],
      "sensitivities",
    ),
    Section(
      "The whole front, and what is proven",
      [
        Text(_about_front(results)),
        Picture(drawn, "surrogate_front.svg"),
        note(told),
        *_certificates(results),
      ],
      "certificate",
    ),
  ]


def _about_front(results: Chosen) -> str:
  """How many there are, and how exact their front is."""
  cycles = [cycles for cycles, _ in results.front]
  many = f"10^{results.choices:.1f} " if results.choices else ""
  if 0 < results.choices < 6:
    many = f"{round(10**results.choices):,} "
  error = (
    f"for every assignment it has one that harms no more and takes at most "
    f"{results.front_error:,} cycles more"
    if results.front_error
    else "it is exact to the cycle"
  )
  return (
    f"Of all {many}assignments that rules and limits allow, "
    f"{len(results.front):,} have the least sum of harms for their cycles, "
    f"from {cycles[0]:,} to {cycles[-1]:,}: {error}."
  )


def _certificates(results: Chosen) -> list[Block]:
  """The proof of every choice, and how to check it."""
  if not results.certificates:
    return []
  table = Table.of(
    results.certificates,
    (number("budget\ncycles"), lambda c: c.budget),
    (number("chosen\ncycles"), lambda c: c.cycles),
    (number("its harm", "{:z.4g}"), lambda c: c.harm),
    (number("price\nharm / Mcycle", "{:.4g}"), lambda c: _per_million(c.price)),
    (number("no less harm\nthan", "{:z.4g}"), lambda c: c.bound),
    (number("gap", "{:.2g}"), lambda c: c.gap),
    label="certificates of the choices",
  )
  if any(one.bound is None for one in results.certificates):
    said = (
      "A limit on another sum binds, for which the proof by a price is not "
      "made; the choice itself is exact."
    )
  else:
    said = (
      "The choice under each budget is exact: none within it has less harm. "
      "The price is a second proof that anybody can check: whatever an "
      "assignment, its harm + price × (cycles − budget) is at least “no less "
      "harm than”, and within the budget the second term saves nothing. That "
      "least is a sum by layers without a budget, found without the front. A "
      "gap is what such a proof leaves open between two corners of the "
      "front's hull, not what the choice misses."
    )
  return [table, note(said)]


def _per_million(price: float | None) -> float | None:
  return None if price is None else 1e6 * price


def _harms(results: Chosen) -> Details:
  """Every number of the picture."""
  bits = sorted({b for by_bits in results.harm.values() for b in by_bits})
  columns = [Column("tensor"), *(number(f"{b} bits", "{:.3g}") for b in bits)]
  rows = [
    [site, *(by_bits.get(b) for b in bits)]
    for site, by_bits in results.harm.items()
  ]
  table = Table(columns, rows, label="harm by tensor and bits")
  return Details("Harm of every precision of every tensor", [table])


def _correlation(results: Chosen) -> str:
  """Of each seed, in words."""
  found = [f"{r:.2f}" for r in results.agreement if r is not None]
  count = f" over {counted(len(results.assignments.points), 'assignment')}"
  return (" and ".join(found) + count) if found else "not defined here"
