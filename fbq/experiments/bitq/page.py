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
  formats_in_words,
  objective,
)
from fbq.report import page
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


def write(results: BitQResults, run: Run, workdir: Path) -> None:
  """Writes report.html and its picture."""
  next_ = (
    f"python main.py --config=configs/export.py:from={workdir},point=best "
    f"--workdir={workdir}_export",
    "Packed codes and exponents of the network recommended for the shortest "
    "word:",
  )
  page.write(
    workdir / "report.html",
    f"{results.network} in block floating point",
    "Which shared-exponent width SE and block size BS should every tensor "
    "have, so that little moves between memories and accuracy stays?",
    _blocks(results, run),
    dataclasses.replace(
      run, assumptions=_assumptions(results, run), next=next_
    ),
  )


def tell(results: BitQResults, log: Log) -> None:
  """Prints the table of all networks, most movement first, and the answers."""
  from rich.table import Table as Printed

  table = Printed(title="Block formats; ★ recommended by eq. 1")
  table.add_column("network", overflow="fold")
  table.add_column("formats", overflow="fold")
  for heading in ("DRAM KiB", "vs FP32", "energy uJ", "accuracy %", "untrained"):
    table.add_column(heading, justify="right", no_wrap=True)
  best, fp32 = results.recommended.values(), results.by_name["FP32"]
  for n in _by_movement(results):
    tested = n.test is not None
    error = n.percent_error(results.test_count) if tested else 0
    table.add_row(
      f"{'★' if n.name in best else ' '} {n.name}",
      n.words,
      f"{n.kib:,.1f}",
      f"{n.dram_bits / fp32.dram_bits:.3f}",
      f"{n.joules * 1e6:,.2f}",
      f"{n.percent:.2f} ±{error:.2f}" if tested else "–",
      "–" if n.untrained_test is None else f"{n.untrained_test * 100:.2f}",
      style="bold" if n.name in best else None,
    )
  log.console.print(table)
  for sentence in answers(results):
    log.say(sentence)


def answers(results: BitQResults) -> list[str]:
  """What is recommended for each word length, beside FP32."""
  fp32 = results.by_name["FP32"]
  sentences = []
  for word in results.words:
    best = results.by_name[word.recommended]
    errors = [n.percent_error(results.test_count) for n in (best, fp32)]
    apart = abs(best.percent - fp32.percent) > 2 * math.hypot(*errors)
    sentences.append(
      f"{word.name}: {formats_in_words(best.formats)} ({best.name}) moves "
      f"{best.dram_bits / fp32.dram_bits:.1%} of what FP32 moves and takes "
      f"{best.joules / fp32.joules:.1%} of its energy, at {best.percent:.2f} % "
      f"test accuracy where FP32 has {fp32.percent:.2f} %, "
      f"{'more' if apart else 'less'} than two standard errors apart (alpha = "
      f"{results.alpha:g})."
    )
  return sentences


def _by_movement(results: BitQResults) -> list[BlockNetwork]:
  return sorted(results.networks, key=lambda n: -n.dram_bits)


def _accuracy(results: BitQResults, network: BlockNetwork) -> Cell:
  if network.test is None:
    return Cell(None)
  return Cell(network.percent, error=network.percent_error(results.test_count))


def _blocks(results: BitQResults, run: Run) -> list[Block]:
  settings = run.settings
  _, below = pictures.split(results.networks)
  far = ", ".join(f"{n.name} {n.percent:.1f} %" for n in below)
  blocks: list[Block] = [
    Answer(answers(results)),
    Section(
      "Accuracy over DRAM traffic",
      [
        Picture(pictures.front(results), "front.svg"),
        _note(
          "Bars are one binomial standard error of the test accuracy. Lines: "
          "the whole front as predicted, FP32's accuracy minus the predicted "
          "loss; how near to exact it is, is said with each word below. Stars: "
          f"recommended at alpha = {results.alpha:g}, chosen by accuracy on "
          "images of the training split."
          + (f" Below the picture: {far}." if far else "")
        ),
      ],
    ),
    Section("Results", _results(results, settings)),
  ]
  blocks += [_word(results, word) for word in results.words]
  blocks += [
    Section(
      "The objective over alpha",
      [
        Picture(pictures.alphas(results)),
        _note(
          f"Eq. 1 with accuracies measured on {settings['validation_images']} "
          "images of the training split, against FP32 trained as long. Grey: "
          "never the best. Accuracies above FP32's count as they are."
        ),
      ],
    ),
    Section("How losses were predicted", _predictions(results, settings)),
    Section(f"Where tiling matters: {results.sweep.network}", _sweep(results)),
    *_table_3(results, settings),
    Section(
      "Where the paper contradicts itself", [Bullets(paper.CONTRADICTIONS)]
    ),
  ]
  return blocks


def _note(text: str) -> Text:
  return Text(text, note=True)


def _results(results: BitQResults, settings) -> list[Block]:
  """All networks, and the energy that the recommended ones save."""
  fp32, best = results.by_name["FP32"], results.recommended
  networks = _by_movement(results)
  table = Table(
    [
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
        n.name,
        n.words,
        n.kib,
        n.dram_bits / fp32.dram_bits,
        n.sram_bits / 8192,
        1e6 * n.joules,
        _accuracy(results, n),
        None if n.untrained_test is None else 100 * n.untrained_test,
        n.source,
      ]
      for n in networks
    ],
    ["best" if n.name in best.values() else "" for n in networks],
  )
  savings = []
  for word in results.words:
    ours = 1 - results.by_name[word.recommended].joules / fp32.joules
    published = paper.FIGURE_5.get(word.bits)
    savings.append([word.name, 100 * ours, published and 100 * published])
  return [
    table,
    _note(
      "Every network starts from the same float network and sees the same "
      "batches for as many steps. X: bits of an element with its sign, SE: "
      "bits of a shared exponent, BS: elements of a block. Not trained: the "
      "float network's weights in these formats. All formats are priced by X + "
      "e / BS bits per element. Energy is eq. 8 with 20 pJ per DRAM bit and "
      f"0.16 pJ per SRAM bit, for {settings['memory_bytes']} bytes of SRAM and "
      f"{settings['register_bytes']} bytes of registers; the joules of the "
      "paper's table 4 are 32 times what these constants give."
    ),
    Table(
      [
        Column("energy saved against FP32"),
        number("here\n%", "{:.0f}"),
        number("figure 5, read\nas savings, %", "{:.0f}"),
      ],
      savings,
    ),
  ]


def _word(results: BitQResults, word: WordResults) -> Section:
  """What was chosen for a word length, at which alpha, and without what."""
  best = results.by_name[word.recommended]
  layers = Table(
    [
      Column("layer"),
      *(Column(name, "bits") for name in ("input", "weights", "output")),
      *(
        number(f"{name}\nKiB", "{:,.1f}")
        for name in ("input", "weights", "output")
      ),
      Column("DRAM traffic, KiB", "bar", "{:,.1f}"),
      number("SRAM\nKiB", "{:,.1f}"),
      number("energy\nµJ", "{:.2f}"),
      Column("tile n, k, c, h, w, r, s", "soft"),
    ],
    [
      [
        layer.name,
        *map(_format, layer.formats),
        *(bits / 8192 for bits in layer.tensor_bits),
        layer.dram_bits / 8192,
        layer.sram_bits / 8192,
        1e6 * layer.joules,
        layer.tile,
      ]
      for layer in word.layers
    ],
  )
  networks = len({optimum.network for optimum in word.optima})
  return Section(
    f"{word.name}: what was chosen",
    [
      Text(
        f"{best.name}: {formats_in_words(best.formats)}. The exact optima of "
        f"{len(word.optima)} alphas are {networks} different networks; with "
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
  by_name, fp32 = results.by_name, results.by_name["FP32"]
  candidates = [by_name[name] for name in word.candidates]
  rows, same = [], []
  for alpha, name, predicted in word.optima:
    best = best_of(candidates, fp32, word.largest_bits, alpha)
    same += [f"{alpha:g}"] * (best.name == word.recommended)
    measured = [
      objective(n, fp32, word.largest_bits, alpha)
      for n in (by_name[name], best)
    ]
    rows.append(
      [
        *(alpha, name, predicted, measured[0], best.name, measured[1]),
        *(_accuracy(results, best), 1e6 * best.joules),
      ]
    )
  return [
    Table(
      [
        number("alpha", "{:g}"),
        Column("predicted optimum"),
        number("predicted\nobjective", "{:.4f}"),
        number("measured\nobjective", "{:.4f}"),
        Column("best measured", "soft"),
        number("objective", "{:.4f}"),
        _TEST,
        _MICROJOULES,
      ],
      rows,
      ["best" if row[0] == results.alpha else "" for row in rows],
    ),
    _note(
      f"The network recommended at alpha = {results.alpha:g} is the best "
      f"measured one at alpha = {', '.join(same)}. The paper finds the same "
      "result from 0.05 to 3 at 16 bits, and 0.15 to 1.5 at 8."
    ),
  ]


def _ablation(results: BitQResults, word: WordResults) -> list[Block]:
  """What eq. 1 goes without, beside table 4."""
  published = paper.TABLE_4.get(word.bits, {})
  rows = []
  for lacking, name in {"BitQ": word.recommended, **word.ablations}.items():
    network = results.by_name[name]
    if lacking == "without QAT":  # where nothing is trained at all
      network = dataclasses.replace(network, test=network.untrained_test)
    rows.append(
      [
        lacking,
        _accuracy(results, network),
        network.kib,
        1e6 * network.joules,
        *published.get(lacking, (None, None)),
      ]
    )
  columns = [Column(""), _TEST, _KIB, _MICROJOULES]
  group = "table 4, ResNet-18"
  columns += [number("%", "{:.2f}", group), number("J", "{:.3f}", group)]
  return [
    Table(columns, rows, label=f"{word.name} without parts of eq. 1"),
    _note(
      "Our reading of what the paper leaves open. Without QAT: losses are "
      "those before training, and nothing is trained. Without data movement: "
      "bits per element of a layer's tensors take its place. Without trade-off: "
      "alpha goes to 0, so movement only decides between equal losses."
    ),
  ]


def _predictions(results: BitQResults, settings) -> list[Block]:
  """How losses became accuracies, and how well networks were predicted."""
  scales, mixed = results.scales, results.mixed
  text = (
    "Training mends the noise of weights far better than that of activations, "
    f"so each kind has a scale: one nat costs {scales.weights:.2%} of accuracy "
    f"for weights and {scales.activations:.2%} for activations, measured on "
    "four networks in which one kind has one of the two coarsest uniform "
    f"formats and all else the finest ({scales.untrained:.2%} without "
    "training, on all uniform formats). Mixed networks had no part in it."
  )
  if mixed is not None:
    text += (
      f" For the {mixed.networks} mixed networks that were trained, predicted "
      "and measured loss of accuracy have a rank correlation of "
      f"{mixed.spearman:.2f}; half are within {100 * mixed.error:.2f} points."
    )
  return [
    Text(
      f"{results.losses.capitalize()}. {results.passes} passes over "
      f"{settings['calibration_images']} images in all."
    ),
    Text(text),
  ]


def _sweep(results: BitQResults) -> list[Block]:
  sweep = results.sweep
  groups = {
    "DRAM traffic / every tensor once": ("{:.2f}", 1, sweep.ratios),
    "energy, mJ": ("{:.2f}", 1e3, sweep.joules),
  }
  columns = [number("SRAM\nKiB", "{:g}")]
  cells = [sweep.kib]
  for group, (format_, scale, values) in groups.items():
    for name, row in values.items():
      columns.append(number(name, format_, group))
      cells.append([scale * value for value in row])
  return [
    Table(columns, list(zip(*cells, strict=True))),
    _note("Costed at full size, not trained."),
  ]


def _table_3(results: BitQResults, settings) -> list[Block]:
  """Our accuracies beside the paper's for the same family of networks."""
  builder, data = settings["net"]["builder"], settings["data"]["name"]
  names = [results.recommended.get(n, n) for n in paper.COLUMNS.values()]
  if builder not in paper.TABLE_3 or not set(names) <= set(results.by_name):
    return []
  ours = [_accuracy(results, results.by_name[name]) for name in names]
  return [
    Section(
      "Beside the paper's table 3",
      [
        Table(
          [Column("")] + [number(name, "{:.2f}") for name in paper.COLUMNS],
          [
            [f"here, {data}, test %", *ours],
            ["published, ImageNet, top-1 %", *paper.TABLE_3[builder]],
          ],
          label="table 3",
        ),
        _note(
          f"{builder} of this run on {data} beside one of full size on "
          "ImageNet: unless ours is both, the order of the methods may be "
          "compared, no number. FlexBlock: FB16; FAST: m = 4; the paper does "
          "not tell the modes it ran. BSFP is priced, not trained."
        ),
      ],
    )
  ]


def _assumptions(results: BitQResults, run: Run) -> list[str]:
  """What the figures rest on."""
  return [
    f"The float network reads {results.float_accuracy:.2%} of the test images; "
    f"every network then sees the same {results.steps} steps more, FP32 too.",
    f"{results.about_test} Networks are chosen by "
    f"{run.settings['validation_images']} images of the training split, so test "
    "accuracies are not what was chosen by. One seed.",
    "Data movement is modelled exactly, not measured: layers one by one from "
    f"DRAM to DRAM, through {run.settings['memory_bytes']} bytes of SRAM "
    "(hwsim/bfp). A memory this small makes tiling matter to so small a "
    "network, as 32 KiB do at full size.",
    "Accuracy losses add up over tensors in the search; trained networks, not "
    "predictions, decide what is recommended.",
  ]
