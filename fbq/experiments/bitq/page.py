"""The page of a BitQ run: which block format every tensor should have."""

import dataclasses
import itertools
import shlex
from pathlib import Path

from fbq.experiments.bitq import (
  curves,
  example_picture,
  pictures,
  table3,
  word_section,
)
from fbq.experiments.bitq.block_network import MOVEMENT, BlockNetwork
from fbq.experiments.bitq.results import (
  BitQResults,
  SeedStudy,
  at_alpha,
)
from fbq.experiments.bitq.word_section import (
  KIB,
  cost_columns,
  error_of,
  in_percent,
  plain,
  test_column,
  untrained,
)
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
from fbq.report.means import mean
from fbq.report.run import Run
from fbq.report.sentences import counted
from fbq.schemes.published_formats import GRID
from fbq.train.log import Log
from fbq.train.objective import CLASSIFICATION

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
  then = (export, "The network recommended for the shortest word, packed:")
  assumptions = [
    f"{_floats(results)}; "
    f"every network then sees the same {results.steps} steps more, FP32 too. "
    f"{results.about_test}",
    "Networks are chosen by images of the validation split, on which nothing "
    "is trained. In the search accuracy losses add up over tensors.",
    "Data movement is modelled exactly, not measured: layers one by one from "
    "DRAM to DRAM. Of a block that tiles cut, each moves its share of the "
    "exponent. A memory this small makes tiling matter to so small a "
    "network, as 32 KiB do at full size.",
  ]
  if results.cluster:
    assumptions.append(
      f"Eq. 1 weighs cycles of {results.cluster}, as a share of the most that "
      "any formats of a word take: of every layer its products at the rates "
      "published for the unit, in software where the unit does not take "
      "them, or its transfers if those take longer (hwsim/mx)."
    )
  page.write(
    workdir / "report.html",
    f"{results.network} in block floating point",
    "Which shared-exponent width SE and block size BS should every tensor "
    "have, so that little moves between memories and accuracy stays?",
    _blocks(results, run.settings),
    dataclasses.replace(
      run,
      assumptions=assumptions,
      next=then if _can_be_packed(results) else None,
    ),
  )


def _can_be_packed(results: BitQResults) -> bool:
  """Whether an export takes what is recommended."""
  study = results.studies[0]
  return results.metric == CLASSIFICATION.metric_name and all(
    study.by_name[name].scheme == GRID for name in study.recommended.values()
  )


def tell(results: BitQResults, log: Log) -> None:
  """Prints a table of all networks without their formats, and the answers."""
  log.console.print(cells.printed(_networks(results)))
  for sentence in _answers(results):
    log.say(sentence)


def tables(results: BitQResults) -> list[Table]:
  """All networks, then the sensitivity to alpha and the ablation of words."""
  words = range(len(results.studies[0].words))
  found = (word_section.tables(results, i) for i in words)
  return [_networks(results), *itertools.chain(*found)]


def _floats(results: BitQResults) -> str:
  """What the float network reaches, over seeds."""
  found = mean([study.float_accuracy for study in results.studies])
  if results.metric == "accuracy":
    return f"The float network reads {found} of the test images in %"
  more = {
    name: mean([study.float_details[name] for study in results.studies])
    for name in results.studies[0].float_details
  }
  said = "".join(f", {name} {value}" for name, value in more.items())
  return f"The float network has a test {results.metric} of {found} %{said}"


def _answers(results: BitQResults) -> list[str]:
  """What is recommended for each word length, beside FP32."""
  sentences = []
  for word in results.studies[0].words:
    role = f"{word.name} recommended"
    moved, energy = (
      results.over_seeds(role, share) for share in (_moved_share, _energy_share)
    )
    lost, found = results.lost(role), results.studies[0].by_role[role]
    assert lost is not None  # recommended is what was trained
    apart = "apart" if lost.is_told_from_zero else "not told apart"
    sentences.append(
      f"{word.name}: {found.words} ({found.name}, seed "
      f"{results.studies[0].seed}) moves {moved} % of what FP32 moves and "
      f"takes {energy} % of its energy, at {results.test(role)} % test "
      f"{results.metric} where FP32 has {results.test('FP32')} %, "
      f"{apart} at 95 % (alpha = {results.alpha:g}; {error_of(results)})."
      + (_in_cycles(results, role) if results.cluster else "")
    )
  return sentences


def _in_cycles(results: BitQResults, role: str) -> str:
  """What a network takes of FP32's cycles."""
  share = results.over_seeds(role, lambda n, fp32: n.weighed / fp32.weighed)
  return f" It takes {share} % of FP32's cycles on {results.cluster}."


def _moved_share(network: BlockNetwork, fp32: BlockNetwork) -> float:
  return network.moves.dram_bits / fp32.moves.dram_bits


def _energy_share(network: BlockNetwork, fp32: BlockNetwork) -> float:
  return network.moves.joules / fp32.moves.joules


def _blocks(results: BitQResults, settings) -> list[Block]:
  first = results.studies[0]
  cost = results.weighed
  drawn, told = pictures.front(first, results.metric, cost)
  over = "DRAM traffic" if cost == MOVEMENT else cost.name
  return [
    Answer(_answers(results)),
    Section(
      f"Test {results.metric} over {over}",
      [
        Picture(drawn, "front.svg"),
        note(
          f"Seed {first.seed}. Bars: one standard error of the test images, by "
          f"source. Lines: the whole front as predicted. {told}"
        ),
      ],
    ),
    Section(
      "Results",
      [
        _networks(results, settings["net"]["builder"]),
        note(
          f"Of {error_of(results)}. "
          "X: bits of an element with its sign, SE: bits of a shared exponent, "
          "BS: elements of a block; every tensor is priced by the blocks that "
          "it is stored in. Below FP32: difference on the same images, within "
          "seeds. Untrained: the float network's weights in these formats. "
          f"Energy: eq. 8 for {settings['memory_bytes']} bytes of SRAM and "
          f"{settings['register_bytes']} bytes of registers."
        ),
      ],
    ),
    *([told_section(results)] if first.examples else []),
    Section("Beside table 3", [table3.table([results]), note(table3.NOTE)]),
    Section(
      "Energy, as in figure 5",
      [Picture(curves.energy(results), "energy.svg"), note(curves.FIGURE_5)],
    ),
    Section(
      "Sensitivity to alpha, as in figure 6",
      [Picture(curves.alphas(results), "alphas.svg"), note(curves.FIGURE_6)],
    ),
    *(word_section.section(results, i) for i in range(len(first.words))),
    Section(
      "How losses were predicted",
      [Text(_predictions(study, settings)) for study in results.studies],
    ),
  ]


def told_section(results: BitQResults) -> Section:
  """What networks tell of test images, as in the paper's figure 4."""
  study = results.studies[0]
  names = {"FP32": "FP32", **study.recommended}
  drawn = example_picture.drawn(study.examples, names)
  return Section(
    "What networks tell, as in figure 4",
    [
      Picture(drawn, "examples.svg"),
      note(
        f"{results.network}, seed {study.seed}: the first test images, and "
        "what the recommended networks tell of them."
      ),
    ],
  )


def _predictions(study: SeedStudy, settings) -> str:
  scales, (mixed, spearman, error) = study.scales, study.mixed
  return (
    f"Seed {study.seed}. {study.losses.capitalize()}. "
    f"{counted(study.passes, 'pass', 'passes')} over "
    f"{settings['calibration_images']} images in all. A hundredth of a nat "
    f"costs {scales['weights']:.2f} points for weights and "
    f"{scales['activations']:.2f} for activations "
    f"({scales['untrained']:.2f} without training). For the {mixed} mixed "
    "networks that were trained, predicted and measured loss have "
    f"a rank correlation of {spearman:.2f}; half are within "
    f"{100 * error:.2f} points."
  )


def _networks(results: BitQResults, builder: str = "") -> Table:
  """All networks, the most data moved first, beside what the paper has."""
  study = results.studies[0]
  best = {f"{name} recommended": name for name in study.recommended}
  published = dict(zip(_COLUMNS, _TABLE_3.get(builder, ()), strict=False))
  beside = (
    percents("table 3,\nImageNet %"),
    lambda role: published.get(best.get(role, role)),
  )
  searched = {at_alpha(w.name, o.alpha) for w in study.words for o in w.optima}
  kib = lambda n, _: n.moves.kib
  over = lambda value: lambda role: plain(results.over_seeds(role, value))
  return Table.of(
    sorted(
      set(study.by_role) - searched,
      key=lambda role: (-results.over_seeds(role, kib).value, role),
    ),
    (Column("mark", "sign"), lambda role: "★" if role in best else ""),
    ("network", lambda role: role),
    (Column("formats", "soft"), lambda role: study.by_role[role].words),
    *cost_columns(results),
    (KIB, over(kib)),
    (number("of\nFP32", "{:.3f}"), over(_moved_share)),
    (
      number("SRAM\nKiB", "{:,.1f}"),
      over(lambda n, _: n.moves.sram_bits / 8192),
    ),
    (
      Column("energy, µJ", "bar", "{:.1f}"),
      over(lambda n, _: 1e6 * n.moves.joules),
    ),
    (test_column(results), lambda role: in_percent(results.test(role))),
    (percents("below\nFP32"), lambda role: in_percent(results.lost(role))),
    (percents("untrained\n%"), lambda role: untrained(results, role)),
    *([beside] if builder in _TABLE_3 else []),
    (Column("source", "soft"), lambda role: study.by_role[role].source),
    marks=lambda role: "best" if role in best else "",
    label="Block formats; ★ recommended by eq. 1",
  )
