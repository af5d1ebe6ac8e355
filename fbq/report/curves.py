"""How training and searches went: curves of metrics.jsonl."""

import collections
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fbq.report import picture
from fbq.report.blocks import Block, Details, Picture, Section, note
from fbq.report.sentences import counted

_MOST = 400  # steps of a curve that are drawn; more are thinned
_COLORS = (
  *(picture.BLUE, picture.VERMILION, picture.GREEN),
  *(picture.PURPLE, picture.AMBER, picture.SKY),
)


class Curve(NamedTuple):
  """What one training logged.

  Attributes:
    stage: its name.
    steps: steps after which there are numbers, rising.
    values: {name of a metric: a number for each of the steps}.
  """

  stage: str
  steps: tuple[int, ...]
  values: dict[str, tuple[float, ...]]


def read(path: Path) -> list[Curve]:
  """Every training of a metrics.jsonl, in the order in which they began.

  A file that is missing gives none, and a line that is cut off is left out.
  """
  if not path.is_file():
    return []
  lines = collections.defaultdict(dict)
  for line in path.read_text().splitlines():
    try:
      entry = json.loads(line)
      lines[entry.pop("stage")][entry.pop("step")] = entry
    except (ValueError, KeyError, AttributeError):
      continue
  found = []
  for stage, by_step in lines.items():
    steps = sorted(by_step)
    thin = steps[:: max(1, len(steps) // _MOST)]
    names = [
      name
      for name, value in by_step[steps[0]].items()
      if isinstance(value, int | float)
    ]
    found.append(
      Curve(
        stage,
        tuple(thin),
        {
          name: tuple(float(by_step[n].get(name, "nan")) for n in thin)
          for name in names
        },
      )
    )
  return found


def section(path: Path) -> list[Block]:
  """How it went, to be opened by a click; nothing where nothing was trained."""
  curves = [curve for curve in read(path) if len(curve.steps) > 1]
  if not curves:
    return []
  blocks: list[Block] = [
    Picture(_losses(curves), "losses.svg"),
    note(
      "Of single batches as logged, by kind of training. Cross-entropy is that "
      "with the labels; the loss is drawn too where it has more, a penalty or "
      "a teacher. Each curve tells its name to the mouse; metrics.jsonl has "
      "all of the numbers."
    ),
  ]
  searches = [curve for curve in curves if "decided" in curve.values]
  if searches:
    blocks += [
      Picture(_gates(searches), "gates.svg"),
      note(
        "Expected bits: mean over tensors of free bits, under the "
        "probabilities of their gates. Decided: share of the gates' groups in "
        "which one precision has a probability of 0.9; a search that ends far "
        "below 100 % was cut off by its number of steps."
      ),
    ]
  return [
    Section(
      "How training and searches went",
      [Details(f"curves of {counted(len(curves), 'training')}", blocks)],
    )
  ]


def kind_of(stage: str) -> str:
  """The first word of a stage, without its seed: "search" of "seed1-search"."""
  kind = re.sub(r"^seed\d+-", "", stage).partition("-")[0]
  return "fine-tuning" if kind == "fine" else kind


def _losses(curves: Sequence[Curve]) -> str:
  drawn = collections.defaultdict(list)
  for curve in curves:
    kind, values = kind_of(curve.stage), curve.values
    entropy, loss = values.get("cross_entropy"), values.get("loss")
    if entropy is not None:
      drawn[kind, "cross_entropy"].append(curve)
    if loss is not None and loss != entropy:
      drawn[kind, "loss"].append(curve)
  columns = max(1, min(3, len(drawn)))
  rows = max(1, -(-len(drawn) // columns))
  figure = picture.new(max(4.0 * columns, 6.0), 2.6 * rows)
  panels = list(figure.subplots(rows, columns, squeeze=False).flat)
  for axes, ((kind, name), group) in zip(panels, drawn.items(), strict=False):
    _lines(axes, group, name)
    picture.heading(axes, f"{kind}: {name.replace('_', '-')}")
  for axes in panels[len(drawn) :]:
    axes.set_axis_off()
  figure.supxlabel("step", fontsize=9)
  return picture.svg(figure, "Loss over steps, one panel per kind of training.")


def _gates(searches: Sequence[Curve]) -> str:
  """Expected bits of both kinds of tensors, and what is decided."""
  figure = picture.new(12, 2.7)
  panels = figure.subplots(1, 4)
  for axes, (name, heading, scale) in zip(
    panels,
    (
      ("weight_bits", "weights: expected bits", 1),
      ("activation_bits", "activations: expected bits", 1),
      ("open_8", "groups more likely at 8 bits, %", 100),
      ("decided", "groups decided, %", 100),
    ),
    strict=True,
  ):
    _lines(axes, [c for c in searches if name in c.values], name, scale)
    picture.heading(axes, heading)
  for axes in panels[2:]:
    axes.set_ylim(-3, 103)
  figure.supxlabel("step of the search", fontsize=9)
  return picture.svg(
    figure,
    "Expected bits of weights and activations, and the share of decided gates, "
    "over the steps of every search.",
  )


def _lines(axes, curves: Sequence[Curve], name: str, scale: float = 1) -> None:
  """A line for each training, which tells its name and where it ends."""
  picture.bare(axes, "both")
  for i, curve in enumerate(curves):
    values = [scale * value for value in curve.values[name]]
    (line,) = axes.plot(
      curve.steps,
      values,
      color=_COLORS[i % len(_COLORS)],
      linewidth=1.1 if len(curves) < 8 else 0.8,
      alpha=0.85,
    )
    picture.title(line, f"{curve.stage}: {values[-1]:.3g} at the end")
  axes.tick_params(labelsize=8)
