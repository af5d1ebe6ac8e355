"""Names next to the points of a picture, placed where they cover nothing."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from fbq.report import picture

_DISTANCES = (8, 14, 22, 32)  # From point to box, in typographic points.
_DIRECTIONS = 12
_FAR = 20  # From here on a thin line leads from the name to its point.
_COVERS = 100  # Cost of a box on a marker or another name.
_OUTSIDE = 1000


@dataclasses.dataclass(frozen=True)
class Label:
  """A name and the point it belongs to, in the units of the axes.

  Attributes:
    essential: shown even if it has to cover something.
  """

  text: str
  x: float
  y: float
  color: str
  essential: bool
  bold: bool = False


def place(
  axes,
  labels: Sequence[Label],
  markers: Sequence[tuple[float, float]],
  lines: Sequence[Sequence[tuple[float, float]]],
) -> list[str]:
  """Draws labels and returns the texts of those that found no room.

  Greedy: labels are placed in the given order, each at the cheapest of 12
  directions and 4 distances. An essential label is always drawn.

  Args:
    axes: drawn once, with its final limits.
    markers: places that names must not cover, in the units of the axes.
    lines: corners of lines that names should rather not cover.
  """
  scale = axes.figure.dpi / 72
  renderer = axes.figure.canvas.get_renderer()
  to_pixels = axes.transData.transform
  boxes = [(*to_pixels(marker), 6 * scale, 6 * scale) for marker in markers]
  strokes = np.concatenate(
    [np.zeros((0, 2))]
    + [_walk(to_pixels(np.asarray(line)), 8 * scale) for line in lines]
  )
  frame = axes.get_window_extent(renderer)
  left_out = []
  for label in labels:
    text = axes.annotate(
      label.text,
      (label.x, label.y),
      xytext=(0, 0),
      textcoords="offset points",
      ha="center",
      va="center",
      fontsize=8,
      fontweight="bold" if label.bold else "normal",
      color=label.color,
      zorder=6,
      parse_math=False,
    )
    text.set_in_layout(False)  # Panels stay where they were drawn.
    picture.halo(text)
    size = text.get_window_extent(renderer)
    half = np.array((size.width, size.height)) / 2 + scale
    centre = to_pixels((label.x, label.y))
    cost, distance, offset = _cheapest(
      centre, half, np.asarray(boxes), strokes, frame, scale
    )
    if cost >= _COVERS and not label.essential:
      text.remove()
      left_out.append(label.text)
      continue
    text.set_position(tuple(offset / scale))
    boxes.append((*(centre + offset), *half))
    if distance >= _FAR:
      end = axes.transData.inverted().transform(centre + offset)
      axes.plot(
        [label.x, end[0]],
        [label.y, end[1]],
        color=label.color,
        linewidth=0.5,
        alpha=0.6,
        zorder=2,
        scalex=False,
        scaley=False,
      )
  return left_out


def _walk(corners, step):
  """Points [K, 2] at most `step` apart along a line through corners."""
  parts = [corners[:1]]
  for start, end in zip(corners[:-1], corners[1:], strict=True):
    count = max(1, math.ceil(np.hypot(*(end - start)) / step))
    share = np.linspace(0, 1, count + 1)[1:, None]
    parts.append(start * (1 - share) + end * share)
  return np.concatenate(parts)


def _cheapest(centre, half, boxes, strokes, frame, scale):
  """(cost, distance, offset in pixels) of the best box around a point.

  Args:
    centre: [2] of the point, in pixels.
    half: [2] half the width and height of the box.
    boxes: [K, 4] centre and half size of what must not be covered.
    strokes: [K, 2] points along lines.
  """
  best = (math.inf, 0, np.zeros(2))
  for distance in _DISTANCES:
    for turn in range(_DIRECTIONS):
      angle = 2 * math.pi * turn / _DIRECTIONS
      way = np.array((math.cos(angle), math.sin(angle))).round(6)
      # The point of the box nearest to the marker is `distance` away.
      offset = way * distance * scale + np.sign(way) * half * np.abs(way)
      place = centre + offset
      over = half + boxes[:, 2:] - np.abs(place - boxes[:, :2])
      over = np.prod(np.maximum(over, 0), axis=1)
      cost = distance / 4 + _COVERS * (over > 0).sum()
      cost += over.sum() / scale**2 / 10
      cost += 3 * (np.abs(place - strokes) < half).all(axis=1).sum()
      inside = (
        frame.x0 + half[0] <= place[0] <= frame.x1 - half[0]
        and frame.y0 + half[1] <= place[1] <= frame.y1 - half[1]
      )
      cost += 0 if inside else _OUTSIDE
      if cost < best[0]:
        best = float(cost), distance, offset
  return best
