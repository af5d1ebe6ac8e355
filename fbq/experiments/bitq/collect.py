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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fbq.config import ConfigError
from fbq.experiments.bitq.block_network import BlockNetwork
from fbq.experiments.bitq.results import BitQResults
from fbq.lab import experiment
from fbq.report import cells
from fbq.report.blocks import Column, Table, number

# Column of table 3 -> our network, or word, that stands for it; which modes it
# ran, the paper does not say.
COLUMNS = {
  "FP32": "FP32",
  "DBPS": "DBPS",
  "FlexBlock": "FlexBlock FB16",
  "BitQ16": "BitQ16",
  "FAST": "FAST high",
  "BSFP": "BSFP",
  "BitQ8": "BitQ8",
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


def _mean(
  group: Sequence[CollectedRun],
  name: str,
  value: Callable[[BlockNetwork, CollectedRun], float],
  digits: int,
) -> str:
  """Mean and standard error of a network over runs; a dash for none."""
  if any(name not in run.networks for run in group):
    return "–"
  values = [value(run.networks[name], run) for run in group]
  if any(map(math.isnan, values)):
    return "–"
  text = f"{statistics.fmean(values):.{digits}f}"
  if len(values) == 1:
    return text
  error = statistics.stdev(values) / math.sqrt(len(values))
  return f"{text} ±{error:.{digits}f}"


# (network, its run) -> number, and how many digits of it are shown.
_ACCURACY = lambda n, run: math.nan if n.test is None else n.percent, 2
_SHARE = lambda n, run: n.moves.joules / run.networks["FP32"].moves.joules, 3
_ENERGY = lambda n, run: 1e6 * n.moves.joules, 1
_TRAFFIC = lambda n, run: n.kib, 1


def table_3(groups: Sequence[Sequence[CollectedRun]]) -> Table:
  """Accuracy, energy as a share of FP32's, and the paper's accuracy."""
  rows = []
  for group in groups:
    names = [
      name if name in group[0].networks else f"{name} recommended"
      for name in COLUMNS.values()
    ]
    published = TABLE_3.get(group[0].builder, [None] * len(names))
    rows += [
      [group[0].net, *(_mean(group, name, *_ACCURACY) for name in names)],
      ["  energy", *(_mean(group, name, *_SHARE) for name in names)],
      ["  published", *published],
    ]
  columns = [number(name, "{:.2f}") for name in COLUMNS]
  marks = ["best", "", ""] * len(groups)
  return Table([Column("network"), *columns], rows, marks)


def means(group: Sequence[CollectedRun]) -> Table:
  """All networks that several runs share, most moved first."""
  first = group[0].networks
  shared = [n for n in first if all(n in run.networks for run in group)]
  moved = {
    name: statistics.fmean(run.networks[name].kib for run in group)
    for name in shared
  }
  values = {
    "DRAM KiB": _TRAFFIC,
    "energy µJ": _ENERGY,
    "of FP32": _SHARE,
    "accuracy %": _ACCURACY,
  }
  return Table(
    [Column("network"), *map(number, values)],
    [
      [name, *(_mean(group, name, *value) for value in values.values())]
      for name in sorted(shared, key=lambda name: -moved[name])
    ],
  )


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    groups = grouped([read(path) for path in parser.parse_args().workdirs])
  except ConfigError as error:
    sys.exit(f"error: {error}")
  console = Console(width=None if sys.stdout.isatty() else 120)
  title = (
    "Test accuracy %, energy of data movement against FP32, and the paper's "
    "top-1 % on ImageNet at full size"
  )
  console.print(cells.printed(table_3(groups), title))
  for group in groups:
    if len(group) > 1:
      title = f"{group[0].net}: means and standard errors of {len(group)} runs"
      console.print(cells.printed(means(group), title))


if __name__ == "__main__":
  main()
