"""What a BitQ page says of one word length."""

import dataclasses

from fbq.experiments.bitq.block_network import (
  BlockNetwork,
  best_of,
  objective,
)
from fbq.experiments.bitq.results import BitQResults, WordResults
from fbq.report.blocks import (
  Block,
  Cell,
  Column,
  Section,
  Table,
  Text,
  number,
)

KIB = number("DRAM\nKiB", "{:,.1f}")
TEST = number("test accuracy\n%", "{:.2f}")
_MICROJOULES = number("energy\nµJ", "{:.1f}")
_TENSORS = ("input", "weights", "output")
# Table 4 of arXiv 2409.17093, ResNet-18, by bits: (top-1 in percent, joules).
# Where the paper contradicts itself, docs/facts/bitq.md 5 says.
_TABLE_4 = {
  16: {
    "BitQ": (69.83, 0.143),
    "without QAT": (66.82, 0.121),
    "without data movement": (69.84, 0.197),
    "without trade-off": (69.43, 0.175),
  },
  8: {
    "BitQ": (69.71, 0.119),
    "without QAT": (31.74, 0.066),
    "without data movement": (69.73, 0.142),
    "without trade-off": (68.84, 0.136),
  },
}


def note(text: str) -> Text:
  return Text(text, note=True)


def accuracy(network: BlockNetwork, results: BitQResults) -> Cell:
  if network.test is None:
    return Cell(None)
  return Cell(network.percent, error=network.percent_error(results.test_count))


def section(results: BitQResults, word: WordResults) -> Section:
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
      note(
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
    test = accuracy(best, results)
    row = alpha, name, predicted, measured, best.name, least, test
    rows.append([*row, 1e6 * best.moves.joules])
  columns = [
    number("alpha", "{:g}"),
    Column("predicted optimum"),
    number("predicted\nobjective", "{:.4f}"),
    number("measured\nobjective", "{:.4f}"),
    Column("best measured", "soft"),
    number("objective", "{:.4f}"),
    *(TEST, _MICROJOULES),
  ]
  marks = ["best" if row[0] == results.alpha else "" for row in rows]
  return [
    Table(columns, rows, marks),
    note(
      f"The network recommended at alpha = {results.alpha:g} is the best "
      f"measured one at alpha = {', '.join(same)}. The paper finds the same "
      "result from 0.05 to 3 at 16 bits, and 0.15 to 1.5 at 8."
    ),
  ]


def _ablation(results: BitQResults, word: WordResults) -> list[Block]:
  """What eq. 1 goes without, beside table 4."""
  published, rows = _TABLE_4.get(word.bits, {}), []
  for lacking, name in {"BitQ": word.recommended, **word.ablations}.items():
    n = results.by_name[name]
    if lacking == "without QAT":  # where nothing is trained at all
      n = dataclasses.replace(n, test=n.untrained_test)
    beside = published.get(lacking, (None, None))
    rows.append(
      [lacking, accuracy(n, results), n.kib, 1e6 * n.moves.joules, *beside]
    )
  group = "table 4, ResNet-18"
  beside = number("%", "{:.2f}", group), number("J", "{:.3f}", group)
  return [
    Table([Column("eq. 1"), TEST, KIB, _MICROJOULES, *beside], rows),
    note(
      "Our reading of what the paper leaves open; the joules of its table 4 "
      "are 32 times what these energies give. Without QAT: losses are "
      "those before training, and nothing is trained. Without data movement: "
      "bits per element of a layer's tensors take its place. Without "
      "trade-off: alpha goes to 0, so movement only decides between equal "
      "losses."
    ),
  ]
