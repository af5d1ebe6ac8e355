"""The page: the whitepaper's tables, ours beside what it printed."""

import dataclasses
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from fbq.experiments.whitepaper import claims
from fbq.experiments.whitepaper.cases import (
  FLOAT,
  PAPER,
  WIDTH_CASES,
  CaseTable,
  case_of,
  published,
)
from fbq.experiments.whitepaper.results import WhitepaperTables
from fbq.report import blocks, cells, page, picture
from fbq.report.means import mean
from fbq.report.run import Run
from fbq.train.log import Log

_MANY_LOST = 0.25  # of the channels: the layer is marked
_COLORS = {None: picture.SOFT, 8: picture.BLUE, 4: picture.VERMILION}


def write(results: WhitepaperTables, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  question = (
    "Which recipe quantizes a network without loss: with or without training, "
    "one grid for a layer or for each channel, 8 bits or 4?"
  )
  if results.builder in PAPER.families:
    family = PAPER.families[results.builder]
    question += f" Beside {family} of the whitepaper (arXiv 1806.08342)."
  collect = f"python -m fbq.experiments.whitepaper.collect {workdir} ..."
  page.write(
    workdir / "report.html",
    f"The whitepaper's tables on {results.network.net}",
    question,
    _blocks(results),
    dataclasses.replace(
      run,
      assumptions=results.assumptions,
      next=(collect, "Several networks in one table each:"),
    ),
  )


def tell(results: WhitepaperTables, log: Log) -> None:
  """Prints the tables, the verdicts and the answer."""
  for table in PAPER.tables:
    log.console.print(cells.printed(table_of(table, [results])))
  for v in results.verdicts:
    log.say(f"{v.word or 'here'}: {v.claim.title}: {v.text}")
  log.say(results.answer)


def table_of(
  table: CaseTable, runs: Sequence[WhitepaperTables]
) -> blocks.Table:
  """A table of the whitepaper: ours and theirs, and what both lose."""
  names, rows = (FLOAT, *table.cases), []
  for run in runs:
    found = run.network.accuracies
    lost = (claims.differences(found[n], found[FLOAT]) for n in table.cases)
    rows += [
      [run.network.net, *(mean(found[name]).cell for name in names)],
      ["minus float", None, *(mean(apart).signed for apart in lost)],
    ]
    printed = [published(run.builder, name) for name in names]
    if printed[0] is not None:
      lost = (claims.difference(p, printed[0]) for p in printed[1:])
      rows += [
        ["published", *(p and 100 * p for p in printed)],
        ["published, minus float", None, *(d and 100 * d for d in lost)],
      ]
  headings = [case_of(name).heading for name in names]
  return blocks.Table(
    [blocks.Column("test accuracy, %"), *map(blocks.percents, headings)],
    rows,
    label=f"Table {table.number}: {table.title}",
  )


def _blocks(results: WhitepaperTables) -> list[blocks.Block]:
  parts: list[blocks.Block] = [
    blocks.Answer([results.answer]),
    blocks.Section("What agrees and what does not", [_verdicts(results)]),
  ]
  for shown in (table_of(table, [results]) for table in PAPER.tables):
    parts.append(blocks.Section(shown.label, [shown]))
  if results.widths:
    said = "8-bit activations; weights without biases and batch norms."
    drawn = blocks.Picture(_widths(results), "widths.svg")
    title = "Width against precision"
    parts.append(blocks.Section(title, [drawn, blocks.note(said)]))
  title = "What one grid for a layer must hold"
  return [*parts, blocks.Section(title, _spreads(results))]


def _verdicts(results: WhitepaperTables) -> blocks.Table:
  return blocks.Table.of(
    results.verdicts,
    (blocks.Column("difference of", "long"), lambda v: v.claim.title),
    (blocks.percents("here\npoints"), lambda v: v.ours.signed),
    (
      blocks.number("published\npoints", "{:+z.2f}"),
      lambda v: None if v.theirs is None else 100 * v.theirs,
    ),
    (blocks.number("above\nwhich", "{:.1f}"), lambda v: 100 * v.claim.bound),
    (blocks.Column("so here", "long"), lambda v: v.text),
    ("verdict", lambda v: v.word or None),
    marks=lambda v: "best" if v.word == claims.DIFFERS else "",
    label="findings of the whitepaper",
  )


def _widths(results: WhitepaperTables) -> str:
  """SVG: accuracy over bytes of weights, a line for each precision."""
  figure = picture.new(8.5, 4.4)
  axes = figure.subplots()
  picture.bare(axes, "both")
  for name in (FLOAT, *WIDTH_CASES):
    label = case_of(name).heading.partition("\n")[0]
    line = sorted(
      (found.weight_bytes[name] / 1000, width, mean(found.accuracies[name]))
      for width, found in results.widths.items()
    )
    mark, *_ = axes.errorbar(
      [kilobytes for kilobytes, *_ in line],
      [100 * m.value for *_, m in line],
      yerr=[100 * m.error for *_, m in line],  # NaN of one seed draws no bar
      fmt="--o" if label.startswith("PTQ") else "-o",
      color=_COLORS[case_of(name).weight_bits],
      markersize=5,
      linewidth=1.2,
      elinewidth=1,
      label=label,
    )
    titles = [f"width {w:g}, {label}: {m} %, {x:,.1f} kB" for x, w, m in line]
    picture.title(mark, titles)
  axes.set_xscale("log", base=2)
  axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
  axes.set_ylim(top=min(axes.get_ylim()[1], 100.5))
  axes.set_xlabel("weights, kB")
  axes.set_ylabel("test accuracy (%)")
  picture.legend(figure, axes, 3)
  return picture.svg(
    figure, "Accuracy over bytes of weights for networks of several widths."
  )


def _spreads(results: WhitepaperTables) -> list[blocks.Block]:
  columns = (
    (blocks.number("widest / median\nchannel", "{:.1f}"), "before"),
    (blocks.number("the same,\nfolded", "{:.1f}"), "after"),
    (blocks.number("channels of zeros\nin 8 bits", "{:.0%}"), "lost"),
    (blocks.number("variance of the\nwidest channel", "{:.2g}"), "variance"),
  )
  spreads = zip(results.seeds, results.network.spreads, strict=True)
  return [
    blocks.Table.of(
      [{"seed": seed} | r._asdict() for seed, rows in spreads for r in rows],
      ("layer", itemgetter("layer")),
      (blocks.number("seed", "{}"), itemgetter("seed")),
      *((column, itemgetter(name)) for column, name in columns),
      marks=lambda row: "best" if row["lost"] > _MANY_LOST else "",
      label="spread of channels",
    ),
    blocks.note(
      "Largest magnitudes of the channels' weights. Folding divides by the "
      "root of a channel's variance: one that is nearly constant on the data "
      "becomes the widest, and one grid for the layer is made for it. Shaded: "
      "it makes zeros of more than a quarter of the channels."
    ),
  ]
