"""The whitepaper's tables over several networks, and what they say together.

python -m fbq.experiments.whitepaper.collect runs/wp_v1 runs/wp_v2 ...
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from fbq.experiments.whitepaper import claims
from fbq.experiments.whitepaper.cases import PAPER
from fbq.experiments.whitepaper.claims import Verdict
from fbq.experiments.whitepaper.page import table_of
from fbq.experiments.whitepaper.results import WhitepaperTables
from fbq.lab import experiment
from fbq.report import blocks, cells

_MARKS = {claims.AGREES: "=", claims.DIFFERS: "x", claims.OPEN: "?", "": ""}


def read(workdirs: Sequence[Path]) -> list[WhitepaperTables]:
  """The records of runs that can stand beside each other.

  Raises:
    ValueError: another experiment, a network twice, or other seeds.
  """
  runs = [experiment.load(workdir)[1] for workdir in workdirs]
  for workdir, results in zip(workdirs, runs, strict=True):
    if not isinstance(results, WhitepaperTables):
      raise ValueError(
        f"{workdir} holds {type(results).__name__}, expected a run of "
        "configs/digits_whitepaper.py"
      )
  names, seeds = [run.network.net for run in runs], {run.seeds for run in runs}
  if len(set(names)) < len(names):
    raise ValueError(f"the networks are {names}, expected each of them once")
  if len(seeds) > 1:
    raise ValueError(
      f"the seeds of the runs are {sorted(seeds)}, expected the same for all: "
      "differences are taken within seeds"
    )
  return runs


def pairs(runs: Sequence[WhitepaperTables]) -> list[Verdict]:
  """Of each two networks, whether the one loses more by 4-bit weights, trained.

  The first is the one with fewer parameters, of which the whitepaper says that
  it loses more.
  """
  ordered = sorted(runs, key=lambda run: run.network.parameters)
  told = [(r.network.net, r.builder, r.network.accuracies) for r in ordered]
  return [claims.loses_more(*two) for two in itertools.combinations(told, 2)]


def claims_table(runs: Sequence[WhitepaperTables]) -> blocks.Table:
  """Every claim, a column for each network."""
  verdicts = [claims.verdicts(r.builder, r.network.accuracies) for r in runs]
  return blocks.Table(
    [blocks.Column("claim"), *(blocks.Column(r.network.net) for r in runs)],
    [
      [f"{claim.title} > {100 * claim.bound:g}", *map(_cell, found)]
      for claim, *found in zip(PAPER.claims, *verdicts, strict=True)
    ],
    label="Points of difference, published in brackets; = agrees, x does not, "
    "? undecided",
  )


def _cell(verdict: Verdict) -> str:
  theirs = ""
  if verdict.theirs is not None:
    theirs = f" ({100 * verdict.theirs:+z.2f})"
  return f"{verdict.ours}{theirs} {_MARKS[verdict.word]}"


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    runs = read(parser.parse_args().workdirs)
  except ValueError as error:
    sys.exit(f"error: {error}")
  shown = Console(width=None if sys.stdout.isatty() else 120)
  for table in PAPER.tables:
    shown.print(cells.printed(table_of(table, runs)))
  shown.print(cells.printed(claims_table(runs)))
  for v in pairs(runs):
    line = f"{v.word or 'here'}: {v.claim.title}: {_cell(v)} points, {v.text}"
    shown.print(line, markup=False)


if __name__ == "__main__":
  main()
