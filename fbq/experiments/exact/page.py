"""The page of an exact choice: the points, and what they were chosen by."""

from pathlib import Path

from fbq.experiments.exact.results import Chosen
from fbq.report import page, picture, points_page
from fbq.report.blocks import (
  Block,
  Column,
  Details,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
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
    [*points_page.content(found), _choice(results)],
    points_page.about(found, run, workdir),
  )


def tell(results: Chosen, log: Log) -> None:
  """Prints the table of all assignments and the answer."""
  points_page.tell(results.assignments, log)


def _choice(results: Chosen) -> Block:
  """What the assignments were chosen by."""
  cycles = [cycles for cycles, _ in results.front]
  bits = sorted({b for by_bits in results.harm.values() for b in by_bits})
  return Section(
    "What they were chosen by",
    [
      Text(
        f"Harm is the {_MEASURES[results.measure]} that a precision of one "
        f"tensor alone causes on {results.images:,} calibration images. Among "
        f"all assignments, {len(results.front):,} have the least sum of harms "
        f"for their cycles, from {cycles[0]:,} to {cycles[-1]:,}; the front is "
        f"exact to {results.front_error:,} cycles. The best of a sum of harms "
        "is the best network only as far as harms add up: the rank correlation "
        "of that sum with the accuracy that is lost after training is "
        f"{_correlation(results)}."
      ),
      Picture(_front(results), "surrogate_front.svg"),
      Details(
        "Harm of every precision of every tensor",
        [
          Table(
            [
              Column("tensor"),
              *(number(f"{b} bits", "{:.3g}") for b in bits),
            ],
            [
              [site, *(by_bits.get(b) for b in bits)]
              for site, by_bits in results.harm.items()
            ],
            label="harm by tensor and bits",
          )
        ],
      ),
    ],
  )


def _correlation(results: Chosen) -> str:
  """Of each seed, in words."""
  found = [f"{r:.2f}" for r in results.agreement if r is not None]
  count = f" over {len(results.assignments.points)} assignments"
  return (" and ".join(found) + count) if found else "not defined here"


def _front(results):
  figure = picture.new(6.4, 2.8)
  axes = figure.subplots()
  picture.bare(axes, "both")
  cycles, harm = zip(*results.front, strict=True)
  [line] = axes.plot(
    cycles, harm, "o-", color=picture.GREEN, markersize=3, linewidth=0.8
  )
  picture.title(line, [f"{c:,} cycles, harm {h:.4g}" for c, h in results.front])
  axes.set_xlabel("cycles")
  axes.set_ylabel(f"sum of harms ({results.measure})")
  axes.xaxis.set_major_formatter("{x:,.0f}")
  return picture.svg(figure, "Sum of harms over cycles of the exact front")
