"""What a BitQ experiment leaves for people: table, pictures, page."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fbq import nets
from fbq.experiments.bitq_losses import ByFormat, Losses
from fbq.experiments.bitq_settings import Word
from fbq.experiments.stages import machine_facts
from fbq.nets.graph import Net
from fbq.report import bitq as results
from fbq.report import bitq_plots, bitq_published, page, tables
from fbq.report.bitq import Outcome
from fbq.search import bitq
from fbq.search.format_losses import agreement
from fbq.train.log import Log
from hwsim.bfp.energy import Memories, network_traffic
from hwsim.bfp.formats import FP32, BlockFormat, block_format

_UNLIMITED = 1 << 50  # bits of a memory that holds everything


class Study(NamedTuple):
  """What was found for one word length.

  Attributes:
    word: its formats.
    choice: of eq. 1.
    candidates: trained networks to choose among: optima and uniform ones.
    by_alpha: alpha -> name of the predicted optimum.
    predicted: alpha -> its predicted objective.
    hull: (bits moved, predicted loss) of the optima of many alphas.
    ablations: what eq. 1 goes without -> outcome.
  """

  word: Word
  choice: bitq.Choice
  candidates: list[Outcome]
  by_alpha: Mapping[float, str]
  predicted: Mapping[float, float]
  hull: Sequence[tuple[float, float]]
  ablations: Mapping[str, Outcome]

  @property
  def largest(self) -> float:
    """Data movement of the widest formats, in bits."""
    return float(self.choice.table.bits(self.choice.largest))


class Scales(NamedTuple):
  """Accuracy lost for each nat: of weights and activations after training."""

  weights: float
  activations: float
  untrained: float


def write_report(
  workdir: Path,
  config: ConfigDict,
  net: Net,
  memories: Memories,
  outcomes: Sequence[Outcome],
  studies: Sequence[Study],
  losses: Losses,
  scales: Scales,
  lost: ByFormat,
  float_accuracy: float,
  test_count: int,
  seconds: Mapping[str, float],
  log: Log,
) -> dict[str, Any]:
  """Writes results.csv, front.png and report.html, prints the table.

  Args:
    outcomes: everything that was costed, "FP32" among them.
    lost: predicted loss of accuracy after training, by site and format.
    float_accuracy: before any further training.
    test_count: images behind a test accuracy.

  Returns:
    The summary for result.json.
  """
  fp32 = next(o for o in outcomes if o.name == "FP32")
  assert fp32.validation is not None
  best = {
    s.word.name: results.recommended(
      s.candidates, fp32.validation, s.largest, config.alpha
    )
    for s in studies
  }
  answers = [
    _answer(s.word.name, best[s.word.name], fp32, config.alpha, test_count)
    for s in studies
  ]
  names = {o.name for o in best.values()}
  sweep = _sweep(config, studies, best)
  pictures = {
    "front": bitq_plots.front(
      outcomes, best, _predicted(studies, fp32), test_count
    ),
    "energy": bitq_plots.energy(
      [o for o in outcomes if o.family != "BitQ" or o.name in names],
      names,
      (memories.dram_joules_per_bit, memories.sram_joules_per_bit),
    ),
    "alphas": bitq_plots.alphas(_lines(studies, fp32), config.alphas),
    "memory": bitq_plots.memory(sweep["network"], *sweep["ratios"]),
  }
  table_3 = _table_3(config, outcomes, best)
  _write_csv(workdir / "results.csv", net, outcomes)
  tables.write_atomically(workdir / "front.png", pictures["front"])
  html = page.render(
    "bitq.html",
    report={
      "network": net.name,
      "facts": machine_facts(),
      "assumptions": _assumptions(config, float_accuracy, test_count),
    },
    answers=answers,
    pictures=pictures,
    alpha=config.alpha,
    rows=_rows(outcomes, fp32, test_count),
    best=names,
    memory_bytes=config.memory_bytes,
    register_bytes=config.register_bytes,
    savings=_savings(studies, best, fp32),
    studies=[
      _study(s, best[s.word.name], fp32, net, memories, config, test_count)
      for s in studies
    ],
    validation_count=config.validation_images,
    calibration_count=config.calibration_images,
    losses={"text": losses.text, "passes": losses.passes},
    scale_sentence=_scale_sentence(scales, outcomes, lost, fp32),
    sweep=sweep,
    table_3=table_3,
    contradictions=bitq_published.CONTRADICTIONS,
    seconds=dict(seconds),
    config=config.to_dict(),
  )
  tables.write_atomically(workdir / "report.html", html.encode())
  log.console.print(results.console_table(outcomes, test_count, names))
  for answer in answers:
    log.say(answer)
  log.say(f"Report: {workdir / 'report.html'}")
  return {
    "net": net.name,
    "float_accuracy": float_accuracy,
    "scales": scales._asdict(),
    "recommended": {word: o.name for word, o in best.items()},
    "by_alpha": {
      s.word.name: {str(a): name for a, name in s.by_alpha.items()}
      for s in studies
    },
    "outcomes": {
      o.name: {
        "test": o.test,
        "validation": o.validation,
        "untrained_test": o.untrained_test,
        "dram_bits": o.dram_bits,
        "sram_bits": o.sram_bits,
        "joules": o.joules,
      }
      for o in outcomes
    },
  }


def _answer(word, best: Outcome, fp32, alpha, test_count) -> str:
  assert best.test is not None and fp32.test is not None
  apart = results.is_apart(best.test, fp32.test, test_count)
  return (
    f"{word}: {results.formats_in_words(best.formats)} ({best.name}) moves "
    f"{best.dram_bits / fp32.dram_bits:.1%} of what FP32 moves and takes "
    f"{best.joules / fp32.joules:.1%} of its energy, at {best.test:.2%} test "
    f"accuracy where FP32 has {fp32.test:.2%}, "
    + ("more" if apart else "less")
    + f" than two standard errors apart (alpha = {alpha:g})."
  )


def _assumptions(config, float_accuracy, test_count):
  return [
    f"The float network reads {float_accuracy:.2%} of the test images; every "
    f"network then sees the same {config.qat.steps} steps more, FP32 too.",
    f"{test_count} test images are renders of 360 digits that training never "
    f"saw. Networks are chosen by {config.validation_images} renders of "
    "training digits, so test accuracies are not what was chosen by. One seed.",
    "Data movement is modelled exactly, not measured: layers one by one from "
    f"DRAM to DRAM, through {config.memory_bytes} bytes of SRAM (hwsim/bfp). "
    "A memory this small makes tiling matter to so small a network, as 32 KB "
    "do at full size.",
    "Accuracy losses add up over tensors in the search; trained networks, not "
    "predictions, decide what is recommended.",
  ]


def _scale_sentence(scales: Scales, outcomes, lost, fp32) -> str:
  """How losses became accuracies, and how well networks were predicted."""
  known = [
    o
    for o in outcomes
    if o.test is not None
    and o.family in ("BitQ", "ablation")
    and all(f in lost[s] for s, f in o.formats.items())
  ]
  text = (
    "Training mends the noise of weights far better than that of activations, "
    "so each kind has a scale: one nat costs "
    f"{scales.weights:.2%} of accuracy for weights and "
    f"{scales.activations:.2%} for activations, measured on four networks in "
    "which one kind has one of the two coarsest uniform formats and all else "
    f"the finest ({scales.untrained:.2%} without training, on all uniform "
    "formats). Mixed networks had no part in it."
  )
  if len(known) < 3:
    return text
  predicted = [sum(lost[s][f] for s, f in o.formats.items()) for o in known]
  measured = [fp32.validation - o.validation for o in known]
  found = agreement(predicted, measured)
  error = np.median(np.abs(np.subtract(predicted, measured)))
  return (
    f"{text} For the {len(known)} mixed networks that were trained, predicted "
    f"and measured loss of accuracy have a rank correlation of "
    f"{found.spearman:.2f}; half are within {100 * error:.2f} points."
  )


def _rows(outcomes, fp32, test_count):
  return [
    {
      "o": o,
      "text": o.text or results.formats_in_words(o.formats),
      "share": o.dram_bits / fp32.dram_bits,
      "accuracy": results.accuracy_text(o.test, test_count),
    }
    for o in sorted(outcomes, key=lambda o: -o.dram_bits)
  ]


def _savings(studies, best, fp32):
  return [
    {
      "name": s.word.name,
      "ours": 1 - best[s.word.name].joules / fp32.joules,
      "paper": bitq_published.FIGURE_5.get(s.word.bits),
    }
    for s in studies
  ]


def _study(s: Study, best, fp32, net, memories, config, test_count):
  """What the page shows of one word length."""
  by_name = {o.name: o for o in s.candidates}
  measure = lambda o, a: results.objective(o, fp32.validation, s.largest, a)
  alphas, same = [], []
  for alpha, name in s.by_alpha.items():
    chosen = results.recommended(
      s.candidates, fp32.validation, s.largest, alpha
    )
    same += [alpha] * (chosen.name == best.name)
    alphas.append(
      {
        "alpha": alpha,
        "predicted": name,
        "predicted_objective": s.predicted[alpha],
        "measured_objective": measure(by_name[name], alpha),
        "best": chosen,
        "best_objective": measure(chosen, alpha),
      }
    )
  paper = bitq_published.TABLE_4.get(s.word.bits, {})
  ablations = [("BitQ", best)]
  ablations += list(s.ablations.items())
  return {
    "name": s.word.name,
    "sentence": (
      f"{best.name}: {results.formats_in_words(best.formats)}. The exact "
      f"optima of {len(s.by_alpha)} alphas are "
      f"{len(set(s.by_alpha.values()))} different networks; with uniform "
      f"formats {len(s.candidates)} were trained. All alphas from 1e-5 to 1000 "
      f"have {len(s.hull)} exact optima, the line in the picture."
    ),
    "layers": _layers(best, net, memories),
    "alphas": alphas,
    "alpha_sentence": (
      f"The network recommended at alpha = {config.alpha:g} is the best "
      f"measured one at alpha = {', '.join(f'{a:g}' for a in same)}. The paper "
      "finds the same result from 0.05 to 3 at 16 bits, and 0.15 to 1.5 at 8."
    ),
    "ablations": [
      {
        "name": name,
        "o": o,
        "accuracy": results.accuracy_text(
          o.untrained_test if name == "without QAT" else o.test, test_count
        ),
        "paper": paper.get(name),
      }
      for name, o in ablations
    ],
  }


def _layers(best: Outcome, net: Net, memories: Memories):
  """Formats and traffic of every layer with weights."""
  workload = net.workload
  widest = max(float(t.dram_bits) for t in best.traffic)
  rows = []
  for t in best.traffic:
    i = workload.index[t.name]
    sites = (
      workload.input_sites[i][0],
      workload.weight_site(workload.layers[i]),
      workload.output_sites[i],
    )
    rows.append(
      {
        "name": t.name,
        "formats": [None if s is None else best.formats[s] for s in sites],
        "tensor_bits": [float(bits) for bits in t.tensor_bits],
        "dram_bits": float(t.dram_bits),
        "sram_bits": float(t.sram_bits),
        "joules": t.joules(memories),
        "share": float(t.dram_bits) / widest,
        "tile": " ".join(map(str, t.tile[1:])),
      }
    )
  return rows


def _predicted(studies, fp32):
  """Word -> (bits moved, predicted test accuracy) of its hull."""
  found = {}
  for s in studies:
    bits, losses = zip(*s.hull, strict=True)
    found[s.word.name] = bits, [fp32.test - loss for loss in losses]
  return found


def _lines(studies, fp32):
  """Word -> network -> (accuracy lost, movement / largest)."""
  return {
    s.word.name: {
      o.name: (fp32.validation - o.validation, o.dram_bits / s.largest)
      for o in s.candidates
    }
    for s in studies
  }


def _sweep(config, studies, best):
  """Energy and traffic of a network of full size over memory sizes."""
  net = nets.build(config.sweep.builder, **config.sweep.arguments)
  formats: dict[str, BlockFormat] = {
    "FP32": FP32,
    "16 bits": block_format(16, 0, 1),
  }
  for s in studies:
    narrow = min(s.word.grid, key=lambda f: f.activation_bits)
    middle = min(
      s.word.grid,
      key=lambda f, o=best[s.word.name]: abs(f.activation_bits - _mean_bits(o)),
    )
    for f in (middle, narrow) if s.word.bits <= 8 else (narrow,):
      name = f"{s.word.name} <{f.exponent_bits}, {f.block_size}>"
      formats[name] = f
  sizes = list(config.sweep.memory_kilobytes)
  ratios, joules = {}, []
  for name, format_ in formats.items():
    one = dict.fromkeys(net.workload.sites, format_)
    least = _moved(net, one, Memories(_UNLIMITED))[0]
    found = [_moved(net, one, Memories(int(kb * 8192))) for kb in sizes]
    ratios[name] = [bits / least for bits, _ in found]
    joules.append([1e3 * energy for _, energy in found])
  return {
    "network": net.name,
    "names": list(formats),
    "ratios": (sizes, ratios),
    "rows": [
      {"size": size, "millijoules": column}
      for size, column in zip(sizes, zip(*joules, strict=True), strict=True)
    ],
  }


def _moved(net, formats, memories):
  traffic = network_traffic(net.workload, formats, memories)
  return (
    float(sum(t.dram_bits for t in traffic)),
    sum(t.joules(memories) for t in traffic),
  )


def _mean_bits(o: Outcome) -> float:
  return float(np.mean([float(f.activation_bits) for f in o.formats.values()]))


def _table_3(config, outcomes, best):
  """Our accuracies beside the paper's for the same family of networks."""
  paper = bitq_published.TABLE_3.get(config.net.builder)
  if paper is None or not {"BitQ16", "BitQ8"} <= set(best):
    return None
  by_name = {o.name: o for o in outcomes}
  ours = {
    "FP32": by_name["FP32"],
    "DBPS": by_name["DBPS"],
    "FlexBlock": by_name["FlexBlock FB16"],
    "BitQ16": best["BitQ16"],
    "FAST": by_name["FAST high"],
    "BSFP": by_name["BSFP"],
    "BitQ8": best["BitQ8"],
  }
  shown = lambda o: "–" if o.test is None else f"{100 * o.test:.2f}"
  return {
    "names": list(paper),
    "ours": [shown(ours[name]) for name in paper],
    "paper": [f"{value:.2f}" for value in paper.values()],
    "note": (
      "A small network on digits beside one of full size on ImageNet: the "
      "order of the methods may be compared, no number. FlexBlock: FB16; "
      "FAST: m = 4; the paper does not tell the modes it ran. BSFP is priced, "
      "not trained."
    ),
  }


def _write_csv(path: Path, net: Net, outcomes: Sequence[Outcome]) -> None:
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  numbers = ("dram_bits", "sram_bits", "joules")
  accuracies = ("test", "validation", "untrained_test", "divergence")
  sites = net.workload.sites
  columns = ["name", "family", "word", *numbers, *accuracies, "input_bits"]
  columns += ["weight_bits", "output_bits", "source"]
  writer.writerow([*columns, *(f"format:{site}" for site in sites)])
  for o in outcomes:
    row = [o.name, o.family, o.word]
    row += [repr(getattr(o, n)) for n in numbers]
    known = [getattr(o, n) for n in accuracies]
    row += ["" if value is None else repr(value) for value in known]
    row += [*map(repr, o.tensor_bits), o.source]
    formats = [o.formats[site] for site in sites]
    row += [
      f"{f.element_bits}+{f.exponent_bits}/{f.block_size}" for f in formats
    ]
    writer.writerow(row)
  tables.write_atomically(path, text.getvalue().encode())
