"""The page: how much of float's accuracy training keeps, and by which rule."""

import dataclasses
from pathlib import Path

from fbq.experiments.qat.results import TrainedNetworks
from fbq.report import blocks, cells, page
from fbq.report.run import Run
from fbq.train.log import Log

_NEXT = (
  "python main.py --config=configs/digits_free_bits.py --workdir=runs/mixed",
  "Bits of their own for every tensor keep more at the same cycles:",
)


def write(results: TrainedNetworks, run: Run, workdir: Path) -> None:
  """Writes report.html."""
  page.write(
    workdir / "report.html",
    results.network,
    f"{results.words}: how much of the float network's accuracy does training "
    "keep, and by which rule?",
    [
      blocks.Answer([results.verdict]),
      blocks.Section("Rules", [_table(results)]),
      blocks.note(
        f"Test accuracy in %, {results.float_mean} in float, differences in "
        "points within seeds; ± is the standard error over seeds."
      ),
    ],
    dataclasses.replace(run, assumptions=results.assumptions, next=_NEXT),
  )


def tell(results: TrainedNetworks, log: Log) -> None:
  """Prints a table of the rules, and the answer."""
  log.console.print(cells.printed(_table(results)))
  log.say(results.verdict)


def _table(results: TrainedNetworks) -> blocks.Table:
  chosen, *_ = results.rules
  return blocks.Table.of(
    results.means.items(),
    ("rule", lambda row: row[0]),
    (blocks.percents("before\ntraining"), lambda row: row[1].before.cell),
    (blocks.percents("after"), lambda row: row[1].after.cell),
    (
      blocks.Column("below\nfloat", "bar", "{:.2f}"),
      lambda row: row[1].lost.cell,
    ),
    (blocks.percents(f"behind\n{chosen}"), lambda row: row[1].behind.cell),
    (blocks.Column("what it does", "long"), lambda row: results.rules[row[0]]),
    marks=lambda row: "best" if row[0] == chosen else "",
    label=f"Test accuracy (%); float {results.float_mean}",
  )
