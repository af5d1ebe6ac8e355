"""The picture: accuracy over cycles, with the front and where points come from.

Every point and every arrow tells its numbers to the mouse.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from fbq.report import labels, picture, records, tables
from fbq.report.records import Point

_STYLES = {
  "search": ("o", picture.BLUE, "precision search"),
  "free_bits": ("D", picture.VERMILION, "after the Free Bits pass"),
  "baseline": ("s", picture.SOFT, "uniform baseline"),
}


def front(
  points: Sequence[Point],
  test_count: int,
  float_accuracy: float | None = None,
  recommended: str | None = None,
  title: str = "",
) -> str:
  """SVG of accuracy over cycles.

  Where a few points lie far below the others the accuracy axis is broken, so
  that the ones worth having can be told apart.

  Args:
    points: of one network on one target.
    test_count: test images, for the error bars (binomial standard error).
    float_accuracy: of the network before quantization, 0 to 1; a dashed line.
    recommended: name of the point to be marked with a star.
    title: heading of the picture.

  Raises:
    ValueError: points do not fit together or a number is impossible.
  """
  by_name = records.check(points)
  if recommended is not None and recommended not in by_name:
    raise ValueError(f"no point is called {recommended!r}: {list(by_name)}")
  if float_accuracy is not None:
    float_accuracy = records.fraction(float_accuracy, "float_accuracy")
  best = by_name.get(recommended) if recommended else None

  # One panel, or a large one above a small one where the axis is broken.
  figure = picture.new(9, 6)
  low, high = accuracy_ranges(points, test_count, float_accuracy)
  if low is None:
    panels, limits = [figure.subplots()], [high]
  else:
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    limits = [high, low]
    _break(*panels)
  for axes, (bottom, top) in zip(panels, limits, strict=True):
    axes.set_ylim(bottom, top)
    _draw(axes, points, by_name, test_count, float_accuracy)
    if best is not None:
      _star(axes, best, test_count)

  # What is around the panels.
  if title:
    panels[0].set_title(title, loc="left", fontsize=11, parse_math=False)
  panels[-1].set_xlabel("cycles per image (millions), fewer is faster")
  figure.supylabel("test accuracy (%)", fontsize=10)
  picture.legend(figure, panels[0], 3, "lower center")

  # Names last, as they need to know where everything else is.
  figure.canvas.draw()
  for axes in panels:
    _name_points(axes, points, by_name, best, float_accuracy)
  return picture.svg(
    figure,
    "Test accuracy over cycles per image of every assignment; the table has "
    "the same numbers.",
  )


def said(point: Point, test_count: int) -> str:
  """A point in one line: name, cycles, accuracy, bits."""
  error = records.standard_error(point.accuracy, test_count)
  names = " = ".join((point.name, *point.aliases))
  return (
    f"{names}: {point.cycles:,} cycles, {point.accuracy:.2%} "
    f"± {100 * error:.2f}; {tables.bits_in_words(point.precision)}"
  )


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


def _place(point: Point) -> tuple[float, float]:
  """Millions of cycles, accuracy in percent."""
  return point.cycles / 1e6, point.accuracy * 100


def _draw(axes, points, by_name, test_count, float_accuracy):
  """Everything but the names, within the limits of a panel."""
  picture.bare(axes, "both")
  cycles = np.asarray([point.cycles for point in points]) / 1e6
  margin = 0.05 * (cycles.max() - cycles.min()) or 0.1 * cycles.max()
  right = cycles.max() + margin
  axes.set_xlim(cycles.min() - margin, right)

  # The front, as steps to the right edge, and the float network.
  mask = records.on_front(points)
  ends = {_place(p) for p, keep in zip(points, mask, strict=True) if keep}
  xs, ys = zip(*sorted(ends), strict=True)
  axes.step(
    [*xs, right],
    [*ys, ys[-1]],
    where="post",
    color=picture.GREEN,
    linewidth=1.6,
    alpha=0.8,
    zorder=1.5,
    label="front: nothing faster is as accurate",
  )
  if float_accuracy is not None:
    axes.axhline(
      float_accuracy * 100,
      color=picture.GREY,
      linestyle=(0, (5, 4)),
      linewidth=1.2,
      zorder=1,
      label=f"float network ({float_accuracy:.2%})",
    )

  # Arrows before points, which lie on them.
  for point in points:
    if point.parent is not None:
      _arrow(axes, by_name[point.parent], point)
  for kind, (marker, color, name) in _STYLES.items():
    label = f"{name} (bar: 1 standard error)" if kind == "search" else name
    group = [point for point in points if point.kind == kind]
    shown = _within(axes, group)
    if group:
      bars = axes.errorbar(
        [_place(point)[0] for point in shown],
        [_place(point)[1] for point in shown],
        yerr=[
          100 * records.standard_error(point.accuracy, test_count)
          for point in shown
        ],
        fmt=marker,
        color=color,
        ecolor=color + "55",
        elinewidth=1.2,
        markersize=6.5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        zorder=3,
        label=label,
      )
      picture.title(bars[0], [said(point, test_count) for point in shown])


def _arrow(axes, source, point):
  arrow = axes.annotate(
    "",
    xy=_place(point),
    xytext=_place(source),
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
  picture.title(
    arrow.arrow_patch,
    f"{source.name} to {point.name}: {source.cycles:,} to {point.cycles:,} "
    f"cycles, {source.accuracy:.2%} to {point.accuracy:.2%}",
  )


def _star(axes, best, test_count):
  shown = _within(axes, [best])
  (star,) = axes.plot(
    [_place(point)[0] for point in shown],
    [_place(point)[1] for point in shown],
    "*",
    color=picture.AMBER,
    markeredgecolor="black",
    markeredgewidth=0.6,
    markersize=17,
    zorder=5,
    label="recommended",
  )
  titles = [f"recommended: {said(point, test_count)}" for point in shown]
  picture.title(star, titles)


def _within(axes, points):
  """The points that a panel shows."""
  low, high = axes.get_ylim()
  return [point for point in points if low <= _place(point)[1] <= high]


def _name_points(axes, points, by_name, best, float_accuracy):
  """Names the points of a panel, what matters most first.

  The recommended point, the baselines and the front always get a name; of the
  others, those whose name would cover something do not: the table has them.
  """
  mask = dict(zip(map(id, points), records.on_front(points), strict=True))

  # Names should rather not cover the front, arrows and the float network.
  front = sorted(_place(point) for point in points if mask[id(point)])
  corners = [front[0]]
  for (_, y0), (x1, y1) in itertools.pairwise(front):
    corners += [(x1, y0), (x1, y1)]
  corners.append((axes.get_xlim()[1], front[-1][1]))
  lines = [corners]
  for point in points:
    if point.parent is not None:
      lines.append([_place(by_name[point.parent]), _place(point)])
  if float_accuracy is not None:
    lines.append([(x, 100 * float_accuracy) for x in axes.get_xlim()])

  def rank(point):
    kinds = point is best, point.kind == "baseline", mask[id(point)]
    return [not first for first in kinds], point.cycles, point.name

  labels.place(
    axes,
    [
      labels.Label(
        point.name,
        *_place(point),
        color=_STYLES[point.kind][1],
        essential=not all(rank(point)[0]),
        bold=point is best,
      )
      for point in sorted(_within(axes, points), key=rank)
    ],
    [_place(point) for point in points],
    lines,
  )
