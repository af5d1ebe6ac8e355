"""The page: how few bits a network bears without training, and mixed ones."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from fbq.experiments.ladder import picture
from fbq.experiments.ladder.methods import TITLES
from fbq.experiments.ladder.results import (
  Numbers,
  Rungs,
  cost_of,
  shown,
  told,
)
from fbq.report import blocks, cells, page
from fbq.report.run import Run
from fbq.train.log import Log


def write(results: Rungs, run: Run, workdir: Path) -> None:
  """Writes report.html."""
  page.write(
    workdir / "report.html",
    f"{results.network} at every bit-width",
    "How few bits do its weights need without any training, by which method, "
    "and what does it gain from bits that differ by tensor?",
    _blocks(results),
    dataclasses.replace(run, assumptions=results.assumptions),
  )


def tell(results: Rungs, log: Log) -> None:
  """Prints the tables and the answer."""
  log.console.print(cells.printed(_methods(results)))
  if results.chosen:
    log.console.print(cells.printed(_chosen(results)))
  log.say(results.answer)


def _blocks(results: Rungs) -> list[blocks.Block]:
  kind = "accuracy" if results.has_labels else "agreement"
  parts: list[blocks.Block] = [
    blocks.Answer([results.answer]),
    blocks.Picture(picture.ladder(results), "ladder.svg"),
    blocks.Section(
      f"Methods and bits: {kind}, %",
      [_methods(results), blocks.note(_about_methods(results))],
    ),
    blocks.Section("The same by KL divergence, nats", [_divergences(results)]),
  ]
  if results.chosen:
    parts.append(
      blocks.Section(
        "Bits chosen exactly, beside uniform ones", _choices(results)
      )
    )
  parts.append(blocks.Section("What each costs", [_costs(results)]))
  parts.append(blocks.Section("Every tensor alone", _alone(results)))
  if results.blocks:
    parts.append(blocks.Section("Block floating point", _formats(results)))
  if results.integers:
    parts.append(
      blocks.Section("Integers beside the file's runtime", _same(results))
    )
  return parts


def _methods(results: Rungs) -> blocks.Table:
  """Accuracy, or agreement, of every method at every bit-width."""
  rows: list[list[object]] = [
    [TITLES[m], *(_cell(results.point(m, b).numbers) for b in _bits(results))]
    for m in results.methods
  ]
  if results.has_labels:
    for row in results.published:
      rows.append(
        [row.name, *(row.accuracy.get(str(b)) for b in _bits(results))]
      )
  best = blocks.Cell(100 * told(results.in_float))
  return blocks.Table(
    [
      blocks.Column("method"),
      *(blocks.number(f"W{b}", "{:.1f}") for b in _bits(results)),
    ],
    [*rows, ["float", best, *[None] * (len(_bits(results)) - 1)]],
    label="methods and bits",
  )


def _cell(numbers: Numbers) -> blocks.Cell:
  if numbers.accuracy is not None:
    return blocks.Cell(100 * numbers.accuracy)
  error = numbers.agreement_error
  return blocks.Cell(
    100 * numbers.agreement, error=None if error is None else 100 * error
  )


def _about_methods(results: Rungs) -> str:
  activations = "activations of 8 bits, or fewer where the settings say so"
  if results.has_labels:
    share = told(results.in_float)
    error = (share * (1 - share) / results.held_back) ** 0.5
    return (
      f"Accuracy on {results.held_back:,} inputs that were held back; "
      f"calibration saw {results.calibration} others, without their labels. "
      f"The standard error of a share is {100 * error:.1f} points; rows on the "
      f"same inputs differ by less. W: bits of weights; {activations}. "
      "Published rows are of their authors' inputs."
    )
  return (
    f"Share of {results.held_back:,} inputs, crops of {results.sources} "
    "photographs or inputs of their own, that get the float network's class: "
    "agreement, not accuracy. Calibration saw others. ± is the standard error, "
    f"clustered by photograph. W: bits of weights; {activations}."
  )


def _divergences(results: Rungs) -> blocks.Table:
  return blocks.Table(
    [
      blocks.Column("method"),
      *(blocks.number(f"W{b}", "{:.4f}") for b in _bits(results)),
    ],
    [
      [TITLES[m], *(results.point(m, b).numbers.kl for b in _bits(results))]
      for m in results.methods
    ],
    label="KL divergence",
  )


def _bits(results: Rungs) -> Sequence[int]:
  return sorted(results.weight_bits, reverse=True)


# ---- Mixed precisions


def _choices(results: Rungs) -> list[blocks.Block]:
  parts: list[blocks.Block] = [
    _chosen(results),
    blocks.note(
      "The least sum of KL divergences of tensors alone, under each budget. "
      "Beside it the uniform network of any method within the budget that is "
      "nearest to the float network by KL; "
      f"mixed networks are quantized by {TITLES[results.mixed_by]}."
    ),
  ]
  for point in results.chosen:
    rows = [[site, bits] for site, bits in point.bits.items()]
    table = blocks.Table(
      [blocks.Column("tensor"), blocks.Column("bits", "bits")],
      rows,
      label=f"bits for {shown(point)}",
    )
    parts.append(blocks.Details(f"Bits for {shown(point)}", [table]))
  return parts


def _chosen(results: Rungs) -> blocks.Table:
  def rival(read):
    def cell(point):
      other = results.rival(point)
      return None if other is None else read(other)

    return cell

  return blocks.Table.of(
    results.chosen,
    ("budget, of 8 bits", shown),
    (blocks.number("cost"), lambda p: cost_of(p, p.budget)),
    (blocks.number("%", "{:.1f}", "mixed"), lambda p: 100 * told(p.numbers)),
    (blocks.number("KL", "{:.4f}", "mixed"), lambda p: p.numbers.kl),
    (
      blocks.Column("network", "text", group="best uniform within it"),
      rival(shown),
    ),
    (
      blocks.number("% ", "{:.1f}", "best uniform within it"),
      rival(lambda p: 100 * told(p.numbers)),
    ),
    (
      blocks.number("KL ", "{:.4f}", "best uniform within it"),
      rival(lambda p: p.numbers.kl),
    ),
    label="chosen precisions",
  )


def _costs(results: Rungs) -> blocks.Table:
  method = results.methods[-1]
  rows = [results.point(method, b) for b in _bits(results)]
  return blocks.Table.of(
    [*rows, *results.chosen],
    (
      "network",
      lambda p: shown(p) if p.budget else p.name.rpartition(" ")[2],
    ),
    (blocks.number("weights\nkB", "{:.1f}"), lambda p: p.weight_bytes / 1e3),
    *(
      (
        blocks.number(f"{name}\nkcycles", "{:,.0f}"),
        lambda p, name=name: (
          None if name not in p.cycles else p.cycles[name] / 1e3
        ),
      )
      for name in results.targets
    ),
    label="costs",
  )


# ---- Tensors, formats, integers


def _alone(results: Rungs) -> list[blocks.Block]:
  tried = sorted({b for by in results.harm.values() for b in by} - {8})
  table = blocks.Table.of(
    results.harm,
    ("tensor", lambda site: site),
    *(
      (
        blocks.Column(f"{b} bits", "bar", "{:.1e}", "KL, alone at"),
        lambda site, b=b: results.harm[site].get(b),
      )
      for b in tried
    ),
    label="tensors alone",
  )
  note = blocks.note(
    "KL divergence, in nats, from the network of 8 bits with this tensor alone "
    "at fewer bits, on inputs to calibrate by."
  )
  return [note, blocks.Details("All tensors", [table])]


def _formats(results: Rungs) -> list[blocks.Block]:
  return [
    blocks.Table.of(
      results.blocks.items(),
      ("format of every tensor", lambda row: row[0]),
      (blocks.number("KL\nnats", "{:.4f}"), lambda row: row[1].kl),
      (
        blocks.number("same class\n%", "{:.1f}"),
        lambda row: blocks.Cell(100 * row[1].agreement),
      ),
      label="block formats",
    ),
    blocks.note(
      "X bits of every number, sign included, and a shared exponent of 8 bits "
      "for each block, weights and activations alike (BitQ, arXiv 2409.17093). "
      "Not trained: what the formats do to the float network as it is."
    ),
  ]


def _same(results: Rungs) -> list[blocks.Block]:
  same = results.integers or {}
  percent = lambda key: (
    "-" if same[key] is None else f"{100 * (same[key] or 0):.1f} %"
  )
  return [
    blocks.Figures(
      [
        (
          percent("same_classes"),
          f"of {int(same['inputs'] or 0)} inputs: same class",
        ),
        (percent("equal_codes"), "of the outputs: the same integer"),
        (percent("accuracy"), "right by our integers"),
        (percent("runtime_accuracy"), "right by LiteRT"),
      ]
    ),
    blocks.note(
      "The file's own integers and ranges, requantized in 32 bits as PULP's "
      "kernels do, beside LiteRT (XNNPACK). Logits stay in 32 bits here; the "
      "file has 8 before its softmax."
    ),
  ]
