"""The whitepaper's tables over several networks, and what they say together.

python -m fbq.report.whitepaper_collect runs/wp_v1 runs/wp_v2 ...
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fbq.report import whitepaper, whitepaper_claims, whitepaper_published
from fbq.report.whitepaper import CASES, FLOAT, W4A8, Case, signed
from fbq.report.whitepaper_claims import Claim, Verdict


class Run(NamedTuple):
  """A finished run.

  Attributes:
    net: its name.
    builder: of it.
    seeds: of training.
    parameters: of the network.
    accuracies: case -> of each seed.
  """

  net: str
  builder: str
  seeds: tuple[int, ...]
  parameters: int
  accuracies: dict[Case, list[float]]


def read(workdir: Path) -> Run:
  """A finished run.

  Raises:
    ValueError: not one of the whitepaper's tables.
  """
  try:
    result = json.loads((workdir / "result.json").read_text())
    return Run(
      result["net"],
      result["builder"],
      tuple(result["seeds"]),
      result["parameters"],
      {case: result["accuracies"][case.name] for case in (FLOAT, *CASES)},
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{workdir} is no finished run of configs/digits_whitepaper.py: {error!r}"
    ) from error


def check(runs: Sequence[Run]) -> None:
  """Raises ValueError unless runs can stand beside each other."""
  names = [run.net for run in runs]
  if len(set(names)) < len(names):
    raise ValueError(f"the networks are {names}, expected each of them once")
  seeds = {run.seeds for run in runs}
  if len(seeds) > 1:
    raise ValueError(
      f"the seeds of the runs are {sorted(seeds)}, expected the same for all: "
      "differences are taken within seeds"
    )


def pairs(runs: Sequence[Run]) -> list[Verdict]:
  """Of each two networks, whether the one loses more by 4-bit weights, trained.

  The first is the one with fewer parameters, of which the whitepaper says that
  it loses more.
  """
  found = []
  ordered = sorted(runs, key=lambda run: run.parameters)
  for small, large in itertools.combinations(ordered, 2):
    claim = Claim(
      f"lost by {small.net} - by {large.net}, 4-bit weights, trained",
      *(W4A8, W4A8, 0.0),
      f"{small.net} loses more",
      f"{small.net} loses no more",
    )
    ours, theirs = [], []
    for run in (small, large):
      ours.append(whitepaper_claims.lost(run.accuracies, W4A8))
      in_float = whitepaper_published.in_float(run.builder)
      trained = whitepaper_published.accuracy(run.builder, 6, "qat_w4a8")
      if in_float is not None and trained is not None:
        theirs.append(in_float - trained)
    apart = whitepaper_claims.differences(*ours)
    printed = theirs[0] - theirs[1] if len(theirs) == 2 else None
    found.append(whitepaper_claims.verdict(claim, apart, printed))
  return found


def claims_table(runs: Sequence[Run]):
  """A `rich.table.Table`: every claim, a column for each network."""
  from rich.table import Table

  table = Table(
    title="Points of difference, published in brackets; = agrees, x does not, "
    "? undecided"
  )
  table.add_column("claim")
  for run in runs:
    table.add_column(run.net, justify="right")
  columns = [
    {v.claim: v for v in whitepaper_claims.verdicts(r.builder, r.accuracies)}
    for r in runs
  ]
  for claim in whitepaper_claims.CLAIMS:
    bound = f" > {100 * claim.bound:g}" if claim.bound else " > 0"
    cells = [_cell(column[claim]) for column in columns]
    table.add_row(claim.title + bound, *cells)
  return table


_MARKS = {
  whitepaper_claims.AGREES: "=",
  whitepaper_claims.DIFFERS: "x",
  whitepaper_claims.OPEN: "?",
  "": "",
}


def _cell(verdict: Verdict) -> str:
  theirs = "" if verdict.theirs is None else f" ({signed(verdict.theirs)})"
  return f"{verdict.ours}{theirs} {_MARKS[verdict.word]}"


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    runs = [read(path) for path in parser.parse_args().workdirs]
    check(runs)
  except ValueError as error:
    sys.exit(f"error: {error}")
  console = Console(width=None if sys.stdout.isatty() else 120)
  rows = {run.net: (run.builder, run.accuracies) for run in runs}
  for table in whitepaper.TABLES:
    console.print(whitepaper.console_table(table, rows))
  console.print(claims_table(runs))
  for v in pairs(runs):
    console.print(
      f"{v.word or 'here'}: {v.claim.title}: {v.ours} points"
      + ("" if v.theirs is None else f" ({signed(v.theirs)} published)")
      + f", {v.text}",
      markup=False,
    )


if __name__ == "__main__":
  main()
