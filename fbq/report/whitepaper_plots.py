"""Pictures of the whitepaper's tables, and of width against precision."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fbq.report import figures, whitepaper
from fbq.report.shootout import Mean
from fbq.report.whitepaper import FLOAT, PTQ, QAT, Case

_COLORS = {8: figures.BLUE, 4: figures.VERMILION}


class Point(NamedTuple):
  """A network of some width after a recipe.

  Attributes:
    width: channel multiplier.
    case: the recipe.
    weight_bytes: of its weights.
    accuracy: over seeds.
  """

  width: float
  case: Case
  weight_bytes: int
  accuracy: Mean


def losses(builder: str, accuracies: Mapping[Case, Sequence[float]]) -> bytes:
  """A PNG: points lost against float by every column, ours and published."""
  rows = [
    (f"table {table.number}: {column.heading}", cell)
    for table in whitepaper.TABLES
    for column, cell in zip(
      table.columns,
      whitepaper.cells(builder, table, accuracies),
      strict=True,
    )
    if cell is not None
  ]
  figure = figures.new(8.5, 0.27 * len(rows) + 1.1)
  axes = figure.subplots()
  figures.bare(axes, "x")
  places = range(len(rows))[::-1]
  axes.errorbar(
    [100 * cell.lost.value for _, cell in rows],
    places,
    # One seed has no error; NaN draws no bar.
    xerr=[100 * cell.lost.error for _, cell in rows],
    fmt="o",
    color=figures.BLUE,
    elinewidth=1,
    markersize=5,
    label="here",
    zorder=3,
  )
  printed = [
    (100 * cell.published_lost, place)
    for place, (_, cell) in zip(places, rows, strict=True)
    if cell.published_lost is not None
  ]
  if printed:
    axes.plot(
      *zip(*printed, strict=True),
      "D",
      color=figures.VERMILION,
      markerfacecolor="none",
      markersize=5,
      label="whitepaper",
    )
  axes.set_yticks(list(places), [heading for heading, _ in rows], fontsize=8)
  axes.axvline(0, color=figures.GREY, linewidth=0.8)
  axes.set_xscale("symlog", linthresh=1)
  ticks = [-1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100]
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
  axes.set_xlim(-1.5, 110)
  axes.set_xlabel(
    "points of accuracy lost against float (linear up to 1)", fontsize=9
  )
  axes.legend(fontsize=8, frameon=False, loc="lower right")
  return figures.png(figure)


def widths(points: Sequence[Point]) -> bytes:
  """A PNG: accuracy over bytes of weights, a line for each precision."""
  figure = figures.new(8.5, 4.4)
  axes = figure.subplots()
  figures.bare(axes, "both")
  for case in (FLOAT, *whitepaper.WIDTH_CASES):
    line = sorted(
      (p.weight_bytes / 1024, 100 * p.accuracy.value, 100 * p.accuracy.error)
      for p in points
      if p.case == case
    )
    kilobytes, values, errors = zip(*line, strict=True)
    axes.errorbar(
      kilobytes,
      values,
      yerr=errors,
      color=_COLORS.get(case.weight_bits or 0, "#444444"),
      linestyle="--" if case.method == PTQ else "-",
      marker="s" if case.method == PTQ else "o",
      markersize=5,
      linewidth=1.2,
      elinewidth=1,
      label=_label(case),
    )
  for p in points:
    if p.case.method in (QAT, FLOAT.method):
      axes.annotate(
        f"{p.width:g}",
        (p.weight_bytes / 1024, 100 * p.accuracy.value),
        (0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=7.5,
        color="#555555",
      )
  axes.set_xscale("log", base=2)
  axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
  axes.tick_params(labelsize=8)
  axes.set_xlabel("weights, KiB", fontsize=9)
  axes.set_ylabel("test accuracy (%)", fontsize=9)
  axes.legend(fontsize=8, frameon=False, loc="lower right")
  return figures.png(figure)


def _label(case: Case) -> str:
  if case == FLOAT:
    return "float"
  trained = "trained" if case.method == QAT else "not trained"
  return f"{case.weight_bits}-bit weights, {trained}"
