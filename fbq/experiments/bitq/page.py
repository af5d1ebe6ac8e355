"""The page of a BitQ run: which block format every tensor should have."""

import dataclasses
import math
import shlex
from pathlib import Path

from fbq.experiments.bitq import pictures, word_section
from fbq.experiments.bitq.results import BitQResults
from fbq.experiments.bitq.word_section import KIB, TEST, accuracy, note
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Column,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
from fbq.train.log import Log


def write(results: BitQResults, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  config = f"--config=configs/export.py:from={workdir},point=best"
  export = shlex.join(
    ["python", "main.py", config, f"--workdir={workdir}_export"]
  )
  page.write(
    workdir / "report.html",
    f"{results.network} in block floating point",
    "Which shared-exponent width SE and block size BS should every tensor "
    "have, so that little moves between memories and accuracy stays?",
    _blocks(results, run.settings),
    dataclasses.replace(
      run,
      assumptions=_assumptions(results, run.settings),
      next=(export, "The network recommended for the shortest word, packed:"),
    ),
  )


def tell(results: BitQResults, log: Log) -> None:
  """Prints a table of all networks without their formats, and the answers."""
  table = _networks(results)
  kept = [i for i, c in enumerate(table.columns) if c.kind != "soft"]
  short = dataclasses.replace(
    table,
    columns=[table.columns[i] for i in kept],
    rows=[[row[i] for i in kept] for row in table.rows],
  )
  title = "Block formats; ★ recommended by eq. 1"
  log.console.print(cells.printed(short, title))
  for sentence in _answers(results):
    log.say(sentence)


def _answers(results: BitQResults) -> list[str]:
  """What is recommended for each word length, beside FP32."""
  fp32, sentences = results.by_name["FP32"], []
  for word in results.words:
    best = results.by_name[word.recommended]
    errors = [n.percent_error(results.test_count) for n in (best, fp32)]
    apart = abs(best.percent - fp32.percent) > 2 * math.hypot(*errors)
    moved, energy = best.kib / fp32.kib, best.moves.joules / fp32.moves.joules
    sentences.append(
      f"{word.name}: {best.words} ({best.name}) moves {moved:.1%} of what FP32 "
      f"moves and takes {energy:.1%} of its energy, at {best.test:.2%} test "
      f"accuracy where FP32 has {fp32.test:.2%}, "
      f"{'more' if apart else 'less'} than two standard errors apart (alpha = "
      f"{results.alpha:g})."
    )
  return sentences


def _blocks(results: BitQResults, settings) -> list[Block]:
  _, below = pictures.split(results.networks)
  far = ", ".join(f"{n.name} {n.percent:.1f} %" for n in below)
  return [
    Answer(_answers(results)),
    Section(
      "Accuracy over DRAM traffic",
      [
        Picture(pictures.front(results), "front.svg"),
        note(
          "Bars: one binomial standard error. Lines: the whole front as "
          "predicted, FP32's accuracy minus the predicted loss, as near to "
          "exact as is said of each word below. Stars: recommended at alpha = "
          f"{results.alpha:g}, chosen by accuracy on images of the training "
          f"split.{f' Below the picture: {far}.' if far else ''}"
        ),
      ],
    ),
    Section(
      "Results",
      [
        _networks(results),
        note(
          "★ recommended. Every network starts from the same float network and "
          "sees the same batches for as many steps. X: bits of an element with "
          "its sign, SE: bits of a shared exponent, BS: elements of a block; "
          "all are priced by X + e / BS bits per element. Not trained: the "
          "float network's weights in these formats. Energy: eq. 8 with 20 pJ "
          "per DRAM bit and 0.16 pJ per SRAM bit, for "
          f"{settings['memory_bytes']} bytes of SRAM and "
          f"{settings['register_bytes']} bytes of registers."
        ),
      ],
    ),
    *(word_section.section(results, word) for word in results.words),
    Section(
      "The objective over alpha",
      [
        Picture(pictures.alphas(results)),
        note(
          f"Eq. 1 with accuracies measured on {settings['validation_images']} "
          "images of the training split, against FP32 trained as long, and "
          "counted as they are where they are above it. Grey: never the best."
        ),
      ],
    ),
    Section("How losses were predicted", _predictions(results, settings)),
    Section(f"Where tiling matters: {results.sweep.network}", _sweep(results)),
  ]


def _networks(results: BitQResults) -> Table:
  """All networks, the most data moved first."""
  fp32, best = results.by_name["FP32"], results.recommended.values()
  networks = sorted(results.networks, key=lambda n: -n.kib)
  return Table(
    [
      Column("mark", "sign"),
      Column("network"),
      Column("formats", "soft"),
      KIB,
      number("of\nFP32", "{:.3f}"),
      number("SRAM\nKiB", "{:,.1f}"),
      Column("energy, µJ", "bar", "{:.1f}"),
      TEST,
      number("not trained\n%", "{:.2f}"),
      Column("source", "soft"),
    ],
    [
      [
        "★" if n.name in best else "",
        *(n.name, n.words, n.kib, n.kib / fp32.kib),
        *(n.moves.sram_bits / 8192, 1e6 * n.moves.joules),
        accuracy(n, results),
        None if n.untrained_test is None else 100 * n.untrained_test,
        n.source,
      ]
      for n in networks
    ],
    ["best" if n.name in best else "" for n in networks],
  )


def _predictions(results: BitQResults, settings) -> list[Block]:
  """How losses became accuracies, and how well networks were predicted."""
  scales, mixed = results.scales, results.mixed
  return [
    Text(
      f"{results.losses.capitalize()}. {results.passes} passes over "
      f"{settings['calibration_images']} images in all."
    ),
    Text(
      "Training mends the noise of weights far better than that of "
      "activations, so each kind has a scale: one nat costs "
      f"{scales.weights:.2%} of accuracy for weights and "
      f"{scales.activations:.2%} for activations, measured on four networks in "
      "which one kind has one of the two coarsest uniform formats and all else "
      f"the finest ({scales.untrained:.2%} without training, on all uniform "
      "formats). Mixed networks had no part in it: for the "
      f"{mixed.networks} that were trained, predicted and measured loss of "
      f"accuracy have a rank correlation of {mixed.spearman:.2f}; half are "
      f"within {100 * mixed.error:.2f} points."
    ),
  ]


def _sweep(results: BitQResults) -> list[Block]:
  sweep = results.sweep
  columns, values = [number("SRAM\nKiB", "{:g}")], [list(sweep.kib)]
  for group, scale, rows in (
    ("DRAM traffic / every tensor once", 1, sweep.ratios),
    ("energy, mJ", 1e3, sweep.joules),
  ):
    columns += [number(name, "{:.2f}", group) for name in rows]
    values += [[scale * x for x in row] for row in rows.values()]
  return [
    Table(columns, list(zip(*values, strict=True))),
    note("Costed at full size, not trained."),
  ]


def _assumptions(results: BitQResults, settings) -> list[str]:
  """What the figures rest on."""
  return [
    f"The float network reads {results.float_accuracy:.2%} of the test images; "
    f"every network then sees the same {results.steps} steps more, FP32 too.",
    f"{results.about_test} Networks are chosen by "
    f"{settings['validation_images']} images of the training split, so test "
    "accuracies are not what was chosen by. One seed.",
    "Data movement is modelled exactly, not measured: layers one by one from "
    f"DRAM to DRAM, through {settings['memory_bytes']} bytes of SRAM. A memory "
    "this small makes tiling matter to so small a network, as 32 KiB do at "
    "full size.",
    "Accuracy losses add up over tensors in the search; trained networks, not "
    "predictions, decide what is recommended.",
  ]
