"""The picture: accuracy over cycles, with the front and where points come from.

matplotlib is imported inside the functions and drawn without pyplot, so there
is no global state and no display. Saving the picture twice gives the same file.
"""

import itertools
import math
import os
from collections.abc import Sequence

import numpy as np

from fbq.report import figures, labels, records, tables
from fbq.report.records import Point

# Okabe-Ito: told apart by people who do not see all colours, and in grey.
_STYLES = {
  "search": ("o", "#0072B2", "precision search"),
  "free_bits": ("D", "#D55E00", "after the Free Bits pass"),
  "baseline": ("s", "#444444", "uniform baseline"),
}
_FRONT = "#009E73"
_FLOAT = "#999999"
_STAR = "#E6A700"


def write_front(
  path: str | os.PathLike,
  points: Sequence[Point],
  test_count: int,
  float_accuracy: float | None = None,
  recommended: str | None = None,
  title: str = "",
) -> None:
  """Writes the picture of `front_png` to `path`, whole or not at all."""
  picture = front_png(points, test_count, float_accuracy, recommended, title)
  tables.write_atomically(path, picture)


def front_png(
  points: Sequence[Point],
  test_count: int,
  float_accuracy: float | None = None,
  recommended: str | None = None,
  title: str = "",
) -> bytes:
  """A PNG of accuracy over cycles.

  Where a few points lie far below the others the accuracy axis is broken, so
  that the ones worth having can be told apart.

  Args:
    points: of one network on one target.
    test_count: test images, for the error bars (binomial standard error).
    float_accuracy: of the network before quantization, 0 to 1; a dashed line.
    recommended: name of the point to be marked with a star.

  Raises:
    ValueError: points do not fit together or a number is impossible.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  by_name = records.check(points)
  if recommended is not None and recommended not in by_name:
    raise ValueError(f"no point is called {recommended!r}: {list(by_name)}")
  if float_accuracy is not None:
    float_accuracy = records.fraction(float_accuracy, "float_accuracy")
  figure = Figure(figsize=(9, 6), dpi=150)
  canvas = FigureCanvasAgg(figure)
  low, high = accuracy_ranges(points, test_count, float_accuracy)
  if low is None:
    panels = [(figure.add_subplot(), high)]
  else:
    grid = figure.add_gridspec(2, 1, height_ratios=(4, 1), hspace=0.07)
    upper = figure.add_subplot(grid[0])
    lower = figure.add_subplot(grid[1], sharex=upper)
    panels = [(upper, high), (lower, low)]
    _break(upper, lower)
  for axes, limits in panels:
    _draw(axes, points, by_name, test_count, float_accuracy)
    axes.set_ylim(*limits)
  best = by_name.get(recommended) if recommended else None
  if best is not None:
    for axes, _ in panels:
      axes.plot(
        best.cycles / 1e6,
        best.accuracy * 100,
        "*",
        color=_STAR,
        markeredgecolor="black",
        markeredgewidth=0.6,
        markersize=17,
        zorder=5,
        label="recommended",
      )
  top, bottom = panels[0][0], panels[-1][0]
  if title:
    top.set_title(title, loc="left", fontsize=11, parse_math=False)
  bottom.set_xlabel("cycles per image (millions), fewer is faster")
  figure.supylabel("test accuracy (%)", fontsize=10, x=0.015)
  handles, names = top.get_legend_handles_labels()
  figure.legend(
    handles,
    names,
    loc="lower center",
    ncols=math.ceil(len(names) / 2),
    fontsize=8.5,
    frameon=False,
  )
  figure.subplots_adjust(left=0.085, right=0.98, top=0.94, bottom=0.19)
  canvas.draw()
  for axes, limits in panels:
    _name_points(axes, canvas.get_renderer(), points, by_name, best, limits)
  return figures.png(figure)


def accuracy_ranges(points, test_count, float_accuracy=None):
  """Limits in percent of the lower panel, or None, and of the upper one.

  The axis breaks at the largest step between neighbouring accuracies if that is
  more than half of their range and more than 5 points, with at least half of
  the points above it.
  """
  spread = [
    (p.accuracy * 100, records.standard_error(p.accuracy, test_count) * 100)
    for p in points
  ]
  spread.sort()
  if float_accuracy is not None:
    spread.append((float_accuracy * 100, 0.0))

  def limits(group):
    least = min(value - error for value, error in group)
    most = max(value + error for value, error in group)
    margin = 0.06 * (most - least) + 0.15
    return least - margin, most + margin

  values = np.sort([value for value, _ in spread])
  steps = np.diff(values)
  if len(steps):
    place = int(np.argmax(steps))
    step = steps[place]
    if (
      step > 5
      and step > 0.5 * (values[-1] - values[0])
      and 2 * (place + 1) <= len(values)
    ):
      below = [pair for pair in spread if pair[0] <= values[place]]
      above = [pair for pair in spread if pair[0] > values[place]]
      return limits(below), limits(above)
  return None, limits(spread)


def _break(upper, lower):
  """Marks where the accuracy axis is broken."""
  upper.spines.bottom.set_visible(False)
  lower.spines.top.set_visible(False)
  upper.tick_params(bottom=False, labelbottom=False)
  marks = dict(
    marker=[(-1, -0.5), (1, 0.5)],
    markersize=9,
    linestyle="none",
    color="black",
    markeredgewidth=1,
    clip_on=False,
  )
  upper.plot([0], [0], transform=upper.transAxes, **marks)
  lower.plot([0], [1], transform=lower.transAxes, **marks)


def _draw(axes, points, by_name, test_count, float_accuracy):
  """Everything but the labels, in millions of cycles and percent."""
  axes.grid(True, color="#e4e4e4", linewidth=0.7)
  axes.set_axisbelow(True)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  cycles = np.asarray([point.cycles for point in points]) / 1e6
  margin = 0.05 * (cycles.max() - cycles.min()) or 0.1 * cycles.max()
  right = cycles.max() + margin
  axes.set_xlim(cycles.min() - margin, right)
  mask = records.on_front(points)
  front = sorted(
    {
      (p.cycles / 1e6, p.accuracy * 100)
      for p, keep in zip(points, mask, strict=True)
      if keep
    }
  )
  axes.step(
    [x for x, _ in front] + [right],
    [y for _, y in front] + [front[-1][1]],
    where="post",
    color=_FRONT,
    linewidth=1.6,
    alpha=0.8,
    zorder=1.5,
    label="front: nothing faster is as accurate",
  )
  if float_accuracy is not None:
    axes.axhline(
      float_accuracy * 100,
      color=_FLOAT,
      linestyle=(0, (5, 4)),
      linewidth=1.2,
      zorder=1,
      label=f"float network ({float_accuracy:.2%})",
    )
  for point in points:
    if point.parent is not None:
      source = by_name[point.parent]
      arrow = axes.annotate(
        "",
        xy=(point.cycles / 1e6, point.accuracy * 100),
        xytext=(source.cycles / 1e6, source.accuracy * 100),
        arrowprops=dict(
          arrowstyle="-|>",
          color=_STYLES["free_bits"][1],
          linewidth=0.9,
          alpha=0.7,
          shrinkA=4,
          shrinkB=4,
        ),
        zorder=1.8,
      )
      # Where the axis is broken, an arrow from below the break ends at it.
      arrow.arrow_patch.set_clip_box(axes.bbox)
  for kind, (marker, color, name) in _STYLES.items():
    group = [point for point in points if point.kind == kind]
    if not group:
      continue
    accuracy = [point.accuracy * 100 for point in group]
    errors = [
      records.standard_error(p.accuracy, test_count) * 100 for p in group
    ]
    axes.errorbar(
      [point.cycles / 1e6 for point in group],
      accuracy,
      yerr=errors,
      fmt=marker,
      color=color,
      ecolor=color + "55",
      elinewidth=1.2,
      markersize=6.5,
      markeredgecolor="white",
      markeredgewidth=0.7,
      zorder=3,
      label=f"{name} (bar: 1 standard error)" if kind == "search" else name,
    )


def _name_points(axes, renderer, points, by_name, best, limits):
  """Names the points within the limits of a panel, what matters most first.

  The recommended point, the baselines and the front always get a name; of the
  others, those whose name would cover something do not: the table has them.
  """

  def place(point):
    return point.cycles / 1e6, point.accuracy * 100

  mask = dict(zip(map(id, points), records.on_front(points), strict=True))
  front = sorted(place(point) for point in points if mask[id(point)])
  corners = [front[0]]
  for (_, y0), (x1, y1) in itertools.pairwise(front):
    corners += [(x1, y0), (x1, y1)]
  corners.append((axes.get_xlim()[1], front[-1][1]))
  lines = [corners]
  for point in points:
    if point.parent is not None:
      lines.append([place(by_name[point.parent]), place(point)])
  for line in axes.lines:
    if line.get_label().startswith("float network"):
      level = line.get_ydata()[0]
      lines.append([(x, level) for x in axes.get_xlim()])

  def rank(point):
    kinds = point is best, point.kind == "baseline", mask[id(point)]
    return [not first for first in kinds], point.cycles, point.name

  shown = [p for p in points if limits[0] <= place(p)[1] <= limits[1]]
  labels.place(
    axes,
    renderer,
    [
      labels.Label(
        point.name,
        *place(point),
        color=_STYLES[point.kind][1],
        essential=not all(rank(point)[0]),
        bold=point is best,
      )
      for point in sorted(shown, key=rank)
    ],
    [place(point) for point in points],
    lines,
  )
