"""The picture: what points were chosen by, accuracy in validation over cycles.

Every point and every arrow tells its numbers to the mouse.
"""

import numpy as np

from fbq.report import labels, picture, records, sentences
from fbq.report.assignments import Assignments
from fbq.report.records import Point

_STYLES = {
  "search": ("o", picture.BLUE, "precision search (bar: 1 standard error)"),
  "free_bits": ("D", picture.VERMILION, "after the Free Bits pass"),
  "baseline": ("s", picture.SOFT, "uniform baseline"),
}


def front(results: Assignments) -> str:
  """SVG of validation accuracy over cycles, with the front.

  Points far less accurate than the others (`least_shown`) are in a band at the
  lower edge, and their names say how accurate they are.
  """
  points, best = records.by_cycles(results.points), results.best.point
  figure = picture.new(9, 6)
  axes = figure.subplots()
  picture.bare(axes, "both")

  # Limits: the accuracies worth telling apart, with their error bars.
  least = least_shown(results)
  shown = [p for p in points if p.validation.accuracy >= least]
  ends = [
    100 * (p.validation.accuracy + s * p.validation.error)
    for p in shown
    for s in (-1, 1)
  ]
  in_float = results.float_validation.accuracy
  ends.append(100 * in_float)
  margin = 0.06 * (max(ends) - min(ends)) + 0.15
  low, edge = min(ends) - margin, min(ends) - 2 * margin
  axes.set_ylim(low, min(max(ends) + margin, 101))
  if len(shown) < len(points):
    axes.set_ylim(bottom=low - 2 * margin)
    axes.axhspan(
      *(low - 2 * margin, low),
      color=picture.GRID,
      linewidth=0,
      label="less accurate than the axis tells: as written",
    )
  cycles = [point.cycles / 1e6 for point in points]
  margin = 0.05 * (cycles[-1] - cycles[0]) or 0.1 * cycles[-1]
  axes.set_xlim(cycles[0] - margin, cycles[-1] + margin)

  def place(point):
    accuracy = point.validation.accuracy
    return point.cycles / 1e6, 100 * accuracy if accuracy >= least else edge

  # The front, as steps to the right edge, and the float network.
  best_names = records.front(points)
  xs, ys = zip(*(place(p) for p in points if p.name in best_names), strict=True)
  axes.step(
    [*xs, cycles[-1] + margin],
    [*ys, ys[-1]],
    where="post",
    color=picture.GREEN,
    linewidth=1.6,
    alpha=0.8,
    zorder=1.5,
    label="front: nothing faster is as accurate",
  )
  axes.axhline(
    100 * in_float,
    color=picture.GREY,
    linestyle=(0, (5, 4)),
    linewidth=1.2,
    zorder=1,
    label=f"float network ({in_float:.2%})",
  )

  # Arrows before points, which lie on them.
  by_name = results.by_name
  for point in points:
    if point.parent is not None:
      _arrow(axes, by_name[point.parent], point, place)
  if any(point.parent is not None for point in points):
    style = dict(color=picture.VERMILION, linewidth=0.9, marker=">")
    axes.plot([], [], label="what the pass made of it", markersize=4, **style)
  for kind, (marker, color, label) in _STYLES.items():
    group = [point for point in points if point.kind == kind]
    if not group:
      continue
    xs, ys = zip(*map(place, group), strict=True)
    bars = axes.errorbar(
      xs,
      ys,
      [
        100 * p.validation.error if p.validation.accuracy >= least else 0
        for p in group
      ],
      fmt=marker,
      color=color,
      elinewidth=1,
      markersize=6.5,
      markeredgecolor=picture.PAGE,
      markeredgewidth=0.7,
      zorder=3,
      label=label,
    )
    picture.title(bars[0], [said(point) for point in group])
  (star,) = axes.plot(
    *place(best),
    "*",
    color=picture.AMBER,
    markeredgecolor=picture.INK,
    markeredgewidth=0.6,
    markersize=17,
    zorder=5,
    label="recommended",
  )
  picture.title(star, [f"recommended: {said(best)}"])

  # What is around, then the names of what the answer is about.
  picture.heading(axes, f"{results.network} on {results.target}")
  axes.set_xlabel("cycles per image (millions), fewer is faster")
  axes.set_ylabel("validation accuracy (%)")
  picture.legend(figure, axes, 3, "lower center")
  names = {best.name, best.parent, results.reference, *best_names}
  names |= {p.name for p in points if p.validation.accuracy < least}
  named = [p for p in points if names & {p.name, *p.aliases}]
  labels.place(
    axes,
    [
      labels.Label(
        p.name
        + f": {p.validation.accuracy:.1%}" * (p.validation.accuracy < least),
        *place(p),
        _STYLES[p.kind][1],
        p == best,
      )
      for p in sorted(named, key=lambda p: p != best)
    ],
    [place(point) for point in points],
  )
  return picture.svg(
    figure,
    "Validation accuracy over cycles per image of every assignment; the table "
    "has the same numbers, and those of the test.",
  )


def said(point: Point) -> str:
  """A point in one line: name, cycles, accuracy, bits."""
  names = " = ".join((point.name, *point.aliases))
  return (
    f"{names}: {point.cycles:,} cycles, {point.validation.accuracy:.2%} "
    f"± {100 * point.validation.error:.2f} in validation, "
    f"{point.test.accuracy:.2%} in test; "
    f"{sentences.bits_in_words(point.precision)}"
  )


def least_shown(results: Assignments) -> float:
  """The accuracy from which the axis tells points apart.

  The lower fence of a box plot, 1.5 interquartile ranges below the lower
  quartile, but no more than the reference and the recommended point have.
  """
  accuracies = [point.validation.accuracy for point in results.points]
  lower, upper = np.percentile(accuracies, (25, 75))
  best = results.best
  fence = lower - 1.5 * max(upper - lower, 0.01)
  kept = best.point, best.reference
  return float(min(fence, *(p.validation.accuracy for p in kept)))


def _arrow(axes, source, point, place):
  arrow = axes.annotate(
    "",
    xy=place(point),
    xytext=place(source),
    arrowprops=dict(
      arrowstyle="-|>",
      color=picture.VERMILION,
      linewidth=0.9,
      alpha=0.7,
      shrinkA=4,
      shrinkB=4,
    ),
    zorder=1.8,
  )
  picture.title(
    arrow.arrow_patch,
    f"{source.name} to {point.name}: {source.cycles:,} to {point.cycles:,} "
    f"cycles, {source.validation.accuracy:.2%} to "
    f"{point.validation.accuracy:.2%}",
  )
