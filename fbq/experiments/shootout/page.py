"""The page of a shootout: standings, and every assignment."""

import dataclasses
import statistics
from pathlib import Path

from fbq.experiments.shootout import plots, standings
from fbq.experiments.shootout.results import Outcomes, Pass
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Cell,
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


def write(results: Outcomes, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  page.write(
    workdir / "report.html",
    f"{results.network} on {results.target}",
    "Which way to choose precisions finds the best networks, given the same "
    "budget of training?",
    blocks(results),
    dataclasses.replace(run, assumptions=results.assumptions),
  )


def tell(results: Outcomes, log: Log) -> None:
  """Prints the standings and who wins."""
  rows = results.standings
  log.console.print(cells.printed(_standings(results, rows)))
  log.say(standings.verdict(rows, len(results.seeds)))
  log.say(about_passes(results.passes))


def blocks(results: Outcomes) -> list[Block]:
  """The page, but for the facts of the run."""
  rows = results.standings
  return [
    Answer([standings.verdict(rows, len(results.seeds))]),
    Picture(plots.panels(results.tuned, rows, results.test_count), "front.svg"),
    Text(
      "Blue: the strategy's assignments, each setting the mean of "
      f"{len(results.seeds)} seeds, bars one standard error. Grey: all other "
      "strategies. Black squares: uniform networks and their raised versions. "
      "A title gives the area covered.",
      note=True,
    ),
    Section("Standings", [_standings(results, rows), _about(results)]),
    Section("The strategies", [_strategies(results)]),
    Section("The hardware pass", [Text(about_passes(results.passes))]),
    Section("Every assignment", [_assignments(results)]),
  ]


def about_passes(passes: tuple[Pass, ...]) -> str:
  """How far the greedy pass is from the exact one."""
  apart = [d for d in passes if d.greedy != d.least]
  saved = [1 - d.least / d.start for d in passes]
  text = (
    f"Raising precisions made {sum(s > 0 for s in saved)} of {len(saved)} "
    f"different assignments faster, by {statistics.fmean(saved):.1%} on "
    f"average and {max(saved):.1%} at most. "
  )
  if not apart:
    return text + (
      "The greedy Free Bits pass is optimal for every one of them, as it must "
      "be where outputs stay at 8 bits and no tensor is shared."
    )
  worst = max(d.greedy / d.least - 1 for d in apart)
  return text + (
    f"The greedy Free Bits pass misses the optimum in {len(apart)}, by "
    f"{worst:.2%} at most; the exact one was used."
  )


def _standings(results, rows):
  seeds = len(results.seeds)

  def of(mean):
    if mean is None:
      return None
    return Cell(mean.value, mean.of(seeds))

  return Table(
    [
      Column("strategy"),
      *(number(f"{share:.0%}\nof cycles") for share in results.budgets),
      number("area\n%"),
      number("behind the\nleader"),
      number("one search,\nfloat steps", "{:,.0f}"),
      number("assign-\nments"),
    ],
    [
      [
        row.strategy,
        *(of(best) for best in row.best),
        of(row.hypervolume),
        of(row.behind),
        row.search_steps,
        row.assignments,
      ]
      for row in rows
    ],
    ["like" if row.is_level else "" for row in rows],
    "best test accuracy (%) within a latency, of 8/8's cycles",
  )


def _about(results):
  return Text(
    "Best test accuracy (%) among a strategy's assignments, and the uniform "
    "8-bit network, that take at most so many of the 8-bit network's cycles; "
    "“–”: none is that fast, (1/3): of one seed in three alone, whose mean "
    "is not that of the others. Area: the share of the rectangle from no "
    "cycles to those of 8 bits and from "
    f"{results.least_accuracy:.0%} to 100 % accuracy that the assignments "
    "dominate. ± is the standard error over seeds. Shaded: not told from the "
    "leader by a t-test at 95 % on differences within seeds.",
    note=True,
  )


def _strategies(results):
  return Table(
    [Column("strategy"), Column("what it does", "long"), Column("settings")],
    [
      [name, tried.text, ", ".join(f"{s:g}" for s in tried.settings)]
      for name, tried in results.tried.items()
    ],
    label="strategies",
  )


def _assignments(results):
  order = sorted(results.tuned, key=lambda t: (t.strategy, t.seed, t.cycles))
  table = Table(
    [
      Column("strategy"),
      number("seed", "{}"),
      Column("setting"),
      number("cycles"),
      number("accuracy\n%", "{:.2f}"),
      Column("bits of the tensors, in order", "long"),
    ],
    [
      [
        t.strategy,
        t.seed,
        t.setting,
        t.cycles,
        100 * t.accuracy,
        "".join(map(str, t.precision.values())),
      ]
      for t in order
    ],
    label="every assignment",
  )
  return Details(f"{len(order)} assignments", [table])
