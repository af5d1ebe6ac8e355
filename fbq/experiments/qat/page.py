"""The page: how much of float's accuracy training keeps, and by which rule."""

import dataclasses
from pathlib import Path

from fbq.experiments.qat.results import TrainedNetworks
from fbq.report import page, picture
from fbq.report.blocks import (
  Answer,
  Block,
  Column,
  Details,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
from fbq.train.log import Log

_NEXT = (
  "python main.py --config=configs/digits_free_bits.py --workdir=runs/mixed",
  "Bits of their own for every tensor keep more at the same cycles:",
)


def write(results: TrainedNetworks, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  page.write(
    workdir / "report.html",
    results.network,
    f"{results.words}: how much of the float network's accuracy does training "
    "keep, and by which rule?",
    _blocks(results),
    dataclasses.replace(run, assumptions=results.assumptions, next=_NEXT),
  )


def tell(results: TrainedNetworks, log: Log) -> None:
  """Prints a table of the rules, and the answer."""
  from rich.table import Table as RichTable

  table = RichTable(title=f"Test accuracy (%); float {results.float_mean}")
  table.add_column("rule")
  for heading in ("before training", "after", "lost", "behind the chosen"):
    table.add_column(heading, justify="right", no_wrap=True)
  for method, *numbers in results.means:
    table.add_row(method, *map(str, numbers))
  log.console.print(table)
  log.say(results.verdict)


def _blocks(results: TrainedNetworks) -> list[Block]:
  chosen, *_ = results.rules
  rows = results.means
  two = "{:.2f}"
  return [
    Answer([results.verdict]),
    Picture(_picture(results), "rules.svg"),
    Text(
      "Grey: quantized, before training. Blue: after it. Each line is a seed. "
      "Red: the float network.",
      note=True,
    ),
    Section(
      "Rules",
      [
        Table(
          [
            Column("rule"),
            number("before\ntraining", two),
            number("after", two),
            number("below\nfloat", two),
            number(f"behind\n{chosen}", two),
            Column("what it does", "long"),
          ],
          [
            [
              row.method,
              row.before.cell,
              row.after.cell,
              row.lost.cell,
              row.behind.cell if row.method != chosen else None,
              results.rules[row.method],
            ]
            for row in rows
          ],
          ["best" if row.method == chosen else "" for row in rows],
          "rules",
        ),
        Text(
          "Test accuracy in %, differences in points within seeds; ± is the "
          f"standard error over {rows[0].after.count} seeds.",
          note=True,
        ),
      ],
    ),
    Details(
      f"{len(results.trained)} networks",
      [
        Table(
          [
            Column("rule"),
            number("seed"),
            *(number(name, two) for name in ("float", "before", "after")),
          ],
          [
            [n.method, n.seed]
            + [100 * x for x in (n.float_accuracy, n.before, n.after)]
            for n in results.trained
          ],
          label="every network",
        )
      ],
    ),
  ]


def _picture(results: TrainedNetworks) -> str:
  """SVG: accuracy of every seed before and after training, by rule."""
  rows = results.means
  figure = picture.new(7.2, 0.9 + 0.55 * len(rows))
  axes = figure.subplots()
  picture.bare(axes, "x")
  places = {row.method: -i for i, row in enumerate(rows)}
  seeds = sorted({n.seed for n in results.trained})
  for n in results.trained:
    ends = [100 * n.before, 100 * n.after]
    apart = 0.5 - (seeds.index(n.seed) + 0.5) / len(seeds)
    place = places[n.method] + 0.5 * apart
    axes.plot(ends, [place] * 2, color=picture.GRID, linewidth=2.5, zorder=1)
    for end, word, color, size in zip(
      ends, ("before", "after"), (picture.GREY, picture.BLUE), (4, 5),
      strict=True,
    ):  # fmt: skip
      (mark,) = axes.plot(end, place, "o", color=color, markersize=size)
      picture.title(mark, f"{n.method}, seed {n.seed}: {end:.2f} % {word}")

  float_ = results.float_mean
  line = axes.axvline(100 * float_.value, color=picture.VERMILION, linewidth=1)
  picture.title(line, f"float: {float_} %")
  axes.set_yticks(list(places.values()), list(places), fontsize=9)
  axes.set_ylim(-len(rows) + 0.4, 0.6)
  axes.set_xlabel("test accuracy (%)", fontsize=9)
  axes.tick_params(axis="x", labelsize=8)
  return picture.svg(
    figure,
    "Accuracy of each seed before and after training, a row for each rule.",
  )
