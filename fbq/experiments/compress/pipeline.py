"""A network out of a file in mixed precision, without training.

Calibrated in one pass; every layer rounded at every precision, once; what each
precision of each tensor harms measured; under every budget the assignment of
least harm found exactly; its biases set right; judged on inputs held back; the
recommended one lowered to integers. Every step is kept in the workdir, so a run
that was stopped goes on from the layer or the point it was at.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.experiments.compress import budgets, integers
from fbq.experiments.compress.config import Compress
from fbq.experiments.compress.results import (
  Closeness,
  Compressed,
  LayerRounding,
)
from fbq.lab import over_seeds, points, rounded_point
from fbq.lab import subject as subject_lib
from fbq.lab.held_out import independent
from fbq.lab.judgement import Judgement
from fbq.lab.kept import KeptNumbers, kept_arrays
from fbq.lab.lab import Lab
from fbq.lab.rounded_judge import RoundedJudge, in_batches
from fbq.lab.subject import Subject
from fbq.model import Model
from fbq.ptq import calibration, one_pass, rounded_layers
from fbq.ptq.rounded_layers import MOST_BITS, RoundedLayer
from fbq.report.records import Cost
from fbq.schemes.fixed import Fixed
from fbq.search import problem, sensitivity, value
from fbq.train.evaluation import Judged
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
  in_float = _in_float(lab, subject)
  validation, test = rounded_point.labelled(subject, *in_float[1:])
  lab.adopt(lab.net, rounded_point.task_of(lab.net, validation, test))
  labels = validation.labels if subject.has_labels else None
  doubts = _doubts(in_float[1], labels) + _border(subject, in_float[2])
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
    ranges = _ranges(settings, lab, subject, batches)

  # ---- Every layer at every precision of weights, each once
  ladder = lab.ladder.weights
  with lab.clock.measure("rounding"):
    layers = _round(settings, lab, subject, ranges, batches)
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
    harm, passes = _harm(lab, judge)

  # ---- The exact choice under every budget, and uniform networks beside
  with lab.clock.measure("exact choice"):
    plan = budgets.plan(settings, lab, value.from_harm(lab.net, harm))
    found = budgets.choose(plan)
  found |= points.uniform(lab, settings.uniform_baselines)
  points.save_precisions(lab, found)

  # ---- Each different one with its means set right, and judged
  with lab.clock.measure("points"):
    logits = _points(settings, lab, subject, judge, found, validation, test)
  judged = {
    name: _judgement([v, t], (validation, test))
    for name, (v, t) in logits.items()
  }
  closeness = {
    name: _closeness(in_float[1:], both) for name, both in logits.items()
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
    if broken := _broken(plan, assignment):
      details[name] = {**details.get(name, {}), "breaks": broken}
  one = over_seeds.OneSeed(
    settings.seed,
    _judgement(in_float[1:], (validation, test)),
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
    _correlation(lab, harm, found, closeness),
    {
      name: budgets.microjoules_of(settings, lab, point.cycles)
      for name, point in kept.items()
      if settings.milliwatts
    },
    made,
    subject.notes,
  )


# ---- What is kept in the workdir


def _doubts(logits: np.ndarray, labels: np.ndarray | None) -> list[str]:
  """What makes the float network itself doubtful on these inputs."""
  said = logits.argmax(-1)
  most = np.bincount(said).max() / len(said)
  cure = "Check normalization and the order of channels"
  if labels is not None:
    right = np.mean(said == labels)
    if right > np.bincount(labels).max() / len(labels):
      return []
    return [
      f"the float network is right for {right:.1%} of the inputs, no more than "
      f"one class always. {cure}, and how labels are numbered: nothing that "
      "follows tells what fewer bits cost."
    ]
  if most <= 0.95:
    return []
  return [
    f"the float network gives {most:.0%} of the inputs one class, which any "
    f"network can agree with. {cure}, or give other inputs."
  ]


def _border(subject: Subject, logits: np.ndarray) -> list[str]:
  """What another border of images than the file's changes of the network."""
  if subject.in_file is None:
    return []
  net, variables = subject.in_file
  forward = jax.jit(lambda x: Model(net).apply(variables, x, False))
  given = in_batches(forward, subject.test.images, 32)
  found = sensitivity.compare(given, logits, given.argmax(-1))
  same = np.mean(given.argmax(-1) == logits.argmax(-1))
  return [
    f"images have a black border, where the file has {net.image_zero}: that "
    f"alone leaves {same:.1%} of the inputs that are reported their class, at "
    f"{found.kl:.2g} nats from the file's network in float; all else is "
    "compared with the float network that has this border."
  ]


def _in_float(lab: Lab, subject: Subject) -> list[np.ndarray]:
  """Logits of the float network: calibration, validation, test."""
  parts = {
    "calibration": subject.calibration,
    "validation": subject.validation.images,
    "test": subject.test.images,
  }

  def make():
    forward = jax.jit(lambda v, x: Model(lab.net).apply(v, x, False))
    run = lambda x: forward(subject.variables, x)
    return {name: in_batches(run, x, 32) for name, x in parts.items()}

  stored = kept_arrays(lab.workdir / rounded_point.FLOAT, make)
  return [stored[name] for name in parts]


def _ranges(settings, lab: Lab, subject: Subject, batches):
  """{site: {bits: range}} of activations; bits are those of the hardware."""
  bits = sorted({*lab.ladder.activations, MOST_BITS})

  def make():
    given = subject.ranges if settings.ranges == "file" else {}
    seen = {}
    if settings.ranges != "file":
      observe = calibration.observer(lab.net)
      seen = calibration.calibrate(observe, subject.variables, batches)
    rule = settings.ranges
    found = calibration.ranges(
      lab.net, seen, bits, rule, settings.percent, given
    )
    return {
      f"{site}|{b}": range_
      for site, by_bits in found.items()
      for b, range_ in by_bits.items()
    }

  found: dict[str, dict[int, np.ndarray]] = {}
  for key, range_ in kept_arrays(
    lab.workdir / "calibration/ranges.npz", make
  ).items():
    site, _, b = key.partition("|")
    found.setdefault(site, {})[int(b)] = range_
  return found


def _round(
  settings, lab: Lab, subject: Subject, ranges, batches
) -> dict[str, RoundedLayer]:
  """{layer: its weights at every precision}, each layer kept when it is done.

  Layers behind those that are kept are rounded for the same inputs.
  """
  net, params = lab.net, subject.variables["params"]
  nodes = [node for node in net.nodes if node.has_weights]
  ladder = lab.ladder.weights
  if settings.weights == "nearest":
    return {
      node.name: rounded_layers.nearest(
        node, np.asarray(params[f"{node.name}_kernel"]), ladder
      )
      for node in nodes
    }

  with lab.log.bar(f"rounding of {net.name}", len(nodes), 0) as move:
    done = 0

    def kept(name, make):
      nonlocal done
      path = lab.workdir / "rounded" / f"{name}.npz"
      found = kept_arrays(path, lambda: make()._asdict())
      done += 1
      move(done, {})
      return RoundedLayer(**found)

    return rounded_layers.round_layers(
      net,
      subject.variables,
      ranges,
      ladder,
      batches,
      settings.rounding_steps,
      kept,
    )


def _harm(lab: Lab, judge: RoundedJudge):
  """({site: {bits: KL}}, forward passes), each site kept when it is done."""
  stored = KeptNumbers(lab.workdir / "sensitivities.json")
  count, done = len(lab.net.workload.sites), 0
  with lab.log.bar(f"sensitivities of {lab.net.name}", count, 0) as move:

    def kept(site, make):
      nonlocal done
      found = stored.of(
        site, lambda: {b: change._asdict() for b, change in make().items()}
      )
      done += 1
      move(done, {})
      return {
        int(b): sensitivity.OutputChange(**change)
        for b, change in found.items()
      }

    found = sensitivity.sensitivities(judge, ladder=lab.ladder, kept=kept)
  return found.of("kl"), found.passes


def _points(
  settings, lab: Lab, subject: Subject, judge: RoundedJudge, found, *parts
) -> dict[str, list[np.ndarray]]:
  """{name: logits of each part}; each different assignment once."""
  result: dict[str, list[np.ndarray]] = {}
  with lab.log.bar(f"points of {lab.net.name}", len(found), 0) as move:
    for number, (name, assignment) in enumerate(found.items(), 1):

      def make(assignment=assignment):
        at = _variables(settings, lab, subject, judge, assignment)
        return rounded_point.packed(at, assignment) | {
          f"logits{i}": judge.logits(assignment, at, part.images)
          for i, part in enumerate(parts)
        }

      digest = points.digest(lab.net, assignment)
      path = rounded_point.path_of(lab.workdir, digest)
      stored = kept_arrays(path, make)
      result[name] = [stored[f"logits{i}"] for i in range(len(parts))]
      move(number, {})
  return result


def _variables(settings, lab: Lab, subject, judge, assignment):
  """Variables of an assignment, with its means set right."""
  at = judge.at(assignment)
  if not settings.correct:
    return at
  return one_pass.correct(
    lab.net,
    Fixed(),
    at,
    subject.variables,
    jnp.asarray(subject.calibration),
    jnp.asarray(judge.bits(assignment)),
  )


# ---- How points are judged


def _judgement(logits, parts) -> Judgement:
  return Judgement(
    *(
      Judged(
        found.argmax(-1) == np.asarray(part.labels),
        independent(len(found)),
      )
      for found, part in zip(logits, parts, strict=True)
    )
  )


def _closeness(in_float, logits) -> Closeness:
  """KL divergence and agreement, in validation and test."""
  kl = [
    sensitivity.compare(reference, found, reference.argmax(-1)).kl
    for reference, found in zip(in_float, logits, strict=True)
  ]
  same = logits[1].argmax(-1) == in_float[1].argmax(-1)
  return Closeness(kl[1], float(same.mean()), kl[0])


def _broken(plan: budgets.Plan, assignment: precision.Precision) -> str:
  """What of the limits and bounds an assignment does not keep."""
  costs = problem.evaluate(plan.problem, assignment).costs
  broken = [
    f"the limit on {name}"
    for name, most in plan.problem.limits.items()
    if costs[name][0] > most
  ]
  allowed = zip(plan.problem.groups, plan.problem.allowed, strict=True)
  if any(assignment[s] not in bits for group, bits in allowed for s in group):
    broken.append("bounds")
  return ", ".join(broken)


def _correlation(lab: Lab, harm, found, closeness) -> float | None:
  """Rank correlation of the sum of harms with what points came to."""
  from scipy import stats

  different = {
    points.digest(lab.net, bits): (
      sum(harm[site][b] for site, b in bits.items()),
      closeness[name].validation_kl,
    )
    for name, bits in found.items()
  }
  sums, divergences = zip(*different.values(), strict=True)
  if len(set(sums)) < 3 or len(set(divergences)) < 3:
    return None
  return float(stats.spearmanr(sums, divergences).statistic)


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
