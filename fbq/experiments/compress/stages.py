"""Steps whose results a workdir keeps: a stopped run goes on behind them."""

import jax
import jax.numpy as jnp
import numpy as np

from fbq.lab import points, rounded_point
from fbq.lab.kept import KeptNumbers, kept_arrays
from fbq.lab.lab import Lab
from fbq.lab.rounded_judge import RoundedJudge, in_batches
from fbq.lab.subject import Subject
from fbq.model import Model
from fbq.ptq import calibration, one_pass, rounded_layers
from fbq.ptq.rounded_layers import MOST_BITS, RoundedLayer
from fbq.schemes.fixed import Fixed
from fbq.search import sensitivity


def in_float(lab: Lab, subject: Subject) -> list[np.ndarray]:
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


def ranges(settings, lab: Lab, subject: Subject, batches):
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


def round_layers(
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


def harm(lab: Lab, judge: RoundedJudge):
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


def logits_of_points(
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
