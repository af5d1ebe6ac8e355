"""The picture of a BitQ run: accuracy over data movement."""

import itertools
from collections.abc import Sequence

from fbq.experiments.bitq.block_network import MOVEMENT, Weighed
from fbq.experiments.bitq.results import SeedStudy
from fbq.report import labels, picture

_FAMILIES = {
  "BitQ": picture.BLUE,
  "uniform": picture.GREY,
  "published": picture.VERMILION,
  "ablation": picture.AMBER,
}
_COLORS = picture.BLUE, picture.GREEN, picture.PURPLE, picture.SKY
SHOWN = 6  # points of accuracy below the best


def front(
  study: SeedStudy, metric: str = "accuracy", cost: Weighed = MOVEMENT
) -> tuple[str, str]:
  """(SVG of the test metric over the cost, with predicted fronts; a note).

  Networks far below the best one are in the table only, which the note says.
  """
  trained = [n for n in study.networks if n.test is not None]
  least = max(n.percent for n in trained) - SHOWN
  near = [n for n in trained if n.percent >= least]
  fp32 = study.by_name["FP32"].percent
  x_of = lambda n: n.weighed / cost.per_unit
  figure = picture.new(10.5, 6)
  axes = figure.subplots()
  picture.bare(axes, "both")

  # Fronts first: they may leave the picture, whose limits are the networks'
  for color, word in zip(itertools.cycle(_COLORS), study.words, strict=False):
    said = f"{word.name}: whole front, predicted"
    (line,) = axes.plot(
      [units / cost.per_unit for units, _ in word.front],
      [fp32 - 100 * lost for _, lost in word.front],
      color=color,
      linewidth=1.2,
      label=said,
    )
    picture.title(line, said)

  # Networks by family, the recommended ones once more as stars
  chosen = [n for n in near if n.name in study.recommended.values()]
  groups = [
    (family, [n for n in near if n.family == family], color, "o", 5, 2)
    for family, color in _FAMILIES.items()
  ]
  groups.append(("recommended", chosen, picture.BLUE, "*", 15, 4))
  for label, group, color, marker, size, layer in groups:
    if not group:
      continue
    errors = [100 * (n.test_error or 0) for n in group]
    marks, *_ = axes.errorbar(
      [x_of(n) for n in group],
      [n.percent for n in group],
      errors,
      fmt=marker,
      color=color,
      markersize=size,
      markeredgecolor=picture.INK if group is chosen else color,
      elinewidth=0.8,
      label=label,
      zorder=layer,
    )
    picture.title(
      marks,
      [
        f"{n.name}: {x_of(n):,.1f} {cost.unit}, {n.percent:.2f} ± {error:.2f} "
        f"%; {n.words}"
        for n, error in zip(group, errors, strict=True)
      ],
    )

  # Limits
  xs, ys = [x_of(n) for n in near], [n.percent for n in near]
  most = max(100 * (n.test_error or 0) for n in near)
  margin = 0.1 * (max(ys) - min(ys)) + most + 0.2
  # No accuracy is above 100 %, whatever its error
  axes.set_ylim(min(ys) - margin, min(max(ys) + margin, 100.5))
  axes.set_xscale("log")
  axes.set_xlim(min(xs) / 1.2, max(xs) * 1.3)
  axes.xaxis.set_major_formatter("{x:g}")
  axes.xaxis.set_minor_formatter(
    lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else ""
  )
  axes.set_xlabel(cost.axis)
  axes.set_ylabel(f"test {metric} (%)")
  picture.legend(figure, axes, 4, "lower center")

  # Names last, as they need to know where everything else is
  others = [n for n in near if n.family == "published" and n not in chosen]
  named = [
    labels.Label(n.name, x_of(n), n.percent, _FAMILIES[n.family], n in chosen)
    for n in (*chosen, *others)
  ]
  unnamed = labels.place(axes, named, list(zip(xs, ys, strict=True)))
  svg = picture.svg(
    figure,
    f"Test {metric} over {_said(cost)} of every trained network; the table "
    "has the same numbers.",
  )
  far = [n.name for n in trained if n not in near]
  return svg, _note(far, unnamed)


def _said(cost: Weighed) -> str:
  return "DRAM traffic" if cost == MOVEMENT else cost.name


def _note(far: Sequence[str], unnamed: Sequence[str]) -> str:
  """What is not to be seen in the picture."""
  text = "Every network tells its name and numbers to the mouse."
  if far:
    text += (
      f" More than {SHOWN} points less accurate than the best, and in the "
      f"table only: {', '.join(far)}."
    )
  if unnamed:
    text += f" There was no room for the names of {', '.join(unnamed)}."
  return text
