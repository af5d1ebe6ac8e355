"""How networks are judged, and what makes the judgement doubtful."""

import jax
import numpy as np

from fbq import precision
from fbq.experiments.compress import budgets
from fbq.experiments.compress.results import Closeness
from fbq.lab import points
from fbq.lab.held_out import independent
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.lab.rounded_judge import in_batches
from fbq.lab.subject import Subject
from fbq.model import Model
from fbq.search import problem, sensitivity
from fbq.train.evaluation import Judged


def doubts(logits: np.ndarray, labels: np.ndarray | None) -> list[str]:
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


def border(subject: Subject, logits: np.ndarray) -> list[str]:
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


def judgement(logits, parts) -> Judgement:
  """Classes that logits give, against labels, in validation and test."""
  return Judgement(
    *(
      Judged(
        found.argmax(-1) == np.asarray(part.labels),
        independent(len(found)),
      )
      for found, part in zip(logits, parts, strict=True)
    )
  )


def closeness(in_float, logits) -> Closeness:
  """KL divergence and agreement, in validation and test."""
  kl = [
    sensitivity.compare(reference, found, reference.argmax(-1)).kl
    for reference, found in zip(in_float, logits, strict=True)
  ]
  same = logits[1].argmax(-1) == in_float[1].argmax(-1)
  return Closeness(kl[1], float(same.mean()), kl[0])


def broken(plan: budgets.Plan, assignment: precision.Precision) -> str:
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


def correlation(lab: Lab, harm, found, closeness) -> float | None:
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
