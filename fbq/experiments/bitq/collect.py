"""Tables of BitQ runs: table 3 of the paper, and means over seeds.

python -m fbq.experiments.bitq.collect runs/digits_bitq runs/bitq18 ...

Runs that differ in nothing but seeds become one row of means, with the standard
error over them, and get a table of every network that they share.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fbq.config import ConfigError
from fbq.experiments.bitq import paper
from fbq.experiments.bitq.results import BitQResults, BlockNetwork
from fbq.lab import experiment


class CollectedRun(NamedTuple):
  """A finished run.

  Attributes:
    net, builder: name of the network, and what made it.
    settings: all settings but seeds, as text.
    seeds: seeds of training, of the split, of the test images.
    networks: by name. Searched ones go by what was searched for, "BitQ8
      recommended" or "BitQ8 at alpha 0.15": a name then means the same in every
      run.
  """

  net: str
  builder: str
  settings: str
  seeds: tuple[int | None, ...]
  networks: Mapping[str, BlockNetwork]


def read(workdir: Path) -> CollectedRun:
  """A run that has results.

  Raises:
    ConfigError: none, or one of another experiment.
  """
  _, results, run = experiment.load(workdir)
  if not isinstance(results, BitQResults):
    raise ConfigError(
      f"{workdir} is a run of {run.settings['experiment']!r}, expected 'bitq'"
    )
  searched = {
    f"{word.name} at alpha {optimum.alpha}": optimum.network
    for word in results.words
    for optimum in word.optima
  }
  networks = {
    name: network
    for name, network in results.by_name.items()
    if name not in searched.values()
  }
  searched |= {f"{w} recommended": n for w, n in results.recommended.items()}
  networks |= {name: results.by_name[n] for name, n in searched.items()}
  settings = json.loads(json.dumps(run.settings))
  data = settings["data"]
  seeds = (
    settings.pop("seed"),
    *(data.pop(name, None) for name in ("split_seed", "test_seed")),
  )
  return CollectedRun(
    results.network,
    settings["net"]["builder"],
    json.dumps(settings, sort_keys=True),
    seeds,
    networks,
  )


def grouped(runs: Sequence[CollectedRun]) -> list[list[CollectedRun]]:
  """Runs of the same settings together.

  Raises:
    ConfigError: two of them have the same seeds too.
  """
  groups: dict[str, list[CollectedRun]] = {}
  for run in runs:
    group = groups.setdefault(run.settings, [])
    if run.seeds in [other.seeds for other in group]:
      raise ConfigError(
        f"two runs of {run.net} have the same settings and the seeds "
        f"{run.seeds}: they are one run, expected each once"
      )
    group.append(run)
  return list(groups.values())


def _numbers(group: Sequence[CollectedRun], name: str) -> dict[str, str]:
  """Means of a network over runs, as text; "–" where a run has no number."""
  found = [run.networks.get(name) for run in group]
  known = [n for n in found if n is not None]
  if len(known) < len(found):
    return dict.fromkeys(("accuracy", "share", "energy", "traffic"), "–")
  shares = [
    n.joules / run.networks["FP32"].joules
    for n, run in zip(known, group, strict=True)
  ]
  return {
    "accuracy": _mean([n.percent for n in known if n.test is not None], 2),
    "share": _mean(shares, 3),
    "energy": _mean([1e6 * n.joules for n in known], 1),
    "traffic": _mean([n.kib for n in known], 1),
  }


def _mean(values: Sequence[float], digits: int) -> str:
  """Mean and standard error."""
  if len(values) < 2:
    return f"{values[0]:.{digits}f}" if values else "–"
  error = statistics.stdev(values) / math.sqrt(len(values))
  return f"{statistics.fmean(values):.{digits}f} ±{error:.{digits}f}"


def table_3(groups: Sequence[Sequence[CollectedRun]]):
  """A `rich.table.Table`: accuracy, energy, and the paper's accuracy."""
  from rich.table import Table

  table = Table(
    title="Test accuracy %, energy of data movement against FP32, and the "
    "paper's top-1 % on ImageNet at full size"
  )
  table.add_column("network")
  for column in paper.COLUMNS:
    table.add_column(column, justify="right", no_wrap=True)
  for group in groups:
    names = [
      name if name in group[0].networks else f"{name} recommended"
      for name in paper.COLUMNS.values()
    ]
    ours = [_numbers(group, name) for name in names]
    published = paper.TABLE_3.get(group[0].builder, ())
    table.add_row(group[0].net, *(n["accuracy"] for n in ours), style="bold")
    table.add_row("  energy", *(n["share"] for n in ours))
    table.add_row(
      "  published",
      *([f"{x:.2f}" for x in published] or ["–"] * len(ours)),
    )
  return table


def means(group: Sequence[CollectedRun]):
  """A `rich.table.Table`: all networks of several runs, most moved first."""
  from rich.table import Table

  table = Table(
    title=f"{group[0].net}: means and standard errors of {len(group)} runs"
  )
  table.add_column("network")
  for heading in ("DRAM KiB", "energy uJ", "of FP32", "accuracy %"):
    table.add_column(heading, justify="right", no_wrap=True)
  shared = [
    name
    for name in group[0].networks
    if all(name in run.networks for run in group)
  ]
  moved = {
    name: statistics.fmean(run.networks[name].kib for run in group)
    for name in shared
  }
  for name in sorted(shared, key=lambda name: -moved[name]):
    n = _numbers(group, name)
    table.add_row(name, n["traffic"], n["energy"], n["share"], n["accuracy"])
  return table


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    groups = grouped([read(path) for path in parser.parse_args().workdirs])
  except ConfigError as error:
    sys.exit(f"error: {error}")
  console = Console(width=None if sys.stdout.isatty() else 120)
  console.print(table_3(groups))
  for group in groups:
    if len(group) > 1:
      console.print(means(group))


if __name__ == "__main__":
  main()
