"""Tables of BitQ runs: table 3 of the paper, and means over seeds.

python -m fbq.experiments.bitq.collect runs/digits_bitq runs/bitq18 ...

Runs that differ in nothing but seeds become one row of means, with the standard
error over them, and get a table of every network that they share.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fbq.config import ConfigError
from fbq.experiments.bitq.results import BitQResults, BlockNetwork
from fbq.lab import experiment
from fbq.report import cells
from fbq.report import means as means_lib
from fbq.report.blocks import Cell, Column, Table, number, percents

# Column of table 3 -> our network, or word, that stands for it; which modes it
# ran, the paper does not say.
COLUMNS = {
  "FP32": "FP32",
  "DBPS": "DBPS",
  "FlexBlock": "FlexBlock FB16",
  "BitQ16": "BitQ16 recommended",
  "FAST": "FAST high",
  "BSFP": "BSFP",
  "BitQ8": "BitQ8 recommended",
}
# Table 3 of arXiv 2409.17093, top-1 on ImageNet in percent, by what builds the
# network: ECA-MobileNetV2, and ConvNeXt-L.
TABLE_3 = {
  "googlenet": (67.79, 66.71, 66.58, 67.49, 66.31, 66.54, 66.58),
  "resnet18": (69.70, 68.42, 68.29, 69.83, 68.52, 69.67, 69.71),
  "mobilenet_v2": (72.56, 68.93, 70.25, 70.85, 70.15, 69.63, 69.85),
  "convnext": (85.82, 83.85, 83.87, 84.31, 83.82, 84.18, 84.26),
}


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
  names = {n: n for n in results.by_name if n not in searched.values()}
  names |= {f"{w} recommended": n for w, n in results.recommended.items()}
  settings = json.loads(json.dumps(run.settings))
  seeds = (
    settings.pop("seed"),
    *(settings["data"].pop(name, None) for name in ("split_seed", "test_seed")),
  )
  return CollectedRun(
    results.network,
    settings["net"]["builder"],
    json.dumps(settings, sort_keys=True),
    seeds,
    {k: results.by_name[name] for k, name in (names | searched).items()},
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


Value = Callable[[BlockNetwork, CollectedRun], float | None]
_ACCURACY: Value = lambda n, run: None if n.test is None else n.percent
_ENERGY: Value = lambda n, run: (
  100 * n.moves.joules / run.networks["FP32"].moves.joules
)


def _mean(group: Sequence[CollectedRun], name: str, value: Value) -> Cell:
  """Mean and standard error of a network over runs; empty without one."""
  found = [run.networks.get(name) for run in group]
  values = [n and value(n, run) for n, run in zip(found, group, strict=True)]
  if None in values:
    return Cell(None)
  mean = means_lib.mean(values)
  return Cell(mean.value, error=mean.error)


def table_3(groups: Sequence[Sequence[CollectedRun]]) -> Table:
  """Accuracy, energy as a share of FP32's, and the paper's accuracy."""
  rows, names = [], COLUMNS.values()
  for group in groups:
    published = TABLE_3.get(group[0].builder, [None] * len(names))
    rows += [
      [group[0].net, *(_mean(group, name, _ACCURACY) for name in names)],
      ["  energy", *(_mean(group, name, _ENERGY) for name in names)],
      ["  published", *published],
    ]
  return Table(
    [Column("network"), *map(percents, COLUMNS)],
    rows,
    ["best", "", ""] * len(groups),
    "Test accuracy %, energy of data movement in % of FP32's, and the paper's "
    "top-1 % on ImageNet at full size",
  )


def means(group: Sequence[CollectedRun]) -> Table:
  """All networks that several runs share, most moved first."""

  def column(value: Value):
    return lambda name: _mean(group, name, value)

  traffic = column(lambda n, run: n.moves.kib)
  shared = set.intersection(*(set(run.networks) for run in group))
  return Table.of(
    sorted(shared, key=lambda name: (-traffic(name).value, name)),
    ("network", lambda name: name),
    (number("DRAM KiB", "{:,.1f}"), traffic),
    (
      number("energy µJ", "{:.1f}"),
      column(lambda n, run: 1e6 * n.moves.joules),
    ),
    (percents("of FP32 %"), column(_ENERGY)),
    (percents("accuracy %"), column(_ACCURACY)),
    label=f"{group[0].net}: means and standard errors of {len(group)} runs",
  )


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    groups = grouped([read(path) for path in parser.parse_args().workdirs])
  except ConfigError as error:
    sys.exit(f"error: {error}")
  tables = [table_3(groups), *(means(g) for g in groups if len(g) > 1)]
  console = Console(width=None if sys.stdout.isatty() else 120)
  for table in tables:
    console.print(cells.printed(table))


if __name__ == "__main__":
  main()
