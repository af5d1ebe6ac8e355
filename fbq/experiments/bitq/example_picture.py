"""Figure 4 of the paper: images beside what networks tell of them."""

import numpy as np

from fbq.dense.class_overlap import IGNORED
from fbq.experiments.bitq.examples import Example, Told
from fbq.report import picture

# A colour for each of ten kinds; more begin again
_COLOURS = (
  *(picture.VERMILION, picture.SKY, picture.GREEN, picture.AMBER),
  *(picture.PURPLE, picture.BLUE, "#f0e442", "#b15928", "#66a61e", "#e7298a"),
)


def drawn(shown: tuple[Example, ...], names: dict[str, str]) -> str:
  """SVG: a row for each image, a column for the truth and for each network.

  Args:
    shown: images with what networks tell.
    names: heading of a column -> name of its network.
  """
  columns = {"what is there": None, **names}
  height, width = len(shown), len(columns)
  figure = picture.new(2.1 * width, 2.2 * height + 0.2)
  grid = figure.subplots(height, width, squeeze=False)
  for i, example in enumerate(shown):
    row = grid[i]
    for axes, (heading, network) in zip(row, columns.items(), strict=True):
      told = example.networks[network] if network else example.truth
      _draw(axes, example.image.array, told)
      if i == 0:
        picture.heading(axes, heading)
  return picture.svg(
    figure,
    "Test images beside what the networks tell of them: boxes with classes, or "
    "a colour for the class of every pixel.",
  )


def _draw(axes, image: np.ndarray, told: Told) -> None:
  """An image with what is told of it."""
  axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
  axes.set_xticks([])
  axes.set_yticks([])
  axes.spines[:].set_visible(False)
  if told.classes is not None:
    axes.imshow(_tinted(told.classes.array), interpolation="nearest")
  if told.masks is not None:
    kinds = np.array([0, *(box.kind + 1 for box in told.boxes)])
    axes.imshow(_tinted(kinds[told.masks.array]), interpolation="nearest")
  for box in told.boxes:
    colour = _colour(box.kind)
    left, top, right, bottom = (edge - 0.5 for edge in box.edges)
    (line,) = axes.plot(
      [left, right, right, left, left],
      [top, top, bottom, bottom, top],
      color=colour,
      linewidth=1.2,
      clip_on=False,
    )
    picture.title(line, f"class {box.kind}, score {box.score:g}")
    axes.text(
      left,
      top,
      f"{box.kind}",
      color=picture.DARK_LETTERS,
      fontsize=7,
      va="center",
      bbox=dict(facecolor=colour, linewidth=0, pad=0.8),
    )
  axes.set_xlim(-0.5, image.shape[1] - 0.5)
  axes.set_ylim(image.shape[0] - 0.5, -0.5)


def _colour(kind: int) -> str:
  return _COLOURS[kind % len(_COLOURS)]


def _tinted(classes: np.ndarray) -> np.ndarray:
  """RGBA of a class map, clear where it is 0 or counts for nothing."""
  from matplotlib.colors import to_rgba

  table = [(0, 0, 0, 0), *(to_rgba(c, 0.65) for c in _COLOURS)]
  counted = (classes > 0) & (classes != IGNORED)
  shown = np.where(counted, (classes.astype(int) - 1) % len(_COLOURS), -1)
  return np.array(table)[shown + 1]
