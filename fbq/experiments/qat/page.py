"""The page: how much of float's accuracy training keeps, and by which rule."""

import dataclasses
from pathlib import Path

from fbq.experiments.qat.results import TrainedNetworks
from fbq.report import blocks, cells, page, picture
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
    [
      blocks.Answer([results.verdict]),
      blocks.Picture(_picture(results), "rules.svg"),
      blocks.note(
        "Grey: quantized, before training. Blue: after it. Each line is a "
        "seed. Red: the float network."
      ),
      blocks.Section("Rules", [_table(results)]),
      blocks.note(
        "Test accuracy in %, differences in points within seeds; ± is the "
        "standard error over seeds."
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
    results.means,
    (blocks.Column("rule"), lambda row: row.method),
    (blocks.percents("before\ntraining"), lambda row: row.before.cell),
    (blocks.percents("after"), lambda row: row.after.cell),
    (blocks.percents("below\nfloat"), lambda row: row.lost.cell),
    (blocks.percents(f"behind\n{chosen}"), lambda row: row.behind.cell),
    (
      blocks.Column("what it does", "long"),
      lambda row: results.rules[row.method],
    ),
    marks=lambda row: "best" if row.method == chosen else "",
    label=f"Test accuracy (%); float {results.float_mean}",
  )


def _picture(results: TrainedNetworks) -> str:
  """SVG: accuracy of every seed before and after training, by rule."""
  rows = results.means
  figure = picture.new(7.2, 0.9 + 0.55 * len(rows))
  axes = figure.subplots()
  picture.bare(axes, "x")
  places = {row.method: -i for i, row in enumerate(rows)}
  seeds = sorted({n.seed for n in results.trained})
  for n in results.trained:
    apart = 0.5 - (seeds.index(n.seed) + 0.5) / len(seeds)
    place = places[n.method] + 0.5 * apart
    ends = [100 * n.before, 100 * n.after]
    axes.plot(ends, [place] * 2, color=picture.GRID, linewidth=2.5, zorder=1)
    dots = axes.scatter(
      ends, [place] * 2, (16, 25), (picture.GREY, picture.BLUE)
    )
    words = zip(ends, ("before", "after"), strict=True)
    said = f"{n.method}, seed {n.seed}"
    picture.title(dots, [f"{said}: {at:.2f} % {word}" for at, word in words])

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
