"""Names beside the points of a picture."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from fbq.report import picture

# Sides of a point, and how far from it in typographic points: the first of
# those where a name covers least.
_SIDES = [
  (*side, distance)
  for distance, side in itertools.product(
    (7, 12, 18, 28, 40),
    # Corners first: bars of errors are above and below, steps to the right.
    ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0)),
  )
]


_FAR = 18  # from here on a name has a line to its point


class Label(NamedTuple):
  """A name and the point it belongs to, in the units of the axes."""

  text: str
  x: float
  y: float
  color: str
  bold: bool = False


def place(
  axes,
  labels: Sequence[Label],
  markers: Sequence[tuple[float, float]],
) -> list[str]:
  """Writes labels, the first ones first, where they cover least.

  A name that is not beside its point has a line of its own to it. One that
  would cover another name is left out.

  Args:
    axes: everything else is drawn, and their limits are final.
    labels: what is written.
    markers: places that labels should not cover, in the units of the axes.

  Returns:
    The names that found no room: to be told.
  """
  from matplotlib.transforms import Bbox

  axes.figure.canvas.draw()
  unit = axes.figure.dpi / 72
  places = axes.transData.transform(list(markers)) if len(markers) else []
  points = [Bbox([(x, y), (x, y)]).padded(4 * unit) for x, y in places]
  names: list[Bbox] = []
  left_out = []
  for label in labels:
    text = axes.annotate(
      label.text,
      (label.x, label.y),
      (0, 0),
      textcoords="offset points",
      ha="center",
      va="center",
      fontsize=8,
      fontweight="bold" if label.bold else "normal",
      color=label.color,
      zorder=6,
      parse_math=False,
    )
    text.set_in_layout(False)  # The axes stay where they were drawn.
    picture.halo(text)
    size = text.get_window_extent()

    def moved(side, size=size):
      right, up, distance = side
      distance *= unit / (1.5 if right and up else 1)
      x, y = size.width / 2 + distance, size.height / 2 + distance
      return right * x, up * y

    def covered(side, size=size, moved=moved):
      box = size.translated(*moved(side))
      inside = Bbox.intersection(axes.bbox, box)
      is_cut = inside is None or not (inside.size >= box.size - 1).all()
      on_names = box.count_overlaps(names)
      return 99 * on_names + 9 * is_cut + box.count_overlaps(points)

    best = min(_SIDES, key=covered)
    if covered(best) >= 99:
      text.remove()
      left_out.append(label.text)
      continue
    move = moved(best)
    text.set_position([pixels / unit for pixels in move])
    names.append(size.translated(*move))
    if best[2] >= _FAR:
      line = axes.annotate(
        "",
        (label.x, label.y),
        [pixels / unit * 0.8 for pixels in (move[0] * 0.6, move[1])],
        textcoords="offset points",
        arrowprops=dict(
          arrowstyle="-", color=label.color, linewidth=0.6, shrinkB=3
        ),
        zorder=5.5,
      )
      line.set_in_layout(False)
  return left_out
