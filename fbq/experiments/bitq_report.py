"""What a BitQ experiment leaves for people: table, pictures, page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from fbq.experiments import bitq_rows
from fbq.experiments.bitq_losses import ByFormat, Losses
from fbq.experiments.bitq_settings import Word
from fbq.experiments.stages import machine_facts
from fbq.experiments.task import Task
from fbq.nets.graph import Net
from fbq.report import bitq as results
from fbq.report import bitq_plots, bitq_published, page, tables
from fbq.report.bitq import Outcome
from fbq.search import bitq
from fbq.search.format_losses import agreement
from fbq.train.log import Log
from hwsim.bfp.energy import Memories


class Study(NamedTuple):
  """What was found for one word length.

  Attributes:
    word: its formats.
    choice: of eq. 1.
    candidates: trained networks to choose among: optima and uniform ones.
    by_alpha: alpha -> name of the predicted optimum.
    predicted: alpha -> its predicted objective.
    front: (bits moved, predicted loss), cheapest first.
    is_whole: whether it is the whole front of `bitq.front`, or else its convex
      hull.
    ablations: what eq. 1 goes without -> outcome.
  """

  word: Word
  choice: bitq.Choice
  candidates: list[Outcome]
  by_alpha: Mapping[float, str]
  predicted: Mapping[float, float]
  front: Sequence[tuple[float, float]]
  is_whole: bool
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
  task: Task,
  seconds: Mapping[str, float],
  log: Log,
) -> dict[str, Any]:
  """Writes results.csv, front.png and report.html, prints the table.

  Args:
    outcomes: everything that was costed, "FP32" among them.
    lost: predicted loss of accuracy after training, by site and format.
    float_accuracy: before any further training.
    task: that accuracies are of.

  Returns:
    The summary for result.json.
  """
  test_count = task.test_count
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
  sweep = bitq_rows.sweep(config, studies, best)
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
  table_3 = bitq_rows.table_3(config, outcomes, best)
  bitq_rows.write_csv(workdir / "results.csv", net, outcomes)
  tables.write_atomically(workdir / "front.png", pictures["front"])
  html = page.render(
    "bitq.html",
    report={
      "network": net.name,
      "facts": machine_facts(),
      "assumptions": _assumptions(config, float_accuracy, task),
    },
    answers=answers,
    pictures=pictures,
    alpha=config.alpha,
    rows=bitq_rows.rows(outcomes, fp32, test_count),
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


def _assumptions(config, float_accuracy, task):
  return [
    f"The float network reads {float_accuracy:.2%} of the test images; every "
    f"network then sees the same {task.steps(config.qat)} steps more, FP32 "
    "too.",
    f"{task.about_test} Networks are chosen by {config.validation_images} "
    "images of the training split, so test accuracies are not what was chosen "
    "by. One seed.",
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
      f"formats {len(s.candidates)} were trained. The line in the picture has "
      f"{len(s.front)} points, "
      + (
        "the whole predicted front."
        if s.is_whole
        else "the convex hull of the predicted front, which has too many."
      )
    ),
    "layers": bitq_rows.layers(best, net, memories),
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


def _predicted(studies, fp32):
  """Word -> (bits moved, predicted test accuracy) of its front."""
  found = {}
  for s in studies:
    bits, losses = zip(*s.front, strict=True)
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
