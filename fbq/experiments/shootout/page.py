"""The page of a shootout: standings, and every assignment."""

import dataclasses
import statistics
from pathlib import Path

from fbq.experiments.shootout import plots, standings
from fbq.experiments.shootout.results import Outcomes, Pass
from fbq.report import page
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
  note,
  number,
)
from fbq.report.cells import printed
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
  log.console.print(printed(_standings(results, rows)))
  log.say(standings.verdict(rows, len(results.seeds)))
  log.say(about_passes(results.passes))


def blocks(results: Outcomes) -> list[Block]:
  """The page, but for the facts of the run."""
  rows = results.standings
  return [
    Answer([standings.verdict(rows, len(results.seeds))]),
    Picture(plots.panels(results.tuned, rows, results.test_count), "front.svg"),
    note(
      "Blue: the strategy's assignments, each setting the mean of "
      f"{len(results.seeds)} seeds, bars one standard error. Grey: all other "
      "strategies. Black squares: uniform networks and their raised versions. "
      "A title gives the area covered."
    ),
    Section(
      "Standings",
      [
        _standings(results, rows),
        note(
          "Best test accuracy (%) among a strategy's assignments, and the "
          "uniform 8-bit network, that take at most so many of the 8-bit "
          "network's cycles; “–”: none is that fast, (1/3): of one seed in "
          "three alone, whose mean is not that of the others. Area: the share "
          "of the rectangle from no cycles to those of 8 bits and from "
          f"{results.least_accuracy:.0%} to 100 % accuracy that the "
          "assignments dominate. ± is the standard error over seeds. Shaded: "
          "not told from the leader by a t-test at 95 % on differences within "
          "seeds."
        ),
      ],
    ),
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


def _standings(results: Outcomes, rows) -> Table:
  def mean(value):
    return value and Cell(value.value, value.of(len(results.seeds)))

  def best(i):
    return lambda row: mean(row.best[i])

  return Table.of(
    rows,
    (Column("strategy"), lambda row: row.strategy),
    *(
      (number(f"{share:.0%}\nof cycles"), best(i))
      for i, share in enumerate(results.budgets)
    ),
    (number("area\n%"), lambda row: mean(row.hypervolume)),
    (number("behind the\nleader"), lambda row: mean(row.behind)),
    (number("one search,\nfloat steps", "{:,.0f}"), lambda r: r.search_steps),
    (number("assign-\nments"), lambda row: row.assignments),
    marks=lambda row: "like" if row.is_level else "",
    label="Best test accuracy (%) within a latency, of 8/8's cycles",
  )


def _strategies(results: Outcomes) -> Table:
  return Table.of(
    results.tried.items(),
    (Column("strategy"), lambda item: item[0]),
    (Column("what it does", "long"), lambda item: item[1].text),
    (
      Column("settings"),
      lambda item: ", ".join(f"{s:g}" for s in item[1].settings),
    ),
    label="strategies",
  )


def _assignments(results: Outcomes) -> Details:
  order = sorted(results.tuned, key=lambda t: (t.strategy, t.seed, t.cycles))
  table = Table.of(
    order,
    (Column("strategy"), lambda t: t.strategy),
    (number("seed", "{}"), lambda t: t.seed),
    (Column("setting"), lambda t: t.setting),
    (number("cycles"), lambda t: t.cycles),
    (number("accuracy\n%", "{:.2f}"), lambda t: 100 * t.accuracy),
    (
      Column("outputs timed otherwise", "soft"),
      lambda t: ", ".join(f"{k}: {v}" for k, v in t.otherwise.items()),
    ),
    (
      Column("bits of the tensors, in order", "long"),
      lambda t: "".join(map(str, t.precision.values())),
    ),
    label="every assignment",
  )
  return Details(f"{len(order)} assignments", [table])
