"""The page: which recipe of post-training quantization, and why not others."""

import dataclasses
import math
from pathlib import Path

from fbq.experiments.ptq.results import LayerNumbers, TriedRecipes
from fbq.experiments.ptq.tables import RecipeTable
from fbq.report import blocks, cells, page, picture
from fbq.report.run import Run
from fbq.train.log import Log

_NEXT = (
  "python main.py --config=configs/digits_qat.py --workdir=runs/qat",
  "Where this loses too much, training at these bits keeps more:",
)
_SQNR_BITS = 8  # that are drawn
_CASES = (
  ("unfolded", False, picture.SKY, "o", "one range, not folded"),
  ("folded", False, picture.VERMILION, "o", "one range, folded"),
  ("equalized", False, picture.AMBER, "o", "one range, equalized"),
  ("folded", True, picture.BLUE, "s", "range per channel, folded"),
)
_LEAST_KL = 1e-7  # nats; less is drawn there


def write(results: TriedRecipes, run: Run, workdir: Path) -> None:
  """Writes report.html and its pictures."""
  page.write(
    workdir / "report.html",
    f"{results.network}, quantized without training",
    "Which recipe of post-training quantization keeps the float network's "
    "accuracy, and why do others not?",
    _blocks(results),
    dataclasses.replace(run, assumptions=results.assumptions, next=_NEXT),
  )


def tell(results: TriedRecipes, log: Log) -> None:
  """Prints the tables, the answer and the findings."""
  for table in results.tables:
    log.console.print(cells.printed(_shown(table, results)))
  for text in (results.answer, *results.findings):
    log.say(text)


def _blocks(results: TriedRecipes) -> list[blocks.Block]:
  used, first = results.used, next(iter(results.networks.values()))
  timed = (first.seconds or {}).items()
  figures = [
    (f"{results.in_float} %", "in float"),
    (f"{used.accuracy} %", f"recommended, {used.recipe.widths}"),
    *((f"{s:.2f} s", f"from float to grids, {name}") for name, s in timed),
  ]
  parts: list[blocks.Block] = [
    blocks.Answer([results.answer]),
    blocks.Figures(figures),
    blocks.Bullets(results.findings),
    blocks.Section(
      "The best recipe for each pair of bit-widths", _best(results)
    ),
  ]
  for table in results.tables:
    note = f"{table.note} Test accuracy, %; float {results.in_float}."
    shown = [_shown(table, results), blocks.note(note)]
    parts.append(blocks.Section(table.title, shown))
  if first.layers:
    parts += _layers(first.layers)
  return parts


def _best(results: TriedRecipes) -> list[blocks.Block]:
  return [
    blocks.Table.of(
      results.best,
      (blocks.Column("bits"), lambda one: one.recipe.widths),
      (
        blocks.Column("recipe", "long"),
        lambda one: one.recipe.name.partition(", ")[2],
      ),
      (blocks.percents("test accuracy\n%"), lambda one: one.accuracy.cell),
      (blocks.percents("lost\npoints"), lambda one: one.loss.cell),
      (blocks.number("KL divergence\nnats", "{:.2e}"), lambda one: one.kl),
      (blocks.percents("same class\n%"), lambda one: 100 * one.agreement),
      marks=lambda one: "best" if one is results.used else "",
      label="best recipes",
    ),
    blocks.note(
      "The rule: for each pair the recipe whose class probabilities have the "
      "least KL divergence from the float network's on validation images, "
      "which are neither test images nor those of calibration; no labels are "
      "needed. Recommended is the pair of fewest weight bits times activation "
      "bits (of equals, fewest weight bits) that gives the float network's "
      f"class for {1 - results.tolerance:.1%} of them. W: bits of weights, A: "
      "bits of activations; ± is the standard error over seeds."
    ),
  ]


def _shown(table: RecipeTable, results: TriedRecipes) -> blocks.Table:
  means = results.means
  return blocks.Table(
    [blocks.Column("recipe"), *map(blocks.percents, table.columns)],
    [
      [label, *(c and means[c].accuracy.cell for c in row)]
      for label, row in table.rows
    ],
    label=f"{table.title} (test accuracy, %)",
  )


def _layers(layers: LayerNumbers) -> list[blocks.Block]:
  return [
    blocks.Section(
      "What the weights of each layer keep",
      [
        blocks.Picture(_ratios(layers), "weights.svg"),
        blocks.note(
          f"Signal to quantization noise ratio of {_SQNR_BITS}-bit affine "
          "weights, 10 log10(Σw² / Σ(w − Q(w))²), ranges by min/max, of the "
          "first seed's network (the whitepaper's appendix A). A bit is worth "
          "6 dB. Folding multiplies every channel by a factor of its own, "
          "which one range for all cannot follow. The ratio is that of the "
          "widest channels: it hardly falls while small ones are lost."
        ),
      ],
    ),
    blocks.Section(
      "Which layers mind",
      [
        blocks.Picture(_sensitivities(layers), "layers.svg"),
        blocks.note(
          "KL divergence of the class probabilities from the float network's "
          "with one tensor alone at 4 bits, the others in float; weights per "
          "channel with least-squares ranges, activations by min/max. First "
          "seed's network. Tensors that matter most are the first to give "
          "more bits to."
        ),
      ],
    ),
  ]


def _ratios(layers: LayerNumbers) -> str:
  """SVG: decibels that the weights of each layer keep."""
  names = list(dict.fromkeys(row.layer for row in layers.sqnr["folded"]))
  figure = picture.new(max(8.6, 0.3 * len(names)), 3.6)
  axes = figure.subplots()
  picture.bare(axes)
  for case, per_channel, color, marker, label in _CASES:
    found = {
      names.index(row.layer): row.decibels
      for row in layers.sqnr[case]
      if (row.bits, row.per_channel) == (_SQNR_BITS, per_channel)
      and math.isfinite(row.decibels)
    }
    (line,) = axes.plot(
      *(list(found), list(found.values())),
      marker=marker,
      markersize=4,
      linewidth=1.2,
      color=color,
      label=label,
    )
    titles = [f"{names[i]}: {found[i]:.1f} dB, {label}" for i in found]
    picture.title(line, titles)
  picture.upright(axes, names)
  axes.set_ylabel(f"SQNR of weights, {_SQNR_BITS} bits (dB)")
  picture.legend(figure, axes, 2)
  return picture.svg(
    figure, "Signal to quantization noise of each layer's weights."
  )


def _sensitivities(layers: LayerNumbers) -> str:
  """SVG: how far each tensor alone at few bits moves the outputs."""
  sites = (*layers.weights, *layers.activations)
  names = list(dict.fromkeys(site.rsplit(".", 1)[0] for site in sites))
  figure = picture.new(max(8.6, 0.3 * len(names)), 3.4)
  axes = figure.subplots()
  picture.bare(axes)
  for found, kind, color, shift in (
    (layers.weights, "weights", picture.BLUE, -0.2),
    (layers.activations, "activations", picture.AMBER, 0.2),
  ):
    bars = axes.bar(
      [names.index(site.rsplit(".", 1)[0]) + shift for site in found],
      [max(value, _LEAST_KL) for value in found.values()],
      0.38,
      color=color,
      label=kind,
    )
    for bar, (site, value) in zip(bars, found.items(), strict=True):
      picture.title(bar, f"{site}: {value:.2e} nats")
  axes.set_yscale("log")
  picture.upright(axes, names)
  axes.set_ylabel("KL divergence (nats)")
  picture.legend(figure, axes, 2)
  return picture.svg(
    figure, "Divergence with one tensor alone at four bits, for each layer."
  )
