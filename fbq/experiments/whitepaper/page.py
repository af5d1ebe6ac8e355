"""The page: the whitepaper's tables, ours beside what it printed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from fbq.experiments.whitepaper import cases, claims
from fbq.experiments.whitepaper.cases import FLOAT, CaseTable, published
from fbq.experiments.whitepaper.claims import Accuracies
from fbq.experiments.whitepaper.results import WhitepaperTables
from fbq.report import blocks, cells, page, picture
from fbq.report.means import Mean, mean
from fbq.report.run import Run
from fbq.train.log import Log

_MANY_LOST = 0.25  # of the channels: the layer is marked
_COLORS = {None: picture.SOFT, 8: picture.BLUE, 4: picture.VERMILION}


def write(results: WhitepaperTables, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  question = (
    "Which recipe quantizes a network without loss: with or without training, "
    "one grid for a layer or for each channel, 8 bits or 4?"
  )
  family = cases.FAMILIES.get(results.builder)
  if family:
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
  rows = {results.network.net: (results.builder, results.network.accuracies)}
  for table in cases.TABLES:
    log.console.print(cells.printed(table_of(table, rows)))
  for v in results.verdicts:
    log.say(f"{v.word or 'here'}: {v.claim.title}: {v.text}")
  log.say(f"{results.answer} {results.why}")


def table_of(
  table: CaseTable, networks: Mapping[str, tuple[str, Accuracies]]
) -> blocks.Table:
  """A table of the whitepaper: ours and theirs, and what both lose.

  Args:
    table: one of `cases.TABLES`.
    networks: {network: (its builder, accuracies)}.
  """
  wanted, rows = [case for _, case in table.columns], []
  for name, (builder, found) in networks.items():
    printed = [published(builder, case) for case in wanted]
    in_float = published(builder, FLOAT)
    rows += [
      [name, *(mean(found[case.name]).cell for case in (FLOAT, *wanted))],
      ["minus float", None, *(_gap(found, case).signed for case in wanted)],
    ]
    if in_float is not None:
      rows += [
        ["published", *(p and 100 * p for p in (in_float, *printed))],
        [
          "published, minus float",
          None,
          *(p and 100 * (p - in_float) for p in printed),
        ],
      ]
  headings = ["float", *(heading for heading, _ in table.columns)]
  return blocks.Table(
    [blocks.Column("test accuracy, %"), *map(blocks.percents, headings)],
    rows,
    ["best" if row[0] in networks else "" for row in rows],
    f"Table {table.number}: {table.title}",
  )


def _gap(accuracies: Accuracies, case: cases.Case) -> Mean:
  """Accuracy of a case minus that of the float network, within seeds."""
  ends = (accuracies[end.name] for end in (case, FLOAT))
  return mean(claims.differences(*ends))


def _blocks(results: WhitepaperTables) -> list[blocks.Block]:
  network = results.network
  ours = {network.net: (results.builder, network.accuracies)}
  parts: list[blocks.Block] = [
    blocks.Answer([results.answer], [blocks.Text(results.why)]),
    blocks.Section("What agrees and what does not", [_verdicts(results)]),
    blocks.Picture(_losses(results), "losses.svg"),
    blocks.note(
      f"Bars are standard errors over {len(results.seeds)} seeds, of "
      "differences within a seed."
    ),
  ]
  for shown in (table_of(table, ours) for table in cases.TABLES):
    parts.append(blocks.Section(shown.label, [shown]))
  if results.widths:
    drawn = blocks.Picture(_widths(results), "widths.svg")
    said = (
      "Weights symmetric per channel, 8-bit activations; without biases and "
      "batch norms."
    )
    title = "Width against precision"
    parts.append(blocks.Section(title, [drawn, blocks.note(said)]))
  title = "What one grid for a layer must hold"
  return [*parts, blocks.Section(title, _spreads(results))]


def _verdicts(results: WhitepaperTables) -> blocks.Table:
  return blocks.Table.of(
    results.verdicts,
    (
      blocks.Column("difference of accuracies", "long"),
      lambda v: v.claim.title,
    ),
    (blocks.percents("here\npoints"), lambda v: v.ours.signed),
    (
      blocks.number("published\npoints", "{:+z.2f}"),
      lambda v: None if v.theirs is None else 100 * v.theirs,
    ),
    (blocks.number("above\nwhich", "{:.1f}"), lambda v: 100 * v.claim.bound),
    (blocks.Column("so here", "long"), lambda v: v.text),
    (blocks.Column("verdict"), lambda v: v.word or None),
    marks=lambda v: "best" if v.word == claims.DIFFERS else "",
    label="findings of the whitepaper",
  )


def _losses(results: WhitepaperTables) -> str:
  """SVG: points lost against float by every column, ours and published."""
  rows = [
    (f"table {table.number}: {heading}", case)
    for table in cases.TABLES
    for heading, case in table.columns
  ]
  names, places = [name for name, _ in rows], range(len(rows))[::-1]
  figure = picture.new(8.5, 0.27 * len(rows) + 1.1)
  axes = figure.subplots()
  picture.bare(axes, "x")
  style = dict(markersize=5, linewidth=0)
  gaps = [_gap(results.network.accuracies, case) for _, case in rows]
  ours = [-100 * gap.value for gap in gaps]
  mark, *_ = axes.errorbar(
    ours,
    places,
    xerr=[100 * gap.error for gap in gaps],  # NaN of one seed draws no bar
    fmt="o",
    color=picture.BLUE,
    elinewidth=1,
    label="here",
    **style,
  )
  titles = zip(names, gaps, strict=True)
  picture.title(mark, [f"{n}: {gap} points against float" for n, gap in titles])

  in_float = published(results.builder, FLOAT)
  printed = {
    place: 100 * (in_float - theirs)
    for place, (_, case) in zip(places, rows, strict=True)
    if in_float and (theirs := published(results.builder, case)) is not None
  }
  if printed:
    (mark,) = axes.plot(
      *([*printed.values()], [*printed], "D"),
      color=picture.VERMILION,
      markerfacecolor="none",
      label="whitepaper",
      **style,
    )
    said = (
      f"{names[-1 - p]}: {-v:+.1f}, whitepaper" for p, v in printed.items()
    )
    picture.title(mark, [*said])

  axes.set_yticks(places, names, fontsize=8)
  axes.axvline(0, color=picture.GREY, linewidth=0.8)
  axes.set_xscale("symlog", linthresh=1)
  ticks = [-100, -20, -5, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100]
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
  axes.set_xlim(min(-1.5, 1.2 * min(ours)), 110)
  axes.set_xlabel("points of accuracy lost against float (linear up to 1)")
  picture.legend(figure, axes, 2)
  return picture.svg(
    figure, "Points lost against float by every column, here and published."
  )


def _widths(results: WhitepaperTables) -> str:
  """SVG: accuracy over bytes of weights, a line for each precision."""
  figure = picture.new(8.5, 4.4)
  axes = figure.subplots()
  picture.bare(axes, "both")
  for case in (FLOAT, *cases.WIDTH_CASES):
    trained = "not trained" if case.method == cases.PTQ else "trained"
    bits = case.weight_bits
    label = f"{bits}-bit weights, {trained}" if bits else "float"
    line = sorted(
      (found.weight_bytes[case.name] / 1024, width, found.accuracies[case.name])
      for width, found in results.widths.items()
    )
    means = [mean(accuracies) for *_, accuracies in line]
    mark, *_ = axes.errorbar(
      [kibibytes for kibibytes, *_ in line],
      [100 * m.value for m in means],
      yerr=[100 * m.error for m in means],
      color=_COLORS[bits],
      linestyle="--" if case.method == cases.PTQ else "-",
      marker="s" if case.method == cases.PTQ else "o",
      markersize=5,
      linewidth=1.2,
      elinewidth=1,
      label=label,
    )
    picture.title(
      mark,
      [
        f"width {width:g}, {label}: {m} %, {kibibytes:,.1f} KiB"
        for (kibibytes, width, _), m in zip(line, means, strict=True)
      ],
    )
  axes.set_xscale("log", base=2)
  axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
  axes.set_xlabel("weights, KiB")
  axes.set_ylabel("test accuracy (%)")
  picture.legend(figure, axes, 3)
  return picture.svg(
    figure, "Accuracy over bytes of weights for networks of several widths."
  )


def _spreads(results: WhitepaperTables) -> list[blocks.Block]:
  spreads = zip(results.seeds, results.network.spreads, strict=True)
  return [
    blocks.Table.of(
      [(row, seed) for seed, rows in spreads for row in rows],
      (blocks.Column("layer"), lambda at: at[0].layer),
      (blocks.number("seed"), lambda at: at[1]),
      (
        blocks.number("widest / median\nchannel", "{:.1f}"),
        lambda at: at[0].before,
      ),
      (blocks.number("the same,\nfolded", "{:.1f}"), lambda at: at[0].after),
      (
        blocks.number("channels of zeros\nin 8 bits, %", "{:.0f}"),
        lambda at: 100 * at[0].lost,
      ),
      (
        blocks.number("variance of the\nwidest channel", "{:.2g}"),
        lambda at: at[0].variance,
      ),
      marks=lambda at: "best" if at[0].lost > _MANY_LOST else "",
      label="spread of channels",
    ),
    blocks.note(
      "Largest magnitudes of the channels' weights. A channel that is nearly "
      "constant on the data has next to no variance, so folding makes its "
      "weights the widest, and one grid for the layer is made for it. Shaded: "
      "it makes zeros of more than a quarter of the channels."
    ),
  ]
