"""The page of a shootout: standings, and every assignment."""

import dataclasses
import math
import statistics
from pathlib import Path

from fbq.experiments.shootout import plots, standings
from fbq.experiments.shootout.results import Outcomes, Pass
from fbq.report import page
from fbq.report.blocks import (
  Answer,
  Block,
  Bullets,
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
from fbq.report.sentences import counted
from fbq.train.log import Log

_FEW = 3  # warnings that are shown above the results


def write(results: Outcomes, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  page.write(
    workdir / "report.html",
    f"{results.network} on {results.target}",
    "Which way to choose precisions finds the best networks, given the same "
    "fine-tuning?",
    blocks(results),
    dataclasses.replace(run, assumptions=results.assumptions),
  )


def tell(results: Outcomes, log: Log) -> None:
  """Prints the standings and who wins."""
  rows = results.standings
  log.console.print(printed(_standings(results, rows)))
  for sentence in _answers(results, rows):
    log.say(sentence)
  log.say(about_passes(results.passes))
  for warning in results.warnings:
    log.say(f"warning: {warning}")


def blocks(results: Outcomes) -> list[Block]:
  """The page, but for the facts of the run."""
  rows = results.standings
  return [
    Answer(_answers(results, rows)),
    *_warnings(results.warnings),
    Picture(plots.panels(results.tuned, rows), "front.svg"),
    note(
      "Blue: the strategy's assignments, each setting the mean of "
      f"{counted(len(results.seeds), 'seed')}, bars one standard error, with "
      "one seed that over source images. Grey: all other strategies. Black "
      "squares: uniform networks and their raised versions. A title gives the "
      "area covered."
    ),
    Section(
      "Standings",
      [
        _standings(results, rows),
        note(
          "Test accuracy (%) of that among a strategy's assignments, and the "
          "uniform 8-bit network, which is best in validation and takes at "
          "most so many of the 8-bit network's cycles; “–”: none is that fast, "
          "(1/3): of one seed in three alone, whose mean is not that of the "
          "others. Area: the share of the rectangle from no cycles to those of "
          f"8 bits and from {results.least_accuracy:.0%} to 100 % accuracy "
          "that lies below what is deployed at each number of cycles. ± is the "
          "standard error over seeds. p: of paired t-tests within seeds, "
          "corrected by Holm: against the leader, which the same areas pick, "
          "for all pairs of strategies; against the control by-macs, which is "
          "set before, for its own. MACs and bits: Spearman's correlation, "
          "over tensors, between multiply-accumulates and chosen bits. "
          "Searches: processor time of all of a seed, in steps of float "
          "training; they come on top of the fine-tuning. Shaded: not told "
          "from the leader."
        ),
      ],
    ),
    Section("The strategies", [_strategies(results)]),
    Section("The hardware pass", [Text(about_passes(results.passes))]),
    Section("Every assignment", [_assignments(results)]),
  ]


def _warnings(texts: tuple[str, ...]) -> list[Block]:
  """What went wrong; many are opened by a click, so that results are seen."""
  if len(texts) <= _FEW:
    return [Text(text, lead="Warning:") for text in texts]
  said = f"{len(texts)} warnings: some searches found nothing, or not enough"
  return [Details(said, [Bullets(texts)])]


def _answers(results: Outcomes, rows) -> list[str]:
  """Who wins, and who does better than no search at all."""
  seeds = len(results.seeds)
  said = [standings.verdict(rows, seeds), standings.about_control(rows, seeds)]
  return [sentence for sentence in said if sentence]


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
    return text + "The greedy Free Bits pass is optimal for every one of them."
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
    (number("area\n%"), lambda row: mean(row.area)),
    (number("behind the\nleader"), lambda row: mean(row.behind)),
    (number("p", "{:.2f}"), lambda row: _tested(row.chance)),
    (number("above\nby-macs"), lambda row: mean(row.over_control)),
    (number("p", "{:.2f}"), lambda row: _tested(row.control_chance)),
    (number("MACs\nand bits", "{:+.2f}"), lambda row: row.rank),
    (number("searches,\nfloat steps", "{:,.0f}"), lambda r: r.search_steps),
    (number("assign-\nments"), lambda row: row.assignments),
    marks=lambda row: "like" if row.is_level else "",
    label="Best test accuracy (%) within a latency, of 8/8's cycles",
  )


def _tested(chance: float) -> float | None:
  return None if math.isnan(chance) else chance


def _strategies(results: Outcomes) -> Table:
  return Table.of(
    results.tried.items(),
    (Column("strategy"), lambda item: item[0]),
    (Column("what it does", "long"), lambda item: item[1].text),
    (number("searches\na seed", "{:.1f}"), lambda item: item[1].searches),
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
    (number("validation\n%", "{:.2f}"), lambda t: 100 * t.validation),
    (number("test\n%", "{:.2f}"), lambda t: 100 * t.accuracy),
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
  return Details(counted(len(order), "assignment"), [table])
