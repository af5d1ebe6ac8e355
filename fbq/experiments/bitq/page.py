"""The page of a BitQ run: which block format every tensor should have."""

import dataclasses
import math
from pathlib import Path

from fbq.experiments.bitq import paper, pictures
from fbq.experiments.bitq.results import (
  BitQResults,
  BlockNetwork,
  WordResults,
  best_of,
  objective,
)
from fbq.report import cells, page
from fbq.report.blocks import (
  Answer,
  Block,
  Bullets,
  Cell,
  Column,
  Picture,
  Section,
  Table,
  Text,
  number,
)
from fbq.report.run import Run
from fbq.train.log import Log

_KIB = number("DRAM\nKiB", "{:,.1f}")
_MICROJOULES = number("energy\nµJ", "{:.1f}")
_TEST = number("test accuracy\n%", "{:.2f}")
_TENSORS = ("input", "weights", "output")


def write(results: BitQResults, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  export = (
    f"python main.py --config=configs/export.py:from={workdir},point=best "
    f"--workdir={workdir}_export"
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
  """Prints the table of all networks and the answers."""
  title = "Block formats; ★ recommended by eq. 1"
  log.console.print(cells.printed(_networks(results), title))
  for sentence in _answers(results):
    log.say(sentence)


def _answers(results: BitQResults) -> list[str]:
  """What is recommended for each word length, beside FP32."""
  fp32, sentences = results.by_name["FP32"], []
  for word in results.words:
    best = results.by_name[word.recommended]
    errors = [n.percent_error(results.test_count) for n in (best, fp32)]
    apart = abs(best.percent - fp32.percent) > 2 * math.hypot(*errors)
    sentences.append(
      f"{word.name}: {best.words} ({best.name}) moves "
      f"{best.moves.dram_bits / fp32.moves.dram_bits:.1%} of what FP32 moves and takes "
      f"{best.moves.joules / fp32.moves.joules:.1%} of its energy, at {best.percent:.2f} % "
      f"test accuracy where FP32 has {fp32.percent:.2f} %, "
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
        _note(
          "Bars: one binomial standard error. Lines: the whole front as "
          "predicted, FP32's accuracy minus the predicted loss; each word below "
          "says how near to exact it is. Stars: recommended at alpha = "
          f"{results.alpha:g}, chosen by accuracy on images of the training "
          f"split.{f' Below the picture: {far}.' if far else ''}"
        ),
      ],
    ),
    Section(
      "Results",
      [
        _networks(results),
        _note(
          "★ recommended. Every network starts from the same float network and "
          "sees the same batches for as many steps. X: bits of an element with "
          "its sign, SE: bits of a shared exponent, BS: elements of a block; "
          "all are priced by X + e / BS bits per element. Not trained: the "
          "float network's weights in these formats. Energy: eq. 8 with 20 pJ "
          "per DRAM bit and 0.16 pJ per SRAM bit, for "
          f"{settings['memory_bytes']} bytes of SRAM and "
          f"{settings['register_bytes']} bytes of registers. "
          + _savings(results)
        ),
      ],
    ),
    *(_word(results, word) for word in results.words),
    Section(
      "The objective over alpha",
      [
        Picture(pictures.alphas(results)),
        _note(
          f"Eq. 1 with accuracies measured on {settings['validation_images']} "
          "images of the training split, against FP32 trained as long, and "
          "counted as they are where they are above it. Grey: never the best."
        ),
      ],
    ),
    Section("How losses were predicted", _predictions(results, settings)),
    Section(f"Where tiling matters: {results.sweep.network}", _sweep(results)),
    Section(
      "Where the paper contradicts itself", [Bullets(paper.CONTRADICTIONS)]
    ),
  ]


def _note(text: str) -> Text:
  return Text(text, note=True)


def _accuracy(network: BlockNetwork, results: BitQResults) -> Cell:
  if network.test is None:
    return Cell(None)
  return Cell(network.percent, error=network.percent_error(results.test_count))


def _networks(results: BitQResults) -> Table:
  """All networks, the most data moved first."""
  fp32, best = results.by_name["FP32"], results.recommended.values()
  networks = sorted(results.networks, key=lambda n: -n.kib)
  return Table(
    [
      Column("", "sign"),
      Column("network"),
      Column("formats", "soft"),
      _KIB,
      number("of\nFP32", "{:.3f}"),
      number("SRAM\nKiB", "{:,.1f}"),
      Column("energy, µJ", "bar", "{:.1f}"),
      _TEST,
      number("not trained\n%", "{:.2f}"),
      Column("source", "soft"),
    ],
    [
      [
        "★" if n.name in best else "",
        *(n.name, n.words, n.kib, n.kib / fp32.kib),
        *(
          n.moves.sram_bits / 8192,
          1e6 * n.moves.joules,
          _accuracy(n, results),
        ),
        None if n.untrained_test is None else 100 * n.untrained_test,
        n.source,
      ]
      for n in networks
    ],
    ["best" if n.name in best else "" for n in networks],
  )


def _savings(results: BitQResults) -> str:
  """Energy saved, beside the paper's figure 5."""
  fp32, saved = results.by_name["FP32"], []
  for word in results.words:
    ours = (
      1 - results.by_name[word.recommended].moves.joules / fp32.moves.joules
    )
    published = paper.FIGURE_5.get(word.bits)
    said = f" (figure 5, read as savings: {published:.0%})" if published else ""
    saved.append(f"{word.name} {ours:.0%}{said}")
  return f"Saved against FP32: {', '.join(saved)}."


def _word(results: BitQResults, word: WordResults) -> Section:
  """What was chosen for a word length, at which alpha, and without what."""
  best = results.by_name[word.recommended]
  different = len({optimum.network for optimum in word.optima})
  layers = Table(
    [
      Column("layer"),
      *(Column(name, "bits") for name in _TENSORS),
      *(number(f"{name}\nKiB", "{:,.1f}") for name in _TENSORS),
      Column("DRAM traffic, KiB", "bar", "{:,.1f}"),
      number("SRAM\nKiB", "{:,.1f}"),
      number("energy\nµJ", "{:.2f}"),
      Column("tile n, k, c, h, w, r, s", "soft"),
    ],
    [
      [
        layer.name,
        *map(_format, layer.formats),
        *(bits / 8192 for bits in layer.moves.tensor_bits),
        *(layer.moves.dram_bits / 8192, layer.moves.sram_bits / 8192),
        1e6 * layer.moves.joules,
        layer.tile,
      ]
      for layer in word.layers
    ],
  )
  return Section(
    f"{word.name}: what was chosen",
    [
      Text(
        f"{best.name}: {best.words}. The exact optima of "
        f"{len(word.optima)} alphas are {different} different networks; with "
        f"uniform formats {len(word.candidates)} were trained. The line in the "
        f"picture is the whole predicted front, in {len(word.front)} points: "
        "for every assignment it has one that loses no more and moves at most "
        f"{word.front_error:.2%} of what the widest formats move in addition."
      ),
      layers,
      _note(
        "The number is X, behind it ⟨SE, BS⟩. Logits, without a format, are "
        "priced at 32 bits."
      ),
      Section("Sensitivity to alpha", _sensitivity(results, word)),
      Section(
        f"Ablation at alpha = {results.alpha:g}", _ablation(results, word)
      ),
    ],
  )


def _format(format_) -> Cell:
  if format_ is None:
    return Cell(None)
  note = f"⟨{format_.exponent_bits}, {format_.block_size}⟩"
  return Cell(format_.element_bits, note=note)


def _sensitivity(results: BitQResults, word: WordResults) -> list[Block]:
  """Predicted optima beside the best measured networks, by alpha."""
  fp32, rows, same = results.by_name["FP32"], [], []
  candidates = [results.by_name[name] for name in word.candidates]
  for alpha, name, predicted in word.optima:
    best = best_of(candidates, fp32, word.largest_bits, alpha)
    same += [f"{alpha:g}"] * (best.name == word.recommended)
    measured, least = (
      objective(n, fp32, word.largest_bits, alpha)
      for n in (results.by_name[name], best)
    )
    test = _accuracy(best, results)
    row = alpha, name, predicted, measured, best.name, least, test
    rows.append([*row, 1e6 * best.moves.joules])
  columns = [
    number("alpha", "{:g}"),
    Column("predicted optimum"),
    number("predicted\nobjective", "{:.4f}"),
    number("measured\nobjective", "{:.4f}"),
    Column("best measured", "soft"),
    number("objective", "{:.4f}"),
    *(_TEST, _MICROJOULES),
  ]
  marks = ["best" if row[0] == results.alpha else "" for row in rows]
  return [
    Table(columns, rows, marks),
    _note(
      f"The network recommended at alpha = {results.alpha:g} is the best "
      f"measured one at alpha = {', '.join(same)}. The paper finds the same "
      "result from 0.05 to 3 at 16 bits, and 0.15 to 1.5 at 8."
    ),
  ]


def _ablation(results: BitQResults, word: WordResults) -> list[Block]:
  """What eq. 1 goes without, beside table 4."""
  published, rows = paper.TABLE_4.get(word.bits, {}), []
  for lacking, name in {"BitQ": word.recommended, **word.ablations}.items():
    n = results.by_name[name]
    if lacking == "without QAT":  # where nothing is trained at all
      n = dataclasses.replace(n, test=n.untrained_test)
    beside = published.get(lacking, (None, None))
    rows.append(
      [lacking, _accuracy(n, results), n.kib, 1e6 * n.moves.joules, *beside]
    )
  group = "table 4, ResNet-18"
  beside = number("%", "{:.2f}", group), number("J", "{:.3f}", group)
  return [
    Table([Column("eq. 1"), _TEST, _KIB, _MICROJOULES, *beside], rows),
    _note(
      "Our reading of what the paper leaves open. Without QAT: losses are "
      "those before training, and nothing is trained. Without data movement: "
      "bits per element of a layer's tensors take its place. Without "
      "trade-off: alpha goes to 0, so movement only decides between equal "
      "losses."
    ),
  ]


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
    _note("Costed at full size, not trained."),
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
