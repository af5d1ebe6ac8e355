"""A network out of a file in mixed precision, without training.

Calibrated in one pass; every layer rounded at every precision, once; what each
precision of each tensor harms measured; under every budget the assignment of
least harm found exactly; its biases set right; judged on inputs held back; the
recommended one lowered to integers. Every step is kept in the workdir, so a run
that was stopped goes on from the layer or the point it was at.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fbq.experiments.compress import budgets, integers, judging, stages
from fbq.experiments.compress.config import Compress
from fbq.experiments.compress.results import (
  Compressed,
  LayerRounding,
)
from fbq.lab import over_seeds, points, rounded_point
from fbq.lab import subject as subject_lib
from fbq.lab.lab import Lab
from fbq.lab.rounded_judge import RoundedJudge
from fbq.lab.subject import Subject
from fbq.ptq.rounded_layers import RoundedLayer
from fbq.report.records import Cost
from fbq.search import value
from hwsim import latency_io

# What budgets are of -> what of the recommended point is to be least
_LEAST: dict[str, Cost] = {
  "cycles": "cycles",
  "energy": "cycles",
  "flash": "weight_bytes",
  "l2": "peak_activation_bytes",
}


def run(settings: Compress, lab: Lab) -> Compressed:
  """The whole method."""
  # ---- The network, and inputs that it is judged on
  latency_io.save(lab.costs.table, lab.workdir / "latency_table.csv")
  with lab.clock.measure("inputs"):
    subject = subject_lib.of(settings)
    rounded_point.refuse_changed(lab.workdir, subject)
  in_float = stages.in_float(lab, subject)
  validation, test = rounded_point.labelled(subject, *in_float[1:])
  lab.adopt(lab.net, rounded_point.task_of(lab.net, validation, test))
  labels = validation.labels if subject.has_labels else None
  doubts = judging.doubts(in_float[1], labels) + judging.border(
    subject, in_float[2]
  )
  for doubt in doubts:
    lab.log.say(f"warning: {doubt}")

  # ---- Ranges of activations, in one pass
  lab.log.say(
    f"{lab.net.name}: {len(subject.calibration)} inputs to calibrate with, "
    f"{len(validation.images)} to choose by, {len(test.images)} to report"
  )
  batches = [
    subject.calibration[i : i + settings.batch_size]
    for i in range(0, len(subject.calibration), settings.batch_size)
  ]
  batches = [x for x in batches if len(x) == len(batches[0])]
  with lab.clock.measure("calibration"):
    ranges = stages.ranges(settings, lab, subject, batches)

  # ---- Every layer at every precision of weights, each once
  ladder = lab.ladder.weights
  with lab.clock.measure("rounding"):
    layers = stages.round_layers(settings, lab, subject, ranges, batches)
  judge = RoundedJudge(
    lab.net,
    subject.variables,
    layers,
    ladder,
    ranges,
    subject.calibration,
    in_float[0].argmax(-1),
    min(settings.batch_size, len(subject.calibration)),
  )

  # ---- What every precision of every tensor harms, alone
  with lab.clock.measure("sensitivities"):
    harm, passes = stages.harm(lab, judge)

  # ---- The exact choice under every budget, and uniform networks beside
  with lab.clock.measure("exact choice"):
    plan = budgets.plan(settings, lab, value.from_harm(lab.net, harm))
    found = budgets.choose(plan)
  found |= points.uniform(lab, settings.uniform_baselines)
  points.save_precisions(lab, found)

  # ---- Each different one with its means set right, and judged
  with lab.clock.measure("points"):
    logits = stages.logits_of_points(
      settings, lab, subject, judge, found, validation, test
    )
  judged = {
    name: judging.judgement([v, t], (validation, test))
    for name, (v, t) in logits.items()
  }
  closeness = {
    name: judging.closeness(in_float[1:], both) for name, both in logits.items()
  }
  for name in found:
    lab.log.say(
      f"{name}: {judged[name]}, KL {closeness[name].kl:.4f} nats to the float "
      "network"
    )

  # ---- The record, with what is recommended in integers
  details = {
    name: {"budget": f"{most:,} {plan.cost}"}
    for name, most in plan.budgets.items()
  }
  for name, assignment in found.items():
    if broken := judging.broken(plan, assignment):
      details[name] = {**details.get(name, {}), "breaks": broken}
  one = over_seeds.OneSeed(
    settings.seed,
    judging.judgement(in_float[1:], (validation, test)),
    found,
    judged,
    details,
  )
  assignments = dataclasses.replace(
    over_seeds.assignments(lab, settings, [one]),
    assumptions=(*doubts, *_assumptions(settings, lab, subject)),
    cost=_LEAST[settings.cost],
  )
  best = assignments.best.point
  with lab.clock.measure("integers"):
    made = integers.export(
      lab,
      best.precision,
      rounded_point.load(
        lab.workdir, points.digest(lab.net, best.precision), best.precision
      )[0],
      test,
    )
  kept = {point.name: point for point in assignments.points}
  return Compressed(
    assignments,
    subject.has_labels,
    {name: closeness[name] for name in kept},
    harm,
    passes,
    len(subject.calibration),
    tuple(_roundings(layers, ladder)),
    judging.correlation(lab, harm, found, closeness),
    {
      name: budgets.microjoules_of(settings, lab, point.cycles)
      for name, point in kept.items()
      if settings.milliwatts
    },
    made,
    subject.notes,
  )


def _roundings(layers: Mapping[str, RoundedLayer], ladder):
  for name, layer in layers.items():
    for k, bits in enumerate(ladder):
      errors = layer.error[k], layer.nearest_error[k]
      known = not np.isnan(errors).any()
      yield LayerRounding(
        name, bits, *(map(float, errors) if known else (None, None))
      )


def _assumptions(settings, lab: Lab, subject: Subject) -> tuple[str, ...]:
  """Sentences about what the numbers rest on."""
  simulated = all(p == "simulated" for p in lab.costs.table.provenance)
  measured = (
    "simulated tile by tile, not measured"
    if simulated
    else ("those of measured layers where there are any, else simulated")
  )
  judged = (
    "Accuracy is that of labels, which calibration does not see."
    if subject.has_labels
    else "Inputs have no labels: what is told is agreement with the float "
    "network's class, which is no accuracy. A network that agrees always is as "
    "right as the float network, and as wrong."
  )
  energy = (
    f"Energy is {settings.milliwatts:g} mW times the time of the cycles, and "
    "orders assignments as they do: what traffic between memories takes is not "
    "told apart, as no constants of it are known here for such chips."
  )
  return (
    f"Cycles are {measured}.",
    points.about_outputs(lab.costs),
    f"{len(subject.calibration)} inputs calibrate, round and measure harm, "
    f"ranges and roundings in whole batches of {settings.batch_size} or all; "
    f"{len(subject.validation.images)} others choose, "
    f"{len(subject.test.images)} others are reported.",
    judged,
    "Each layer was rounded once at every precision, for what the layers "
    "before it give at the same one; every assignment reuses that.",
    "A single split of the inputs, which tells nothing of other splits.",
    *((energy,) if settings.milliwatts else ()),
  )
