"""What a BitQ page says of one word length."""

from fbq.experiments.bitq.results import (
  BitQResults,
  WordResults,
  best_of,
  objective,
)
from fbq.report import records
from fbq.report.blocks import Cell, Column, Section, Table, Text, note, number

KIB = number("DRAM\nKiB", "{:,.1f}")
TEST = number("test accuracy\n%", "{:.2f}")
_MICROJOULES = number("energy\nµJ", "{:.1f}")
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


def accuracy(share: float | None, results: BitQResults) -> Cell:
  """Percents of the test images with their binomial standard error."""
  if share is None:
    return Cell(None)
  error = records.standard_error(share, results.test_count)
  return Cell(100 * share, error=100 * error)


def section(results: BitQResults, word: WordResults) -> Section:
  """What was chosen for a word length, at which alpha, and without what."""
  best = results.by_name[word.recommended]
  different = len({optimum.network for optimum in word.optima})
  return Section(
    f"{word.name}: what was chosen",
    [
      Text(
        f"{best.name}: {best.words}. The exact optima of "
        f"{len(word.optima)} alphas are {different} different networks; with "
        f"uniform formats {len(word.candidates)} were trained. The predicted "
        f"front has {len(word.front)} points: for every assignment it has one "
        "that loses no more and moves at most "
        f"{word.front_error:.2%} of what the widest formats move in addition."
      ),
      _layers(word),
      note(
        "The number is X, behind it ⟨SE, BS⟩. Logits, without a format, are "
        "priced at 32 bits."
      ),
      Section(
        "Sensitivity to alpha",
        [
          _sensitivity(results, word),
          note(
            "Objective: eq. 1 with accuracies of the training split against "
            "FP32 trained as long. The paper finds the same result from 0.05 "
            "to 3 at 16 bits, and 0.15 to 1.5 at 8."
          ),
        ],
      ),
      Section(
        f"Ablation at alpha = {results.alpha:g}",
        [
          _ablation(results, word),
          note(
            "Our reading of what the paper leaves open; the joules of its "
            "table 4 are 32 times what these energies give. Without QAT: "
            "losses are those before training, and nothing is trained. Without "
            "data movement: bits per element of a layer's tensors take its "
            "place. Without trade-off: movement only decides between equal "
            "losses."
          ),
        ],
      ),
    ],
  )


def _layers(word: WordResults) -> Table:
  """Formats and data movement of every layer."""
  return Table.of(
    word.layers,
    ("layer", lambda x: x.name),
    *(
      (Column(name, "bits"), lambda x, i=i: _format(x.formats[i]))
      for i, name in enumerate(("input", "weights", "output"))
    ),
    (Column("DRAM traffic, KiB", "bar", "{:,.1f}"), lambda x: x.moves.kib),
    (number("energy\nµJ", "{:.2f}"), lambda x: 1e6 * x.moves.joules),
    (Column("tile n, k, c, h, w, r, s", "soft"), lambda x: x.tile),
  )


def _format(format_) -> Cell:
  if format_ is None:
    return Cell(None)
  blocks = f"⟨{format_.exponent_bits}, {format_.block_size}⟩"
  return Cell(format_.element_bits, note=blocks)


def _sensitivity(results: BitQResults, word: WordResults) -> Table:
  """Predicted optima beside the best measured networks, by alpha."""
  by_name, rows = results.by_name, []
  candidates = [by_name[name] for name in word.candidates]
  for alpha, name, predicted in word.optima:
    eq_1 = by_name["FP32"], word.largest_bits, alpha
    best = best_of(candidates, *eq_1)
    rows.append(
      [
        *(alpha, name, predicted, objective(by_name[name], *eq_1)),
        *(best.name, objective(best, *eq_1), accuracy(best.test, results)),
        1e6 * best.moves.joules,
      ]
    )
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
  return Table(columns, rows, marks)


def _ablation(results: BitQResults, word: WordResults) -> Table:
  """What eq. 1 goes without, beside table 4."""
  published, rows = _TABLE_4.get(word.bits, {}), []
  for lacking, name in {"BitQ": word.recommended, **word.ablations}.items():
    n = results.by_name[name]
    # Without QAT nothing is trained at all
    share = n.untrained_test if lacking == "without QAT" else n.test
    beside = published.get(lacking, (None, None))
    moved = n.moves.kib, 1e6 * n.moves.joules
    rows.append([lacking, accuracy(share, results), *moved, *beside])
  group = "table 4, ResNet-18"
  beside = number("%", "{:.2f}", group), number("J", "{:.3f}", group)
  return Table([Column("eq. 1"), TEST, KIB, _MICROJOULES, *beside], rows)
