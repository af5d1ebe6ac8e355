"""Pictures of block formats: front, energy, alpha, memory."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from fbq.report import figures, records
from fbq.report.bitq import Outcome

_COLORS = {
  "BitQ": figures.BLUE,
  "uniform": figures.GREY,
  "published": figures.VERMILION,
  "ablation": figures.AMBER,
}
_SHOWN = 12  # points of accuracy below the best
_LINES = (
  *(figures.VERMILION, figures.AMBER, figures.BLUE, figures.GREEN),
  figures.PURPLE,
)
_WORDS = (figures.BLUE, figures.GREEN, figures.PURPLE)


def front(
  outcomes: Sequence[Outcome],
  best: Mapping[str, Outcome],
  predicted: Mapping[str, tuple[Sequence[float], Sequence[float]]],
  test_count: int,
) -> bytes:
  """A PNG: test accuracy over DRAM traffic of every trained network.

  Args:
    outcomes: trained or not; one is "FP32".
    best: word -> recommended network.
    predicted: word -> (bits moved, predicted accuracy) of the whole front.
    test_count: images behind an accuracy.
  """
  trained = [o for o in outcomes if o.test is not None]
  # What is far below must not press all others together.
  high = max(o.percent for o in trained)
  low = max(min(o.percent for o in trained), high - _SHOWN)
  shown = [o for o in trained if o.percent >= low]
  figure = figures.new(10.5, 5.6)
  axes = figure.subplots()
  figures.bare(axes, "both")
  for color, (name, (bits, accuracies)) in zip(
    itertools.cycle(_WORDS), predicted.items(), strict=False
  ):
    axes.plot(
      np.divide(bits, 8192),
      np.multiply(accuracies, 100),
      color=color,
      linewidth=1.2,
      alpha=0.7,
      label=f"{name}: whole front, predicted",
    )
  names = {o.name for o in best.values()}
  for family, color in _COLORS.items():
    group = [o for o in shown if o.family == family]
    if group:
      axes.errorbar(
        [o.dram_bits / 8192 for o in group],
        [o.percent for o in group],
        [
          100 * records.standard_error(o.percent / 100, test_count)
          for o in group
        ],
        fmt="o",
        color=color,
        elinewidth=0.8,
        markersize=4.5,
        label=family,
      )
  chosen = [o for o in shown if o.name in names]
  axes.plot(
    [o.dram_bits / 8192 for o in chosen],
    [o.percent for o in chosen],
    "*",
    color=figures.BLUE,
    markeredgecolor="black",
    markersize=15,
    label="recommended",
  )
  axes.set_ylim(low - 0.3, high + 0.45 * (high - low))
  axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= 100])
  axes.set_xscale("log")
  moved = [o.dram_bits / 8192 for o in shown]
  axes.set_xlim(min(moved) / 1.2, max(moved) * 1.3)
  axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
  axes.xaxis.set_minor_formatter(lambda value, _: _sparse(value))
  _label(axes, [o for o in shown if o.family == "published"])
  below = [f"{o.name} {o.percent:.1f} %" for o in trained if o.percent < low]
  if below:
    text = textwrap.fill(f"Below the picture: {', '.join(below)}", 160)
    axes.set_title(text, loc="left", fontsize=7.5)
  axes.set_xlabel("DRAM traffic of an image, kB")
  axes.set_ylabel("test accuracy (%)")
  axes.legend(fontsize=8, frameon=False, loc="lower right")
  return figures.png(figure)


def _sparse(value):
  digit = f"{value:e}"[0]
  return f"{value:g}" if digit in "25" else ""


def _label(axes, outcomes):
  """Names above the points, in rows in which none covers another."""
  ends: list[float] = []  # of the names in each row, as logarithms
  for o in sorted(outcomes, key=lambda o: o.dram_bits):
    at, half = math.log(o.dram_bits), 0.013 * len(o.name)
    row = next((i for i, end in enumerate(ends) if end < at - half), len(ends))
    ends[row : row + 1] = [at + half]
    axes.annotate(
      o.name,
      (o.dram_bits / 8192, o.percent),
      (0, 14 + 12 * row),
      textcoords="offset points",
      ha="center",
      fontsize=7,
      color=figures.VERMILION,
      arrowprops=dict(
        arrowstyle="-", color=figures.VERMILION, linewidth=0.4, alpha=0.6
      ),
    )


def energy(
  outcomes: Sequence[Outcome], best: set[str], joules: tuple[float, float]
) -> bytes:
  """A PNG: energy of data movement, DRAM and SRAM, the largest on top.

  Args:
    outcomes: to be shown.
    best: names to be marked.
    joules: per bit of DRAM and of SRAM.
  """
  rows = sorted(outcomes, key=lambda o: o.joules)
  figure = figures.new(9, 0.8 + 0.26 * len(rows))
  axes = figure.subplots()
  figures.bare(axes, "x")
  dram = np.array([o.dram_bits * joules[0] * 1e6 for o in rows])
  sram = np.array([o.sram_bits * joules[1] * 1e6 for o in rows])
  places = np.arange(len(rows))
  axes.barh(places, dram, color=figures.SKY, label="DRAM")
  axes.barh(places, sram, left=dram, color=figures.AMBER, label="SRAM")
  largest = rows[-1].joules
  for place, o in zip(places, rows, strict=True):
    axes.annotate(
      f"{o.joules * 1e6:.1f}  ({o.joules / largest:.0%})",
      (o.joules * 1e6, place),
      (4, 0),
      textcoords="offset points",
      va="center",
      fontsize=7.5,
    )
  axes.set_yticks(
    places,
    [("★ " if o.name in best else "") + o.name for o in rows],
    fontsize=8,
  )
  axes.set_xlim(0, largest * 1e6 * 1.15)
  axes.set_ylim(-0.6, len(rows) - 0.4)
  axes.set_xlabel("energy of data movement of an image, µJ")
  axes.legend(fontsize=8, frameon=False, loc="lower right")
  return figures.png(figure)


def alphas(
  lines: Mapping[str, Mapping[str, tuple[float, float]]],
  tried: Sequence[float],
) -> bytes:
  """A PNG: measured objective over alpha, a panel for each word.

  Args:
    lines: word -> network -> (accuracy lost, movement / largest).
    tried: alphas to be marked.
  """
  figure = figures.new(5.2 * len(lines), 3.6)
  panels = figure.subplots(1, len(lines), squeeze=False)[0]
  at = np.geomspace(min(a for a in tried if a > 0) / 1.5, max(tried) * 1.5, 200)
  for axes, (word, networks) in zip(panels, lines.items(), strict=True):
    figures.bare(axes, "both")
    values = {n: lost + at * moved for n, (lost, moved) in networks.items()}
    envelope = np.min(list(values.values()), axis=0)
    for name, objective in values.items():
      is_best = np.isclose(objective, envelope, rtol=1e-9, atol=1e-12).any()
      axes.plot(
        at,
        objective,
        color=None if is_best else figures.GREY,
        linewidth=1.6 if is_best else 0.7,
        alpha=1 if is_best else 0.5,
        label=name if is_best else None,
      )
    for alpha in tried:
      axes.axvline(alpha, color=figures.PALE, linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(1e-3, float(envelope.min()) / 1.5))
    axes.set_title(word, loc="left", fontsize=9)
    axes.set_xlabel("alpha")
    axes.set_ylabel("accuracy lost + alpha movement / largest", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7.5, frameon=False, loc="upper left")
  return figures.png(figure)


def memory(
  title: str, sizes: Sequence[float], ratios: Mapping[str, Sequence[float]]
) -> bytes:
  """A PNG: DRAM traffic over moving every tensor once, by memory size.

  Args:
    title: of the network.
    sizes: of the memory in KB.
    ratios: formats -> ratio at each size.
  """
  figure = figures.new(7.5, 3.8)
  axes = figure.subplots()
  figures.bare(axes, "both")
  for (name, values), color in zip(
    ratios.items(), itertools.cycle(_LINES), strict=False
  ):
    axes.plot(sizes, values, "o-", markersize=4, color=color, label=name)
  axes.set_xscale("log", base=2)
  axes.set_xticks(list(sizes), [f"{s:g}" for s in sizes])
  axes.set_xlabel("memory, KB")
  axes.set_ylabel("DRAM traffic / every tensor once", fontsize=9)
  axes.set_title(title, loc="left", fontsize=9)
  axes.legend(fontsize=8, frameon=False)
  return figures.png(figure)
