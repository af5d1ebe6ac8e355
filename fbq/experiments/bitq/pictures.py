"""Pictures of a BitQ run: accuracy over traffic, and eq. 1 over alpha."""

import itertools
from collections.abc import Iterable

import numpy as np

from fbq.experiments.bitq.block_network import BlockNetwork, drop
from fbq.experiments.bitq.results import BitQResults
from fbq.report import labels, picture

_FAMILIES = {
  "BitQ": picture.BLUE,
  "uniform": picture.GREY,
  "published": picture.VERMILION,
  "ablation": picture.AMBER,
}
_COLORS = (
  *(picture.BLUE, picture.GREEN, picture.VERMILION, picture.AMBER),
  *(picture.PURPLE, picture.SKY),
)
_SHOWN = 12  # points of accuracy below the best


def split(
  networks: Iterable[BlockNetwork],
) -> tuple[list[BlockNetwork], list[BlockNetwork]]:
  """The trained networks that the front shows, and those far below them."""
  trained = [n for n in networks if n.test is not None]
  least = max(n.percent for n in trained) - _SHOWN
  near = [n for n in trained if n.percent >= least]
  return near, [n for n in trained if n.percent < least]


def front(results: BitQResults) -> str:
  """SVG of test accuracy over DRAM traffic, with every predicted front."""
  near, _ = split(results.networks)
  fp32 = results.by_name["FP32"].percent
  figure = picture.new(10.5, 6)
  axes = figure.subplots()
  picture.bare(axes, "both")

  # Fronts first: they may leave the picture, whose limits are the networks'
  for color, word in zip(itertools.cycle(_COLORS), results.words, strict=False):
    xs = [bits / 8192 for bits, _ in word.front]
    ys = [fp32 - 100 * lost for _, lost in word.front]
    said = f"{word.name}: whole front, predicted"
    (line,) = axes.plot(xs, ys, color=color, linewidth=1.2, label=said)
    picture.title(line, said)

  # Networks by family, the recommended ones once more as stars
  def draw(group, label, **style):
    marks, *_ = axes.errorbar(
      [n.kib for n in group],
      [n.percent for n in group],
      [n.percent_error(results.test_count) for n in group],
      elinewidth=0.8,
      label=label,
      **style,
    )
    picture.title(marks, [_said(n, results.test_count) for n in group])

  for family, color in _FAMILIES.items():
    group = [n for n in near if n.family == family]
    if group:
      draw(group, family, fmt="o", color=color, markersize=5)
  chosen = [n for n in near if n.name in results.recommended.values()]
  star = dict(fmt="*", markersize=15, markeredgecolor=picture.INK, zorder=4)
  if chosen:
    draw(chosen, "recommended", color=picture.BLUE, **star)

  # Letters and limits
  xs, ys = [n.kib for n in near], [n.percent for n in near]
  most = max(n.percent_error(results.test_count) for n in near)
  margin = 0.1 * (max(ys) - min(ys)) + most + 0.2
  axes.set_ylim(min(ys) - margin, max(ys) + margin)
  axes.set_xscale("log")
  axes.set_xlim(min(xs) / 1.2, max(xs) * 1.3)
  axes.xaxis.set_major_formatter("{x:g}")
  axes.xaxis.set_minor_formatter(
    lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else ""
  )
  axes.set_xlabel("DRAM traffic of an image, KiB")
  axes.set_ylabel("test accuracy (%)")
  picture.legend(figure, axes, 4, "lower center")

  # Names last, as they need to know where everything else is
  others = [n for n in near if n.family == "published" and n not in chosen]
  named = [
    labels.Label(n.name, n.kib, n.percent, _FAMILIES[n.family], n in chosen)
    for n in (*chosen, *others)
  ]
  labels.place(axes, named, list(zip(xs, ys, strict=True)))
  return picture.svg(
    figure,
    "Test accuracy over DRAM traffic of every trained network; the table has "
    "the same numbers.",
  )


def _said(network: BlockNetwork, test_count: int) -> str:
  return (
    f"{network.name}: {network.kib:,.1f} KiB, {network.percent:.2f} ± "
    f"{network.percent_error(test_count):.2f} %; {network.words}"
  )


def alphas(results: BitQResults) -> str:
  """SVG of the measured objective over alpha, a panel for each word."""
  by_name = results.by_name
  tried = [optimum.alpha for optimum in results.words[0].optima]
  least = min((alpha for alpha in tried if alpha > 0), default=0.01)
  at = np.geomspace(least / 1.5, max(*tried, least) * 1.5, 200)
  figure = picture.new(5.2 * len(results.words), 4)
  panels = figure.subplots(1, len(results.words), squeeze=False)[0]
  for axes, word in zip(panels, results.words, strict=True):
    picture.bare(axes, "both")
    values = {
      name: drop(by_name[name], by_name["FP32"])
      + at * by_name[name].moves.dram_bits / word.largest_bits
      for name in word.candidates
    }

    # What is the best nowhere is grey and in no legend
    lowest = np.min(list(values.values()), axis=0)
    colors = itertools.cycle(_COLORS)
    for name, objective in values.items():
      style = dict(color=picture.GREY, linewidth=0.7, alpha=0.5)
      if np.isclose(objective, lowest, rtol=1e-9, atol=1e-12).any():
        style = dict(color=next(colors), linewidth=1.6, label=name)
      (line,) = axes.plot(at, objective, **style)
      picture.title(line, name)
    for alpha in tried:
      axes.axvline(alpha, color=picture.GRID, linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlabel="alpha")
    axes.set_ylim(bottom=max(1e-3, float(lowest.min()) / 1.5))
    axes.set_title(word.name, loc="left", fontsize=9)
    axes.set_ylabel("accuracy lost + alpha movement / largest", fontsize=8)
    axes.legend(fontsize=7.5, frameon=False, loc="upper left")
  return picture.svg(
    figure, "Measured objective over alpha of every candidate of each word."
  )
