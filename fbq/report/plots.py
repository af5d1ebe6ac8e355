"""The picture: what points were chosen by, accuracy in validation over cycles.

The part around the front is large; where that leaves points out, a second panel
has all of them. Every point and every arrow tells its numbers to the mouse.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fbq.report import labels, neighbourhood, picture, records, sentences
from fbq.report.assignments import Assignments
from fbq.report.records import Point

_STYLES = {
  "search": ("o", picture.BLUE, "precision search (bar: 1 standard error)"),
  "free_bits": ("D", picture.VERMILION, "after the Free Bits pass"),
  "baseline": ("s", picture.SOFT, "uniform baseline"),
}


class Front(NamedTuple):
  """The picture, and what a reader is to be told of it.

  Attributes:
    svg: the picture.
    note: what is named, what lies outside, and which names found no room.
  """

  svg: str
  note: str


def front(results: Assignments) -> Front:
  """Validation accuracy over cycles, the neighbourhood of the front large."""
  points, best = records.by_cycles(results.points), results.best.point
  window = neighbourhood.around_front(results)
  outside = [p for p in points if not window.holds(p)]
  figure = picture.new(11 if outside else 9, 6)
  ratios = {"width_ratios": (3.4, 1)} if outside else {}
  panels = figure.subplots(
    1, 1 + bool(outside), squeeze=False, gridspec_kw=ratios
  )[0]
  axes = panels[0]
  picture.bare(axes, "both")
  axes.set_xlim(*window.cycles)
  axes.set_ylim(*window.accuracy)

  # What is around; arrows before points, which lie on them
  _draw_front(axes, results, window.cycles[1])
  in_float = results.float_validation.accuracy
  axes.axhline(
    100 * in_float,
    color=picture.GREY,
    linestyle=(0, (5, 4)),
    linewidth=1.2,
    zorder=1,
    label=f"float network ({in_float:.2%})",
  )
  by_name = results.by_name
  raised = [(by_name[p.parent], p) for p in points if p.parent is not None]
  for pair in raised:
    is_seen = all(map(window.holds, pair))
    _arrow(axes if is_seen else panels[1], *pair)
  if raised:
    style = dict(color=picture.VERMILION, linewidth=0.9, marker=">")
    axes.plot([], [], label="what the pass made of it", markersize=4, **style)
  for kind in _STYLES:
    group = [p for p in points if p.kind == kind]
    _draw_points(axes, kind, group, [p for p in group if window.holds(p)])
  (star,) = axes.plot(
    *_place(best),
    "*",
    color=picture.AMBER,
    markeredgecolor=picture.INK,
    markeredgewidth=0.6,
    markersize=17,
    zorder=5,
    label="recommended",
  )
  picture.title(star, [f"recommended: {said(best)}"])

  # Words: all else is drawn, then the names of what the answer is about
  picture.heading(axes, f"{results.network} on {results.target}")
  axes.set_xlabel("cycles per image (millions), fewer is faster")
  axes.set_ylabel(f"validation {results.metric} (%)")
  if outside:
    _overview(panels[1], results, window, outside)
  picture.legend(figure, axes, 4 if outside else 3, "lower center")
  names = {best.name, best.parent, results.reference, *records.front(points)}
  named = [
    p for p in points if window.holds(p) and names & {p.name, *p.aliases}
  ]
  unnamed = labels.place(
    axes,
    [_label(p, p == best) for p in sorted(named, key=lambda p: p != best)],
    [_place(p) for p in points if window.holds(p)],
  )
  if outside:
    unnamed += labels.place(
      panels[1], [_label(p) for p in outside], [_place(p) for p in points]
    )
  return Front(
    picture.svg(
      figure,
      f"Validation {results.metric} over cycles per image of every assignment; "
      "the table has the same numbers, and those of the test.",
    ),
    _note(outside, unnamed),
  )


def _note(outside: Sequence[Point], unnamed: Sequence[str]) -> str:
  """What to know of the picture."""
  text = (
    "Named are the front, the reference, and what the recommended one was made "
    "from; every point and arrow tells its name and numbers to the mouse, and "
    "the table has all of them."
  )
  if outside:
    text += (
      f" Far from the front are {', '.join(p.name for p in outside)}: they are "
      "in the panel of all points, whose frame is what the large one shows."
    )
  if unnamed:
    text += f" There was no room for the names of {', '.join(unnamed)}."
  return text


def _place(point: Point) -> tuple[float, float]:
  return point.cycles / 1e6, 100 * point.validation.accuracy


def _label(point: Point, bold: bool = False) -> labels.Label:
  return labels.Label(point.name, *_place(point), _STYLES[point.kind][1], bold)


def _draw_front(axes, results: Assignments, end: float) -> None:
  """The front, as steps to the right edge."""
  points = records.by_cycles(results.points)
  names = records.front(points)
  xs, ys = zip(*(_place(p) for p in points if p.name in names), strict=True)
  axes.step(
    [*xs, max(end, xs[-1])],
    [*ys, ys[-1]],
    where="post",
    color=picture.GREEN,
    linewidth=1.6,
    alpha=0.8,
    zorder=1.5,
    label="front: nothing faster is as accurate",
  )


def _draw_points(axes, kind: str, group, shown: Sequence[Point]) -> None:
  """Those of a kind that are shown; the legend tells of the kind anyway."""
  marker, color, label = _STYLES[kind]
  if not group:
    return
  xs, ys = zip(*map(_place, shown), strict=True) if shown else ((), ())
  bars = axes.errorbar(
    xs,
    ys,
    [100 * p.validation.error for p in shown],
    fmt=marker,
    color=color,
    elinewidth=1,
    markersize=6.5,
    markeredgecolor=picture.PAGE,
    markeredgewidth=0.7,
    zorder=3,
    label=label,
  )
  if shown:
    picture.title(bars[0], [said(point) for point in shown])


def _overview(axes, results: Assignments, window, outside) -> None:
  """All points, small, and the frame of the large panel."""
  from matplotlib.patches import Rectangle

  picture.bare(axes, "both")
  within = [p for p in results.points if window.holds(p)]
  for points, size in ((within, 8), (outside, 22)):
    xs, ys = zip(*map(_place, points), strict=True)
    dots = axes.scatter(
      xs,
      ys,
      s=size,
      color=[_STYLES[p.kind][1] for p in points],
      linewidths=0,
      zorder=3,
    )
    if points is outside:
      picture.title(dots, [said(point) for point in points])
  (left, right), (low, high) = window
  frame = Rectangle(
    (left, low),
    right - left,
    high - low,
    fill=False,
    edgecolor=picture.SOFT,
    linewidth=1,
  )
  axes.add_patch(frame)
  axes.margins(0.14)
  axes.locator_params(axis="x", nbins=3)
  axes.set_ylim(top=min(axes.get_ylim()[1], 101))
  axes.set_title(f"all {len(results.points)} points", loc="left", fontsize=9.5)
  axes.tick_params(labelsize=8)


def said(point: Point) -> str:
  """A point in one line: name, cycles, accuracy, bits."""
  names = " = ".join((point.name, *point.aliases))
  return (
    f"{names}: {point.cycles:,} cycles, {point.validation.accuracy:.2%} "
    f"± {100 * point.validation.error:.2f} in validation, "
    f"{point.test.accuracy:.2%} in test; "
    f"{sentences.bits_in_words(point.precision)}"
  )


def _arrow(axes, source, point) -> None:
  """From what the pass was given to what it made."""
  arrow = axes.annotate(
    "",
    xy=_place(point),
    xytext=_place(source),
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
