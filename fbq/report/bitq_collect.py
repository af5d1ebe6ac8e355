"""Table 3 of BitQ over several finished runs, beside what the paper printed.

python -m fbq.report.bitq_collect runs/digits_bitq runs/bitq18 ...
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fbq.report import bitq_published

# Column of the paper -> our network that stands for it; the paper does not say
# which modes it ran.
COLUMNS = {
  "FP32": "FP32",
  "DBPS": "DBPS",
  "FlexBlock": "FlexBlock FB16",
  "BitQ16": None,
  "FAST": "FAST high",
  "BSFP": "BSFP",
  "BitQ8": None,
}


class Row(NamedTuple):
  """One network.

  Attributes:
    net: its name.
    builder: of the network, by which the paper's row is found.
    accuracy: column -> test accuracy, None where nothing was trained.
    energy: column -> energy of data movement as a share of FP32's.
  """

  net: str
  builder: str
  accuracy: dict[str, float | None]
  energy: dict[str, float]


def read(workdir: Path) -> Row:
  """The row of a finished run.

  Raises:
    ValueError: not a finished BitQ run of both word lengths.
  """
  try:
    result = json.loads((workdir / "result.json").read_text())
    config = json.loads((workdir / "config.json").read_text())
    outcomes = result["outcomes"]
    names = {
      column: name or result["recommended"][column]
      for column, name in COLUMNS.items()
    }
    chosen = {column: outcomes.get(name) for column, name in names.items()}
    fp32 = outcomes["FP32"]["joules"]
    return Row(
      result["net"],
      config["net"]["builder"],
      {c: o["test"] for c, o in chosen.items() if o},
      {c: o["joules"] / fp32 for c, o in chosen.items() if o},
    )
  except (OSError, ValueError, KeyError) as error:
    raise ValueError(
      f"{workdir} is no finished run of BitQ at 16 and 8 bits: {error!r}"
    ) from error


def table(rows: Sequence[Row]):
  """A `rich.table.Table`: accuracy, energy, and the paper's accuracy."""
  from rich.table import Table

  found = Table(
    title="Test accuracy %, energy of data movement against FP32, and the "
    "paper's top-1 % on ImageNet at full size"
  )
  found.add_column("network")
  for column in COLUMNS:
    found.add_column(column, justify="right", no_wrap=True)
  for row in rows:
    cells = []
    for column in COLUMNS:
      accuracy = row.accuracy.get(column)
      cells.append("–" if accuracy is None else f"{100 * accuracy:.2f}")
    found.add_row(row.net, *cells, style="bold")
    energies = [row.energy.get(column) for column in COLUMNS]
    found.add_row(
      "  energy", *("–" if e is None else f"{e:.3f}" for e in energies)
    )
    paper = bitq_published.TABLE_3.get(row.builder, {})
    found.add_row(
      "  published", *(f"{paper[c]:.2f}" if paper else "–" for c in COLUMNS)
    )
  return found


def main() -> None:
  from rich.console import Console

  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("workdirs", nargs="+", type=Path)
  try:
    rows = [read(path) for path in parser.parse_args().workdirs]
  except ValueError as error:
    sys.exit(f"error: {error}")
  Console(width=None if sys.stdout.isatty() else 120).print(table(rows))


if __name__ == "__main__":
  main()
