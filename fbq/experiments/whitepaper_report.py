"""What a run of the whitepaper's tables leaves: numbers, pictures, a page."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq.experiments.stages import machine_facts
from fbq.experiments.task import Task
from fbq.nets.graph import Net
from fbq.ptq.folding import Spread
from fbq.report import (
  page,
  tables,
  whitepaper,
  whitepaper_claims,
  whitepaper_plots,
  whitepaper_published,
)
from fbq.report.shootout import mean
from fbq.report.whitepaper import FLOAT, Case, known
from fbq.report.whitepaper_claims import Verdict
from fbq.train.log import Log
from hwsim import proxies

_FLOAT_BITS = 32


class Study(NamedTuple):
  """A network after every recipe.

  Attributes:
    net: in float.
    accuracies: case -> of each seed.
    spreads: of each seed, of the float network.
    diverged: names of trainings that did, and count as chance.
  """

  net: Net
  accuracies: dict[Case, list[float]]
  spreads: list[list[Spread]]
  diverged: list[str]


def assignment(net: Net, case: Case) -> dict[str, int]:
  """Bits of every site: those of the case, and of the image as ever.

  32 stands for float.
  """
  weights, activations = (
    bits or _FLOAT_BITS for bits in (case.weight_bits, case.activation_bits)
  )
  return {
    site: weights if site.endswith(".weight") else activations
    for site in net.workload.sites
  } | net.fixed_bits


def weight_bytes(net: Net, case: Case) -> int:
  """Of all weights, without biases and batch norms."""
  return proxies.weight_bytes(net.workload, assignment(net, case))


def write_report(
  workdir: Path,
  config: ConfigDict,
  study: Study,
  widths: Mapping[float, Study],
  task: Task,
  seconds: Mapping[str, float],
  log: Log,
) -> dict[str, Any]:
  """Writes results.csv, pictures and report.html, prints the tables.

  Args:
    study: of the network of the tables.
    widths: width -> study of the network of that width.
    task: that accuracies are of.

  Returns:
    The summary for result.json.
  """
  builder, name = config.net.builder, study.net.name
  verdicts = whitepaper_claims.verdicts(builder, study.accuracies)
  if len(widths) > 1:
    verdicts.append(_narrow_against_wide(widths))
  _write_csv(workdir / "results.csv", config.seeds, [study, *widths.values()])
  pictures = {
    "losses": whitepaper_plots.losses(builder, study.accuracies),
    "widths": whitepaper_plots.widths(_points(widths)) if widths else None,
  }
  for key, picture in pictures.items():
    if picture is not None:
      tables.write_atomically(workdir / f"{key}.png", picture)
  why = _why(study.spreads, config.seeds)
  answer = _answer(name, verdicts)
  html = page.render(
    "whitepaper.html",
    report={
      "network": name,
      "facts": machine_facts(),
      "assumptions": [
        *_assumptions(config, task),
        *_diverged([study, *widths.values()]),
      ],
    },
    answer=answer,
    why=why,
    family=whitepaper_published.FAMILIES.get(builder, ""),
    in_float=known(mean(study.accuracies[FLOAT])),
    published_float=whitepaper_published.in_float(builder),
    tables=[
      (table, whitepaper.cells(builder, table, study.accuracies))
      for table in whitepaper.TABLES
    ],
    verdicts=verdicts,
    spreads=list(zip(*study.spreads, strict=True)),
    points=sorted(_points(widths)),
    pictures=pictures,
    seeds=config.seeds,
    seconds=dict(seconds),
    config=config.to_dict(),
  )
  tables.write_atomically(workdir / "report.html", html.encode())
  for table in whitepaper.TABLES:
    rows = {name: (builder, study.accuracies)}
    log.console.print(whitepaper.console_table(table, rows))
  for verdict in verdicts:
    log.say(f"{verdict.word or 'here'}: {verdict.claim.title}: {verdict.text}")
  log.say(f"{answer} {why}")
  log.say(f"Report: {workdir / 'report.html'}")
  return {
    "net": name,
    "builder": builder,
    "seeds": list(config.seeds),
    "parameters": study.net.parameter_count,
    "accuracies": _by_name(study),
    "diverged": study.diverged,
    "verdicts": {
      v.claim.title: {
        "points": 100 * v.ours.value,
        "standard_error": 100 * v.ours.error,
        "published": None if v.theirs is None else 100 * v.theirs,
        "is_above": v.is_above,
        "verdict": v.word,
      }
      for v in verdicts
    },
    "widths": {f"{width:g}": _by_name(s) for width, s in widths.items()},
    "spreads": [[row._asdict() for row in rows] for rows in study.spreads],
  }


def _by_name(study: Study) -> dict[str, list[float]]:
  return {case.name: list(found) for case, found in study.accuracies.items()}


def _narrow_against_wide(widths: Mapping[float, Study]) -> Verdict:
  """Whether the narrowest network loses more than the widest."""
  ends = [widths[width] for width in (min(widths), max(widths))]
  narrow, wide = (
    whitepaper_claims.lost(study.accuracies, whitepaper.W4A8) for study in ends
  )
  claim = whitepaper_claims.Claim(
    f"lost by width {min(widths):g} - by width {max(widths):g}, 4-bit weights, "
    "trained",
    *(whitepaper.W4A8, whitepaper.W4A8, 0.0),
    "narrow networks lose more",
    "narrow networks lose no more",
  )
  apart = whitepaper_claims.differences(narrow, wide)
  return whitepaper_claims.verdict(claim, apart, None)


def _answer(name: str, verdicts: Sequence[Verdict]) -> str:
  words = [v.word for v in verdicts]
  agree = words.count(whitepaper_claims.AGREES)
  differ = words.count(whitepaper_claims.DIFFERS)
  total = len([word for word in words if word])
  if not total:
    return f"{name} has no counterpart in the whitepaper's tables."
  return (
    f"Of {total} findings of the whitepaper, {agree} show on {name}, {differ} "
    f"do not, and the seeds do not decide {total - agree - differ}."
  )


def _why(spreads: Sequence[Sequence[Spread]], seeds: Sequence[int]) -> str:
  """What one grid for a layer comes to here."""
  worst = [max(rows, key=lambda row: row.after) for rows in spreads]
  return (
    "Why one grid for a layer can fail: folding divides each channel by the "
    "root of its variance. In the worst layer of each seed the widest channel "
    "then has "
    + ", ".join(
      f"{row.after:.3g} times the range of the median one ({row.layer}, seed "
      f"{seed}: {row.before:.2g} before folding; variance {row.variance:.1g}; "
      f"{row.lost:.0%} of the channels become zeros in 8 bits)"
      for seed, row in zip(seeds, worst, strict=True)
    )
    + "."
  )


def _assumptions(config: ConfigDict, task: Task) -> list[str]:
  float_steps, steps = (
    task.steps(config[stage]) for stage in ("float_training", "qat")
  )
  return [
    f"± is the standard error over {len(config.seeds)} seeds, of start, "
    "batches and calibration images; test images are the same for all, so it "
    "says nothing about others.",
    "A claim is above or not above its bound by a one-sided t-test at 95 % on "
    "differences within seeds; it agrees if the published difference is on the "
    "same side.",
    "Batch norms are folded into the weights before these are quantized, but "
    "where a column says otherwise. Asymmetric grids have a zero-point, "
    "symmetric ones are restricted to -127 .. 127; the classifier has one grid "
    "for all channels.",
    f"Calibration: smallest and largest number of {config.calibration_images} "
    "training images.",
    f"Training (QAT): {steps} steps after {float_steps} in floating point, "
    "weights by their smallest and largest of the moment, activations by "
    "moving averages of them, straight-through; batch norms corrected, and "
    f"frozen after {config.qat.freeze_share:.0%} of the steps.",
    "Images have 8 bits throughout; all other activations those of the column, "
    "sums and signed ones included, which fbq's deployment keeps at 8.",
    "Published numbers are of full size on ImageNet; the same family is not "
    "the same network.",
    task.about_test,
  ]


def _diverged(studies: Sequence[Study]) -> list[str]:
  names = dict.fromkeys(name for study in studies for name in study.diverged)
  if not names:
    return []
  return [f"Training diverged and counts as chance: {', '.join(names)}."]


def _points(
  widths: Mapping[float, Study],
) -> list[whitepaper_plots.Point]:
  return [
    whitepaper_plots.Point(
      width,
      case,
      weight_bytes(study.net, case),
      known(mean(study.accuracies[case])),
    )
    for width, study in widths.items()
    for case in (FLOAT, *whitepaper.WIDTH_CASES)
  ]


def _write_csv(
  path: Path, seeds: Sequence[int], studies: Sequence[Study]
) -> None:
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(
    (
      *("net", "case", "method", "weight_bits", "activation_bits", "form"),
      *("per_channel", "folded", "weight_bytes", "seed", "accuracy"),
    )
  )
  writer.writerows(dict.fromkeys(_csv_rows(seeds, studies)))
  tables.write_atomically(path, text.getvalue().encode())


def _csv_rows(
  seeds: Sequence[int], studies: Sequence[Study]
) -> Iterator[tuple]:
  for study in studies:
    for case, accuracies in study.accuracies.items():
      size = weight_bytes(study.net, case)
      for seed, accuracy in zip(seeds, accuracies, strict=True):
        yield (study.net.name, case.name, *case, size, seed, repr(accuracy))
