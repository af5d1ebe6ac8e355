"""The picture of a shootout: one panel per strategy, all on the same scales."""

import collections
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fbq.experiments.shootout.standings import BASELINE, Standing, Tuned
from fbq.report import picture
from fbq.report.means import mean

_COLUMNS = 4


def panels(tuned: Sequence[Tuned], standings: Sequence[Standing]) -> str:
  """SVG: mean accuracy over mean cycles of each setting, best panel first.

  Bars are standard errors over seeds, in both directions; with one seed that
  of the accuracy over source images. Grey: the other strategies; black: uniform
  networks.
  """
  reference = statistics.fmean(
    o.cycles for o in tuned if o.strategy == BASELINE and o.setting == "8/8"
  )
  points = _points(tuned, reference)
  names = [s.strategy for s in standings if s.strategy != BASELINE]
  rows = math.ceil((len(names) + 1) / _COLUMNS)
  figure = picture.new(3.1 * _COLUMNS, 2.7 * rows)
  grid = figure.subplots(
    rows, _COLUMNS, squeeze=False, sharex=False, sharey=False
  )
  places = list(grid.flat)
  limits = _limits(points)
  for axes, name in zip(places, names, strict=False):
    _panel(axes, points, name, limits)
    standing = next(s for s in standings if s.strategy == name)
    axes.set_title(f"{name}: {standing.area} %", loc="left", fontsize=9)
  _bars(places[len(names)], standings)
  for axes in places[len(names) + 1 :]:
    axes.set_axis_off()
  figure.supxlabel("cycles per image, % of uniform 8 bits", fontsize=9)
  figure.supylabel("test accuracy (%)", fontsize=9)
  return picture.svg(
    figure,
    "Accuracy over cycles of every strategy, one panel each, and the area each "
    "covers",
  )


class Mark(NamedTuple):
  """A setting of a strategy in the picture, everything in %.

  Attributes:
    cycles, cycles_error: mean over seeds, of the cycles of uniform 8 bits.
    accuracy, accuracy_error: mean over seeds.
    title: what it says to the mouse.
  """

  cycles: float
  cycles_error: float
  accuracy: float
  accuracy_error: float
  title: str


def _points(tuned, reference) -> dict[str, list[Mark]]:
  """Marks of every strategy, the fastest first."""
  groups = collections.defaultdict(list)
  for one in tuned:
    groups[one.strategy, one.setting].append(one)
  points = collections.defaultdict(list)
  for (strategy, setting), group in groups.items():
    cycles = mean([o.cycles / reference for o in group])
    accuracy = mean([o.accuracy for o in group])
    errors = cycles.error, accuracy.error
    if len(group) == 1:  # no spread over seeds: that over images
      errors = 0.0, group[0].error
    x, y = 100 * cycles.value, 100 * accuracy.value
    title = (
      f"{strategy}, {setting}: {x:.2f} % of the cycles, {y:.2f} ± "
      f"{100 * errors[1]:.2f} %"
    )
    mark = Mark(x, 100 * errors[0], y, 100 * errors[1], title)
    points[strategy].append(mark)
  return {name: sorted(group) for name, group in points.items()}


def _limits(points):
  """Axes for everything but the uniform networks that fall out of sight."""
  shown = [
    p for name, group in points.items() if name != BASELINE for p in group
  ]
  shown.append(max(points[BASELINE], key=lambda p: p.accuracy))
  xs = [p.cycles for p in shown[:-1]]
  ys = sorted(p.accuracy for p in shown)
  # The lowest tenth may leave the picture below: the others must be told apart.
  low = max(ys[len(ys) // 10] - 2.0, ys[0] - 0.5)
  return (min(xs) - 2, max(*xs, 100) + 2), (low, min(ys[-1] + 0.7, 100.5))


def _panel(axes, points, name, limits):
  picture.bare(axes, "both")
  for other, group in points.items():
    if other not in (name, BASELINE):
      axes.plot(
        [p.cycles for p in group],
        [p.accuracy for p in group],
        ".",
        color=picture.GREY,
        alpha=0.45,
        markersize=4,
        zorder=1,
      )
  axes.plot(
    [p.cycles for p in points[name]],
    [p.accuracy for p in points[name]],
    color=picture.BLUE,
    linewidth=0.9,
    zorder=3,
  )
  for group, color, marker, order in (
    (points[BASELINE], picture.SOFT, "s", 2),
    (points[name], picture.BLUE, "o", 3),
  ):
    seen = [p for p in group if limits[1][0] <= p.accuracy <= limits[1][1]]
    bars = axes.errorbar(
      [p.cycles for p in seen],
      [p.accuracy for p in seen],
      xerr=[p.cycles_error for p in seen],
      yerr=[p.accuracy_error for p in seen],
      fmt=marker,
      linestyle="none",
      color=color,
      elinewidth=1,
      markersize=5 if order == 3 else 4,
      markeredgecolor=picture.PAGE,
      markeredgewidth=0.5,
      zorder=order,
    )
    picture.title(bars[0], [p.title for p in seen])
  axes.set_xlim(*limits[0])
  axes.set_ylim(*limits[1])
  axes.tick_params(labelsize=7.5)
  below = sum(p.accuracy < limits[1][0] for p in points[name])
  if below:
    axes.annotate(
      f"{below} below",
      (0.03, 0.04),
      xycoords="axes fraction",
      fontsize=7,
      color=picture.BLUE,
    )


def _bars(axes, standings):
  """Areas with error bars, the largest on top."""
  picture.bare(axes, "x")
  places = range(len(standings))[::-1]
  values = [100 * s.area.value for s in standings]
  errors = [100 * s.area.error for s in standings]
  bars = axes.errorbar(
    values,
    places,
    xerr=None if any(map(math.isnan, errors)) else errors,
    fmt="o",
    color=picture.GREEN,
    elinewidth=1,
    markersize=4,
  )
  picture.title(bars[0], [f"{s.strategy}: {s.area} %" for s in standings])
  axes.set_yticks(list(places), [s.strategy for s in standings], fontsize=6.5)
  axes.tick_params(axis="x", labelsize=7.5)
  axes.set_title("area covered (%)", loc="left", fontsize=9)
