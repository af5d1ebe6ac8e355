"""Tables of BitQ runs: every network over seeds, and networks side by side.

  python -m fbq.experiments.bitq.collect runs/digits_bitq runs/bitq18 ...
  python -m fbq.experiments.bitq.collect --page=table3.html runs/unet runs/vit

Runs that differ in nothing but seeds count as one of all their seeds.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from fbq.config import ConfigError
from fbq.experiments.bitq import page, table3
from fbq.experiments.bitq.results import BitQResults
from fbq.experiments.bitq.word_section import KIB, in_percent, plain
from fbq.lab import experiment
from fbq.report import cells
from fbq.report import page as report_page
from fbq.report.blocks import Section, Table, note, percents
from fbq.report.run import Run, command, commit, machine


def read(workdirs: Sequence[Path]) -> list[BitQResults]:
  """The records of runs, those of the same settings joined.

  Raises:
    ConfigError: another experiment, no results, or a seed twice.
  """
  joined: dict[str, BitQResults] = {}
  for workdir in workdirs:
    _, results, run = experiment.load(workdir)
    if not isinstance(results, BitQResults):
      raise ConfigError(
        f"{workdir} holds {type(results).__name__}, expected a run of "
        "configs/digits_bitq.py"
      )
    settings = {k: v for k, v in run.settings.items() if k != "seeds"}
    key = json.dumps(settings, sort_keys=True)
    if key in joined:
      studies = (*joined[key].studies, *results.studies)
      results = dataclasses.replace(results, studies=studies)
    seeds = [study.seed for study in results.studies]
    if len(set(seeds)) < len(seeds):
      raise ConfigError(
        f"{workdir}: the seeds of {results.network} are {seeds}, expected each "
        "once"
      )
    joined[key] = results
  return list(joined.values())


def networks(runs: Sequence[BitQResults]) -> Table:
  """FP32 and what is recommended for each word, a row for each network."""
  rows = [
    (run, role)
    for run in runs
    for role in (
      "FP32",
      *(f"{w.name} recommended" for w in run.studies[0].words),
    )
  ]
  kib = lambda n, _: n.moves.kib
  return Table.of(
    rows,
    ("network", lambda row: f"{row[0].network}, {row[1]}"),
    (KIB, lambda row: plain(row[0].over_seeds(row[1], kib))),
    ("test metric", lambda row: row[0].metric),
    (percents("test\n%"), lambda row: in_percent(row[0].test(row[1]))),
    (percents("below\nFP32"), lambda row: in_percent(row[0].lost(row[1]))),
    label="Networks side by side",
  )


def write(path: Path, runs: Sequence[BitQResults]) -> None:
  """Writes a page of all runs in the layout of table 3."""
  examples = [
    block
    for run in runs
    if run.studies[0].examples
    for block in page.told_section(run).blocks
  ]
  report_page.write(
    path,
    "Block formats by task",
    "How much does each block format keep of what a network can do?",
    [
      Section("Beside table 3", [table3.table(runs), note(table3.NOTE)]),
      *([Section("What networks tell", examples)] if examples else []),
      Section("What moves", [networks(runs)]),
    ],
    Run(command=command(), commit=commit(), facts=machine()),
  )


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  parser.add_argument("--page", type=Path, help="writes a page too")
  given = parser.parse_args()
  try:
    runs = read(given.workdirs)
  except ConfigError as error:
    sys.exit(f"error: {error}")
  console = Console(width=None if sys.stdout.isatty() else 120)
  for run in runs:
    for table in page.tables(run):
      console.print(cells.printed(table))
  console.print(cells.printed(networks(runs)))
  console.print(cells.printed(table3.table(runs)))
  if given.page:
    write(given.page, runs)
    print(f"Page: {given.page}")


if __name__ == "__main__":
  main()
