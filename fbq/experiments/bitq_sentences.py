"""What the report of a BitQ experiment says in words."""

from typing import NamedTuple

import numpy as np

from fbq.report import bitq as results
from fbq.report.bitq import Outcome
from fbq.search.format_losses import agreement


class Scales(NamedTuple):
  """Accuracy lost for each nat: of weights and activations after training."""

  weights: float
  activations: float
  untrained: float


def answer(word, best: Outcome, fp32, alpha, test_count) -> str:
  """What is recommended for a word length, beside FP32."""
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


def assumptions(config, float_accuracy, task) -> list[str]:
  """What the figures rest on."""
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


def scale_sentence(scales: Scales, outcomes, lost, fp32) -> str:
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
