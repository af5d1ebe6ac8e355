"""Which bits where: strips over the layers of a network, one per assignment."""

from collections.abc import Sequence
from typing import NamedTuple

from fbq.report import picture, records
from fbq.report.assignments import Assignments
from fbq.report.records import LayerRow, Point

_MOST = 6  # assignments: more would be read by nobody
# From few bits to many, all of them light enough for dark letters.
_COLORS = {
  **{2: "#e0762a", 3: "#e58c2e", 4: "#e9a63a", 5: "#d2bc6c"},
  **{6: "#abc6a0", 7: "#83c0cc", 8: picture.SKY},
}
_WIDE = "#b5bcc4"


class Strip(NamedTuple):
  """A row of cells, one per layer.

  Attributes:
    label: what it shows, at its left.
    bits: bits of each layer; None where it has none.
    gap: whether it stands apart from the row above.
  """

  label: str
  bits: Sequence[int | None]
  gap: bool = True


def of_points(results: Assignments) -> str:
  """SVG: cycles by layer, and bits of inputs and weights of what matters.

  That is the recommended point, the reference, what the first was made from,
  and the front, of the first seed.
  """
  shown = chosen(results)
  rows = [row for point in shown for row in _strips(results, point)]
  best, reference = results.best.point, results.best.reference
  layers = results.layers[best.name]
  names = [row.layer for row in layers]
  figure = _figure(len(names), 1.7 + 0.24 * len(rows))
  top, strips = figure.subplots(
    2, 1, sharex=True, height_ratios=(1.6, 0.24 * len(rows))
  )
  picture.bare(top)
  compared = {
    p.name: p for p in (reference, best) if results.layers.get(p.name)
  }
  for i, point in enumerate(compared.values()):
    own: Sequence[LayerRow] = results.layers[point.name]
    width = 0.8 / len(compared)
    bars = top.bar(
      [n + width * (i + 0.5) - 0.4 for n in range(len(own))],
      [row.cycles / 1e3 for row in own],
      width,
      color=picture.BLUE if point is best else picture.GREY,
      label=point.name,
    )
    picture.title(
      bars, [f"{point.name}, {r.layer}: {r.cycles:,} cycles" for r in own]
    )
  top.set_ylabel("1,000 cycles", fontsize=8.5)
  top.tick_params(labelsize=8)
  _draw(strips, names, rows)
  picture.legend(figure, top, 4)
  return picture.svg(
    figure,
    "Cycles of every layer, and below them the bits of its input and of its "
    "weights, for the recommended assignment and those around it.",
  )


def of_strips(names: Sequence[str], rows: Sequence[Strip], alt: str) -> str:
  """SVG of rows alone.

  Args:
    names: layers or tensors, in the order of the network.
    rows: rows from above.
    alt: what it shows, for those who do not see it.
  """
  figure = _figure(len(names), 0.24 * len(rows))
  _draw(figure.subplots(), names, rows)
  return picture.svg(figure, alt)


def chosen(results: Assignments) -> list[Point]:
  """The points that strips are shown of, the fastest first."""
  best, front = results.best, records.front(results.points)
  first = {best.point.name, best.reference.name, best.point.parent}
  known = [p for p in results.points if results.layers.get(p.name)]
  order = sorted(
    known,
    key=lambda p: (
      p.name not in first,
      p.name not in front,
      abs(p.cycles - best.point.cycles),
    ),
  )
  matters = first | front
  return records.by_cycles([p for p in order if p.name in matters][:_MOST])


def _strips(results: Assignments, point: Point) -> list[Strip]:
  rows = results.layers[point.name]
  star = "★ " * (point == results.best.point)
  return [
    Strip(f"{star}{point.name}: inputs", [row.in_bits for row in rows]),
    Strip("weights", [row.weight_bits for row in rows], gap=False),
  ]


def _figure(count: int, height: float):
  return picture.new(max(9.0, 2.4 + 0.32 * count), 1.5 + height)


def _draw(axes, names: Sequence[str], rows: Sequence[Strip]) -> None:
  """Cells with their bits, each of which tells itself to the mouse."""
  at, places = 0.0, []
  for row in rows:
    at -= 1.0 + 0.35 * row.gap
    places.append(at)
    cells = [(n, b) for n, b in enumerate(row.bits) if b is not None]
    bars = axes.bar(
      [n for n, _ in cells],
      0.94,
      0.94,
      at - 0.47,
      color=[_COLORS.get(b, _WIDE) for _, b in cells],
    )
    picture.title(
      bars, [f"{row.label}, {names[n]}: {bits} bits" for n, bits in cells]
    )
    for n, bits in cells:
      axes.text(
        n,
        at,
        str(bits),
        ha="center",
        va="center",
        fontsize=7.5,
        color=picture.DARK_LETTERS,
      )
  axes.set_yticks(places, [row.label for row in rows], fontsize=8)
  for label in axes.get_yticklabels():
    label.set_parse_math(False)
  axes.spines[:].set_visible(False)
  axes.tick_params(length=0)
  axes.set_ylim(at - 0.6, -0.7)
  picture.upright(axes, names)
