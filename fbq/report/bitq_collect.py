"""Tables of finished BitQ runs: table 3 of the paper, and means over seeds.

python -m fbq.report.bitq_collect runs/digits_bitq runs/bitq18 ...

Runs that differ in nothing but seeds become one row of means, with the standard
error over them, and get a table of every network that they share.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fbq.report import bitq_published
from fbq.report.shootout import Mean, mean

# Column of the paper -> our network that stands for it; the paper does not say
# which modes it ran.
COLUMNS = {
  "FP32": "FP32",
  "DBPS": "DBPS",
  "FlexBlock": "FlexBlock FB16",
  "BitQ16": "BitQ16 recommended",
  "FAST": "FAST high",
  "BSFP": "BSFP",
  "BitQ8": "BitQ8 recommended",
}


class Run(NamedTuple):
  """A finished run.

  Attributes:
    net: its name.
    builder: of the network, by which the paper's row is found.
    settings: the configuration without seeds, as text.
    seeds: of training, of the split, of the test images.
    outcomes: network -> its entry in result.json. Searched ones go by what was
      searched for, "BitQ8 recommended" or "BitQ8 at alpha 0.15": a name then
      means the same in every run.
  """

  net: str
  builder: str
  settings: str
  seeds: tuple[int, int, int]
  outcomes: Mapping[str, Mapping[str, Any]]


class Numbers(NamedTuple):
  """Of one network, over runs.

  Attributes:
    accuracy: on test images, 0 to 1; None if it was not trained.
    share: energy of data movement as a share of FP32's in the same run.
    microjoules: the energy of an image.
    kilobytes: DRAM traffic of an image.
  """

  accuracy: Mean | None
  share: Mean
  microjoules: Mean
  kilobytes: Mean


class Row(NamedTuple):
  """Runs of the same settings.

  Attributes:
    net, builder: see `Run`.
    seeds: of each run.
    networks: those that all runs have.
  """

  net: str
  builder: str
  seeds: tuple[tuple[int, int, int], ...]
  networks: dict[str, Numbers]


def read(workdir: Path) -> Run:
  """A finished run.

  Raises:
    ValueError: not a finished BitQ run of both word lengths.
  """
  try:
    result = json.loads((workdir / "result.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    found = result["outcomes"]
    searched = {
      f"{word} at alpha {alpha}": name
      for word, by_alpha in result["by_alpha"].items()
      for alpha, name in by_alpha.items()
    }
    outcomes = {n: o for n, o in found.items() if n not in searched.values()}
    searched |= {
      f"{word} recommended": result["recommended"][word]
      for word in ("BitQ16", "BitQ8")
    }
    outcomes |= {name: found[other] for name, other in searched.items()}
    data = config["data"]
    seeds = config.pop("seed"), data.pop("split_seed"), data.pop("test_seed")
    return Run(
      result["net"],
      config["net"]["builder"],
      json.dumps(config, sort_keys=True),
      seeds,
      outcomes,
    )
  except (OSError, ValueError, KeyError) as error:
    raise ValueError(
      f"{workdir} is no finished run of BitQ at 16 and 8 bits: {error!r}"
    ) from error


def rows(runs: Sequence[Run]) -> list[Row]:
  """A row for all runs of the same settings.

  Raises:
    ValueError: two of them have the same seeds too.
  """
  groups: dict[str, list[Run]] = {}
  for run in runs:
    group = groups.setdefault(run.settings, [])
    if run.seeds in [other.seeds for other in group]:
      raise ValueError(
        f"two runs of {run.net} have the same settings and the seeds "
        f"{run.seeds}: they are one run, expected each once"
      )
    group.append(run)
  return [
    Row(
      group[0].net,
      group[0].builder,
      tuple(run.seeds for run in group),
      {
        name: _numbers(group, name)
        for name in group[0].outcomes
        if all(name in run.outcomes for run in group)
      },
    )
    for group in groups.values()
  ]


def _numbers(group: Sequence[Run], name: str) -> Numbers:
  found = [run.outcomes[name] for run in group]
  trained = [o["test"] for o in found if o["test"] is not None]
  shares = [
    run.outcomes[name]["joules"] / run.outcomes["FP32"]["joules"]
    for run in group
  ]
  return Numbers(
    mean(trained),
    _mean(shares),
    _mean([1e6 * o["joules"] for o in found]),
    _mean([o["dram_bits"] / 8192 for o in found]),
  )


def _mean(values) -> Mean:
  found = mean(values)
  assert found is not None
  return found


def _text(value: Mean | None, digits: int, scale: float = 1) -> str:
  if value is None:
    return "–"
  error = (
    "" if math.isnan(value.error) else f" ±{scale * value.error:.{digits}f}"
  )
  return f"{scale * value.value:.{digits}f}{error}"


def table_3(found: Sequence[Row]):
  """A `rich.table.Table`: accuracy, energy, and the paper's accuracy."""
  from rich.table import Table

  table = Table(
    title="Test accuracy %, energy of data movement against FP32, and the "
    "paper's top-1 % on ImageNet at full size"
  )
  table.add_column("network")
  for column in COLUMNS:
    table.add_column(column, justify="right", no_wrap=True)
  for row in found:
    ours = [row.networks.get(name) for name in COLUMNS.values()]
    cells = [_text(n.accuracy if n else None, 2, 100) for n in ours]
    table.add_row(row.net, *cells, style="bold")
    table.add_row("  energy", *(_text(n.share if n else None, 3) for n in ours))
    paper = bitq_published.TABLE_3.get(row.builder, {})
    table.add_row(
      "  published", *(f"{paper[c]:.2f}" if paper else "–" for c in COLUMNS)
    )
  return table


def means(row: Row):
  """A `rich.table.Table`: all networks of several runs, most moved first."""
  from rich.table import Table

  table = Table(
    title=f"{row.net}: means and standard errors of {len(row.seeds)} runs"
  )
  table.add_column("network")
  for heading in ("DRAM kB", "energy uJ", "of FP32", "accuracy %"):
    table.add_column(heading, justify="right", no_wrap=True)
  for name, n in sorted(
    row.networks.items(), key=lambda item: -item[1].kilobytes.value
  ):
    table.add_row(
      name,
      _text(n.kilobytes, 1),
      _text(n.microjoules, 1),
      _text(n.share, 3),
      _text(n.accuracy, 2, 100),
    )
  return table


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    found = rows([read(path) for path in parser.parse_args().workdirs])
  except ValueError as error:
    sys.exit(f"error: {error}")
  console = Console(width=None if sys.stdout.isatty() else 120)
  console.print(table_3(found))
  for row in found:
    if len(row.seeds) > 1:
      console.print(means(row))


if __name__ == "__main__":
  main()
