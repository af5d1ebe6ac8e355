"""The page: which recipe of post-training quantization, and why not others."""

import dataclasses
from pathlib import Path

from fbq.experiments.ptq.results import LayerNumbers, TriedRecipes
from fbq.experiments.ptq.tables import RecipeTable
from fbq.report import blocks, cells, page
from fbq.report.run import Run
from fbq.train.log import Log

_NEXT = (
  "python main.py --config=configs/digits_qat.py --workdir=runs/qat",
  "Where this loses too much, training at these bits keeps more:",
)


def write(results: TriedRecipes, run: Run, workdir: Path) -> None:
  """Writes report.html."""
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
  first = next(iter(results.networks.values()))
  parts: list[blocks.Block] = [
    blocks.Answer([results.answer]),
    blocks.Bullets(results.findings),
    blocks.Section("The best recipe for each pair of widths", _best(results)),
  ]
  for table in results.tables:
    note = f"{table.note} Test accuracy, %; float {results.in_float}."
    shown = [_shown(table, results), blocks.note(note)]
    parts.append(blocks.Section(table.title, shown))
  if first.layers:
    title = "What each layer minds"
    parts.append(blocks.Section(title, _layers(first.layers)))
  return parts


def _best(results: TriedRecipes) -> list[blocks.Block]:
  return [
    blocks.Table.of(
      results.best,
      ("bits", lambda one: one.recipe.widths),
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
      "For each pair the recipe whose class probabilities have the least KL "
      "divergence from the float network's on training images. Recommended "
      "is the pair of fewest weight bits times activation bits that gives the "
      f"float network's class for {1 - results.tolerance:.1%} of them. W: bits "
      "of weights, A: bits of activations; ± is the standard error over seeds."
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
  def alone(kind: str) -> blocks.Column:
    return blocks.Column(kind, "bar", "{:.1e}", "KL, alone at 4 bits")

  sites = (*layers.weights, *layers.activations)
  return [
    blocks.Table.of(
      dict.fromkeys(site.rsplit(".", 1)[0] for site in sites),
      ("layer", lambda layer: layer),
      (alone("weights"), lambda layer: layers.weights.get(f"{layer}.weight")),
      (alone("outputs"), lambda layer: layers.activations.get(f"{layer}.out")),
      *(
        (blocks.number(case, "{:.1f}", "SQNR of weights, dB"), found.get)
        for case, found in layers.sqnr.items()
      ),
      label="layers of the first network",
    ),
    blocks.note(
      "KL divergence, in nats, of the class probabilities from the float "
      "network's with one tensor alone at 4 bits: the largest are the first "
      "to give more bits to. SQNR: 10 log10(Σw² / Σ(w − Q(w))²) of 8-bit "
      "affine weights by min/max; a bit is worth 6 dB. It is that of the "
      "widest channels and hardly falls while small ones are lost."
    ),
  ]
