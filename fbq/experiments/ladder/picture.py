"""The picture: what methods keep at every size of the weights."""

from fbq.experiments.ladder.methods import TITLES
from fbq.experiments.ladder.results import Point, Rungs, shown, told
from fbq.report import picture

_COLOURS = (picture.SKY, picture.AMBER, picture.GREEN)
_MARKS = ("o", "s", "D")


def ladder(results: Rungs) -> str:
  """SVG: accuracy, or agreement, over the bytes of all weights."""
  figure = picture.new(7.2, 3.9)
  axes = figure.subplots()
  for method, colour, mark in zip(
    results.methods, _COLOURS, _MARKS, strict=False
  ):
    points = sorted(
      (p for p in results.points if p.method == method and not p.budget),
      key=lambda p: p.weight_bytes,
    )
    (line,) = axes.plot(
      *_places(points),
      color=colour,
      marker=mark,
      markersize=5,
      label=TITLES[method],
    )
    picture.title(line, [_said(p) for p in points])

  # The first of others has the sizes of our uniform networks of these bits
  for row in results.published[:1] if results.has_labels else ():
    at = [b for b in sorted(results.weight_bits) if str(b) in row.accuracy]
    uniform = [results.point(results.methods[0], b) for b in at]
    axes.plot(
      [p.weight_bytes / 1e3 for p in uniform],
      [row.accuracy[str(b)] for b in at],
      color=picture.SOFT,
      linestyle="--",
      linewidth=1,
      label=row.name,
    )
  if results.chosen:
    (line,) = axes.plot(
      *_places(results.chosen),
      color=picture.VERMILION,
      marker="*",
      markersize=11,
      linestyle="none",
      label="bits chosen by tensor",
    )
    picture.title(line, [_said(p) for p in results.chosen])
  axes.axhline(
    100 * told(results.in_float),
    color=picture.INK,
    linewidth=0.8,
    label="float",
  )
  kind = "right" if results.has_labels else "the float network's class"
  axes.set_ylabel(f"{kind}, %")
  axes.set_xlabel("weights, kB")
  picture.bare(axes)
  picture.legend(figure, axes, 2)
  return picture.svg(
    figure, f"Share of inputs that are {kind} over the size of the weights"
  )


def _places(points) -> tuple[list[float], list[float]]:
  return (
    [p.weight_bytes / 1e3 for p in points],
    [100 * told(p.numbers) for p in points],
  )


def _said(point: Point) -> str:
  return (
    f"{shown(point)}: {point.weight_bytes / 1e3:.1f} kB, "
    f"{told(point.numbers):.1%}, KL {point.numbers.kl:.3g}"
  )
