"""The page of a BitQ run: which block format every tensor should have."""

import dataclasses
import math
import shlex
from pathlib import Path

from fbq.experiments.bitq import pictures, word_section
from fbq.experiments.bitq.results import BitQResults
from fbq.experiments.bitq.word_section import KIB, TEST, accuracy
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Column,
  Picture,
  Section,
  Table,
  Text,
  note,
  number,
  percents,
)
from fbq.report.run import Run
from fbq.train.log import Log

# Table 3 of arXiv 2409.17093, top-1 on ImageNet in percent, by what builds the
# network: of our network or word that stands for a column. Which modes it ran,
# the paper does not say; its MobileNet is ECA-MobileNetV2, its ConvNeXt L.
_COLUMNS = (
  *("FP32", "DBPS", "FlexBlock FB16", "BitQ16", "FAST high", "BSFP", "BitQ8"),
)
_TABLE_3 = {
  "googlenet": (67.79, 66.71, 66.58, 67.49, 66.31, 66.54, 66.58),
  "resnet18": (69.70, 68.42, 68.29, 69.83, 68.52, 69.67, 69.71),
  "mobilenet_v2": (72.56, 68.93, 70.25, 70.85, 70.15, 69.63, 69.85),
  "convnext": (85.82, 83.85, 83.87, 84.31, 83.82, 84.18, 84.26),
}


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
  log.console.print(cells.printed(_networks(results)))
  for sentence in _answers(results):
    log.say(sentence)


def _answers(results: BitQResults) -> list[str]:
  """What is recommended for each word length, beside FP32."""
  fp32, sentences = results.by_name["FP32"], []
  for word in results.words:
    best = results.by_name[word.recommended]
    errors = [n.percent_error(results.test_count) for n in (best, fp32)]
    apart = abs(best.percent - fp32.percent) > 2 * math.hypot(*errors)
    moved = best.moves.dram_bits / fp32.moves.dram_bits
    energy = best.moves.joules / fp32.moves.joules
    sentences.append(
      f"{word.name}: {best.words} ({best.name}) moves {moved:.1%} of what FP32 "
      f"moves and takes {energy:.1%} of its energy, at {best.test:.2%} test "
      f"accuracy where FP32 has {fp32.test:.2%}, "
      f"{'more' if apart else 'less'} than two standard errors apart (alpha = "
      f"{results.alpha:g})."
    )
  return sentences


def _blocks(results: BitQResults, settings) -> list[Block]:
  _, below = pictures.split(results)
  far = ", ".join(f"{n.name} {n.percent:.1f} %" for n in below)
  scales, (mixed, spearman, error) = results.scales, results.mixed
  return [
    Answer(_answers(results)),
    Section(
      "Accuracy over DRAM traffic",
      [
        Picture(pictures.front(results), "front.svg"),
        note(
          "Bars: one binomial standard error. Lines: the whole front as "
          "predicted. Stars: recommended, chosen by accuracy on images of the "
          f"training split.{f' Below the picture: {far}.' if far else ''}"
        ),
      ],
    ),
    Section(
      "Results",
      [
        _networks(results, settings["net"]["builder"]),
        note(
          "X: bits of an element with its sign, SE: bits of a shared exponent, "
          "BS: elements of a block; all are priced by X + e / BS bits per "
          "element. Not trained: the float network's weights in these formats. "
          "Energy: eq. 8 with 20 pJ per DRAM bit and 0.16 pJ per SRAM bit, for "
          f"{settings['memory_bytes']} bytes of SRAM and "
          f"{settings['register_bytes']} bytes of registers."
        ),
      ],
    ),
    *(word_section.section(results, word) for word in results.words),
    Section(
      "How losses were predicted",
      [
        Text(
          f"{results.losses.capitalize()}. {results.passes} passes over "
          f"{settings['calibration_images']} images in all."
        ),
        Text(
          "One nat costs "
          f"{scales['weights']:.2%} of accuracy for weights and "
          f"{scales['activations']:.2%} for activations, whose noise training "
          "mends less, measured on networks in which one kind has a coarse "
          f"format and all else the finest ({scales['untrained']:.2%} without "
          "training, on all uniform formats). Mixed networks had no part in "
          f"it: for the {mixed} that were trained, predicted and measured loss "
          f"of accuracy have a rank correlation of {spearman:.2f}; half are "
          f"within {100 * error:.2f} points."
        ),
      ],
    ),
  ]


def _networks(results: BitQResults, builder: str = "") -> Table:
  """All networks, the most data moved first, beside what the paper has."""
  published = dict(zip(_COLUMNS, _TABLE_3.get(builder, ()), strict=False))
  published |= {n: published.get(w) for w, n in results.recommended.items()}
  beside = percents("table 3,\nImageNet %"), lambda n: published.get(n.name)
  fp32, best = results.by_name["FP32"], results.recommended.values()
  return Table.of(
    sorted(results.networks, key=lambda n: -n.moves.kib),
    (Column("mark", "sign"), lambda n: "★" if n.name in best else ""),
    ("network", lambda n: n.name),
    (Column("formats", "soft"), lambda n: n.words),
    (KIB, lambda n: n.moves.kib),
    (number("of\nFP32", "{:.3f}"), lambda n: n.moves.kib / fp32.moves.kib),
    (number("SRAM\nKiB", "{:,.1f}"), lambda n: n.moves.sram_bits / 8192),
    (Column("energy, µJ", "bar", "{:.1f}"), lambda n: 1e6 * n.moves.joules),
    (TEST, lambda n: accuracy(n.test, results)),
    (percents("not trained\n%"), lambda n: accuracy(n.untrained_test, results)),
    *([beside] if builder in _TABLE_3 else []),
    (Column("source", "soft"), lambda n: n.source),
    marks=lambda n: "best" if n.name in best else "",
    label="Block formats; ★ recommended by eq. 1",
  )


def _assumptions(results: BitQResults, settings) -> list[str]:
  """What the figures rest on."""
  return [
    f"The float network reads {results.float_accuracy:.2%} of the test images; "
    f"every network then sees the same {results.steps} steps more, FP32 too.",
    f"{results.about_test} Networks are chosen by "
    f"{settings['validation_images']} images of the training split, so test "
    "accuracies are not what was chosen by. One seed.",
    "Data movement is modelled exactly, not measured: layers one by one from "
    "DRAM to DRAM. A memory this small makes tiling matter to so small a "
    "network, as 32 KiB do at full size.",
    "Accuracy losses add up over tensors in the search; trained networks, not "
    "predictions, decide what is recommended.",
  ]
