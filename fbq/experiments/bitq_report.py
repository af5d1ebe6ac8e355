"""What a BitQ experiment leaves for people: table, pictures, page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from fbq.experiments import bitq_rows, bitq_sentences
from fbq.experiments.bitq_losses import ByFormat, Losses
from fbq.experiments.bitq_sentences import Scales
from fbq.experiments.bitq_settings import Word
from fbq.experiments.stages import machine_facts
from fbq.experiments.task import Task
from fbq.nets.graph import Net
from fbq.report import bitq as results
from fbq.report import bitq_plots, bitq_published, page, tables
from fbq.report.bitq import Outcome
from fbq.search import bitq
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
    front_error: share of the largest movement by which another assignment may
      be cheaper than a point of the front that loses no more.
    ablations: what eq. 1 goes without -> outcome.
  """

  word: Word
  choice: bitq.FormatChoice
  candidates: list[Outcome]
  by_alpha: Mapping[float, str]
  predicted: Mapping[float, float]
  front: Sequence[tuple[float, float]]
  front_error: float
  ablations: Mapping[str, Outcome]

  @property
  def largest(self) -> float:
    """Data movement of the widest formats, in bits."""
    return float(self.choice.table.bits(self.choice.largest))


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
    bitq_sentences.answer(
      s.word.name, best[s.word.name], fp32, config.alpha, test_count
    )
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
      "assumptions": bitq_sentences.assumptions(config, float_accuracy, task),
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
    scale_sentence=bitq_sentences.scale_sentence(scales, outcomes, lost, fp32),
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
      f"formats {len(s.candidates)} were trained. The line in the picture is "
      f"the whole predicted front, in {len(s.front)} points: for every "
      "assignment it has one that loses no more and moves at most "
      f"{s.front_error:.2%} of what the widest formats move in addition."
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
