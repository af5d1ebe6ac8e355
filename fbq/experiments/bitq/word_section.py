"""The section of a BitQ page on one word length: what was chosen, and why."""

from fbq.experiments.bitq.block_network import MOVEMENT, best_of, objective
from fbq.experiments.bitq.choices import shown
from fbq.experiments.bitq.results import (
  BitQResults,
  WordResults,
  at_alpha,
)
from fbq.report.blocks import (
  Cell,
  Column,
  Section,
  Table,
  Text,
  note,
  number,
  percents,
)
from fbq.report.means import Mean, mean
from fbq.report.sentences import counted
from hwsim.bfp import BlockFormat

KIB = number("DRAM\nKiB", "{:,.1f}")
# Table 4 of arXiv 2409.17093, ResNet-18, by bits: (top-1 in percent, joules) of
# BitQ, without QAT, data movement, trade-off. Where the paper contradicts
# itself, docs/facts/bitq.md 5 says.
_TABLE_4 = {
  16: ((69.83, 0.143), (66.82, 0.121), (69.84, 0.197), (69.43, 0.175)),
  8: ((69.71, 0.119), (31.74, 0.066), (69.73, 0.142), (68.84, 0.136)),
}


def error_of(results: BitQResults) -> str:
  """What stands behind ±."""
  seeds = [study.seed for study in results.studies]
  if len(seeds) == 1:
    return f"seed {seeds[0]}; ± is the error of the test images, by source"
  return f"seeds {', '.join(map(str, seeds))}; ± is their standard error"


def test_column(results: BitQResults) -> Column:
  """Of what networks are judged by, on the test images."""
  return percents(f"test {results.metric}\n%")


def plain(found: Mean) -> Cell:
  """A mean of any unit, with the standard error over several seeds."""
  return Cell(found.value, error=found.error)


def in_percent(found: Mean | None) -> Cell:
  """A mean share in percent, or a dash."""
  return Cell(None) if found is None else found.cell


def untrained(results: BitQResults, role: str) -> Cell:
  """Test metric of the float network's weights, or a dash."""
  shares = [study.by_role[role].untrained_test for study in results.studies]
  known = [share for share in shares if share is not None]
  return in_percent(mean(known) if known else None)


def tables(results: BitQResults, index: int) -> list[Table]:
  """Sensitivity to alpha and ablation of one word."""
  word = results.studies[0].words[index]
  return [_sensitivity(results, index), _ablation(results, word)]


def section(results: BitQResults, index: int) -> Section:
  """What was chosen for a word length, at which alpha, and without what."""
  first = results.studies[0]
  word = first.words[index]
  best = first.by_name[word.recommended]
  different = len({optimum.network for optimum in word.optima})
  return Section(
    f"{word.name}: what was chosen",
    [
      Text(
        f"Seed {first.seed}, {best.name}: {best.words}. The exact optima of "
        f"{counted(len(word.optima), 'alpha')} are "
        f"{counted(different, 'different network')}; with uniform formats "
        f"{len(word.candidates)} were trained. The predicted front has "
        f"{counted(len(word.front), 'point')}: for every assignment it has one "
        f"that loses no more and {_more(results, word.front_error)}."
      ),
      _layers(word),
      note(
        "The number is X, behind it <SE, BS>. Logits, without a format, are "
        "priced at 32 bits."
      ),
      Section(
        "Sensitivity to alpha",
        [
          _sensitivity(results, index),
          note(
            f"Of {error_of(results)}. Objective: eq. 1 with what the "
            "validation split tells against FP32 trained as long. The paper "
            "finds the same result from 0.05 to 3 at 16 bits, and 0.15 to "
            "1.5 at 8."
          ),
        ],
      ),
      Section(
        f"Ablation at alpha = {results.alpha:g}",
        [
          _ablation(results, word),
          note(
            f"Of {error_of(results)}. "
            "Our reading of what the paper leaves open; the joules of its "
            "table 4 are 32 times what these energies give. Without QAT "
            "nothing is trained, and losses are those before. Without "
            f"{results.weighed.name} bits per element take its place; without "
            "trade-off it only decides between equal losses."
          ),
        ],
      ),
    ],
  )


def _more(results: BitQResults, share: float) -> str:
  """What a point of the front may cost more than an assignment."""
  if results.weighed == MOVEMENT:
    return (
      f"moves at most {share:.2%} of what the widest formats move in addition"
    )
  return f"takes at most {share:.2%} of the most cycles in addition"


def cost_columns(results: BitQResults):
  """Columns of cycles, where eq. 1 weighs them; a role is a row."""
  cost = results.weighed
  if cost == MOVEMENT:
    return []
  count = lambda n, _: n.weighed / cost.per_unit
  return [
    (
      number(cost.title, "{:,.2f}"),
      lambda role: plain(results.over_seeds(role, count)),
    )
  ]


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


def _format(format_: BlockFormat | None) -> Cell:
  if format_ is None:
    return Cell(None)
  return Cell(format_.element_bits, note=shown(format_))


def _sensitivity(results: BitQResults, index: int) -> Table:
  """Predicted optima beside the best measured networks, by alpha."""
  studies, first = results.studies, results.studies[0].words[index]
  scale = "{:.4f}"

  def over(value):
    """A cell of value(study, its word, alpha), over seeds."""
    return lambda alpha: plain(
      mean([value(study, study.words[index], alpha) for study in studies])
    )

  def best(study, word, alpha):
    candidates = [study.by_name[name] for name in word.candidates]
    fp32 = study.by_name["FP32"]
    return best_of(candidates, fp32, word.largest_bits, alpha)

  def optimum(study, word, alpha):
    return study.by_role[at_alpha(word.name, alpha)]

  def measured(network):
    return over(
      lambda study, word, alpha: objective(
        network(study, word, alpha),
        study.by_name["FP32"],
        word.largest_bits,
        alpha,
      )
    )

  predicted = lambda _, word, alpha: next(
    o.objective for o in word.optima if o.alpha == alpha
  )
  return Table.of(
    [o.alpha for o in first.optima],
    (number("alpha", "{:g}"), lambda alpha: alpha),
    (
      "predicted optimum",
      lambda alpha: optimum(studies[0], first, alpha).name,
    ),
    *(
      (column, lambda alpha, value=value: value(at_alpha(first.name, alpha)))
      for column, value in cost_columns(results)
    ),
    (KIB, over(lambda *case: optimum(*case).moves.kib)),
    (number("predicted\nobjective", scale), over(predicted)),
    (number("measured\nobjective", scale), measured(optimum)),
    (
      test_column(results),
      lambda alpha: in_percent(results.test(at_alpha(first.name, alpha))),
    ),
    (
      Column("best measured", "soft"),
      lambda alpha: best(studies[0], first, alpha).name,
    ),
    (number("objective", scale), measured(best)),
    (percents("its test\n%"), over(lambda *case: best(*case).percent)),
    marks=lambda alpha: "best" if alpha == results.alpha else "",
    label=f"{first.name}: sensitivity to alpha",
  )


def _ablation(results: BitQResults, word: WordResults) -> Table:
  """What eq. 1 goes without, beside table 4."""
  cases = {"BitQ": f"{word.name} recommended"} | {
    lacking: f"{word.name} {lacking}" for lacking in word.ablations
  }
  published = _TABLE_4.get(word.bits, ((None, None),) * len(cases))
  rows = []
  for (lacking, role), beside in zip(cases.items(), published, strict=False):
    # Without QAT nothing is trained at all
    share = (
      untrained(results, role)
      if lacking == "without QAT"
      else in_percent(results.test(role))
    )
    moved = (
      plain(results.over_seeds(role, value))
      for value in (lambda n, _: n.moves.kib, lambda n, _: 1e6 * n.moves.joules)
    )
    costs = [value(role) for _, value in cost_columns(results)]
    rows.append([lacking, share, *costs, *moved, *beside])
  group, energy = "table 4, ResNet-18", number("energy\nµJ", "{:.1f}")
  beside = number("%", "{:.2f}", group), number("J", "{:.3f}", group)
  return Table(
    [
      *(Column("eq. 1"), test_column(results)),
      *(column for column, _ in cost_columns(results)),
      *(KIB, energy, *beside),
    ],
    rows,
    label=f"{word.name}: ablation at alpha = {results.alpha:g}",
  )
