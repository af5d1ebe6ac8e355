"""Precisions without a search by training: measure, choose exactly, fine-tune.

How much each precision of each tensor harms the float network is measured on a
calibration set; under every budget of cycles, and the limits and rules given,
the assignment of least harm is then found exactly (`fbq.search.exact`).
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax

from fbq import precision
from fbq.experiments.exact.config import Exact, eight_cycles, problem_of
from fbq.experiments.exact.results import Chosen, front_rows
from fbq.files import write_atomically
from fbq.lab import fine_tuning, over_seeds, points, task_judge
from fbq.lab.calibration import calibrate
from fbq.lab.experiment import as_csv
from fbq.lab.fine_tuning import FineTuner
from fbq.lab.kept import kept
from fbq.lab.lab import Lab
from fbq.quantizers.site_ranges import Ranges
from fbq.search import (
  certificate,
  exact,
  explain,
  problem,
  sensitivity,
  value,
)
from hwsim import latency_io

HARMS = ("kl", "loss", "mse")  # attributes of `sensitivity.OutputChange`


class Choice(NamedTuple):
  """What the assignments of a seed were chosen by; see `Chosen`."""

  harm: dict[str, dict[int, float]]
  front: problem.Candidates
  images: int
  agreement: float | None
  certificates: list[certificate.Certificate]
  choices: float


def run(settings: Exact, lab: Lab) -> Chosen:
  """The best assignment under every budget, with its metric."""
  latency_io.save(lab.costs.table, lab.workdir / "latency_table.csv")
  recipe = fine_tuning.recipe_of(settings.qat)
  fine_tune = FineTuner(lab, recipe, settings.fine_tuning)
  seeds, choices = zip(
    *(of_seed(settings, lab, fine_tune, seed) for seed in settings.seeds),
    strict=True,
  )
  first, front = choices[0], choices[0].front
  return Chosen(
    over_seeds.assignments(lab, settings, seeds),
    settings.value,
    first.harm,
    tuple(
      zip(front.costs["cycles"].tolist(), (-front.value).tolist(), strict=True)
    ),
    int(front.error),
    first.images,
    tuple(choice.agreement for choice in choices),
    tuple(first.certificates),
    first.choices,
  )


def of_seed(
  settings: Exact, lab: Lab, fine_tune: FineTuner, seed: int
) -> tuple[over_seeds.OneSeed, Choice]:
  """The whole method for one seed, and what it chose by."""
  net, workdir = lab.net, lab.workdir
  prefix = points.prefix_of(settings.seeds, seed)

  # ---- Float network, ranges on training data
  start, batches, calibration, tuning = jax.random.split(
    jax.random.key(seed), 4
  )
  variables, float_judged = lab.float_network(
    f"{prefix}float", (start, batches)
  )
  with lab.clock.measure("calibration"):
    images, labels = lab.calibration_set(calibration)
    widths = lab.widths
    ranges, tensors = calibrate(net, variables, images, widths)

  # ---- Harm of every precision of every tensor, alone
  measured = kept(
    workdir / f"{prefix}sensitivities.json",
    functools.partial(_harm, lab, variables, ranges, images, labels),
  )
  harm = {
    site: {int(b): change[settings.value] for b, change in by_bits.items()}
    for site, by_bits in measured.items()
  }

  # ---- The exact choice under every budget, and the whole front
  with lab.clock.measure("exact choice"):
    choice = problem_of(settings, lab, value.from_harm(net, harm))
    eight = eight_cycles(lab)
    budgets = [int(share * eight) for share in settings.budgets]
    chosen = exact.best_value(choice, budgets)
    front = exact.front(choice, max(1, eight // 1000))
    proofs = certificate.certify(choice, front, chosen, budgets)
  write_atomically(
    workdir / f"{prefix}surrogate_front.csv", as_csv(front_rows(front))
  )
  lab.log.say(
    f"front of {len(front.value)} assignments, {front.costs['cycles'][0]:,} to "
    f"{front.costs['cycles'][-1]:,} cycles, exact"
    + f" to {front.error:,} cycles"
    * bool(front.error)
  )
  found = {
    f"exact-{share:.0%}": chosen.precision(i)
    for i, share in enumerate(settings.budgets)
  } | points.uniform(lab, settings.uniform_baselines)
  points.save_precisions(lab, found, prefix)

  # ---- What every other choice would have cost, by tensor
  (workdir / "reasons").mkdir(exist_ok=True)
  for name, budget in zip(found, budgets, strict=False):
    reasons = explain.explain(choice, found[name], {"cycles": budget})
    text = "\n".join(str(reason) for reason in reasons) + "\n"
    file = f"{prefix}{points.file_of(name)}.txt"
    write_atomically(workdir / "reasons" / file, text)

  # ---- Fine-tuning from the float network, by one compiled step for all
  starts = fine_tuning.starts(
    net, variables, tensors, fine_tune.recipe, ranges, widths
  )
  judged = points.fine_tuned(
    lab, fine_tune, variables, starts, found, tuning, prefix
  )

  # ---- What is said of each point, and how well harm foretold its loss
  details = {
    name: {"breaks": broken}
    for name, assignment in found.items()
    if (broken := _broken(choice, assignment))
  } | {
    name: {"budget": f"{budget:,} cycles", "harm": f"{-worth:.4g}"}
    for name, budget, worth in zip(found, budgets, chosen.value, strict=False)
  }
  return (
    over_seeds.OneSeed(seed, float_judged, found, judged, details),
    Choice(
      harm,
      front,
      len(images),
      _agreement(lab, harm, found, judged),
      proofs,
      certificate.assignments(choice),
    ),
  )


def _agreement(lab: Lab, harm, found, judged) -> float | None:
  """Rank correlation of the sum of harms with the metric that was lost."""
  from scipy import stats

  different = {
    points.digest(lab.net, bits): (
      sum(harm[site][b] for site, b in bits.items()),
      -judged[name].validation.accuracy,
    )
    for name, bits in found.items()
  }
  sums, losses = zip(*different.values(), strict=True)
  if len(set(sums)) < 2 or len(set(losses)) < 2:
    return None
  return float(stats.spearmanr(sums, losses).statistic)


def _harm(lab: Lab, variables, ranges: Ranges, images, labels) -> Mapping:
  """{site: {bits: {measure: harm}}}."""
  with lab.clock.measure("sensitivities"):
    judge, compared = task_judge.of(lab, variables, ranges, images, labels)
    found = sensitivity.sensitivities(
      judge, ladder=lab.ladder, compared=compared
    )
  lab.log.say(f"sensitivities: {found.passes} passes over {len(images)} images")
  return {
    site: {
      bits: {name: getattr(change, name) for name in HARMS}
      for bits, change in by_bits.items()
    }
    for site, by_bits in found.changes.items()
  }


def _broken(choice: problem.Problem, assignment: precision.Precision) -> str:
  """What of the limits and rules an assignment does not keep."""
  costs = problem.evaluate(choice, assignment).costs
  broken = [
    f"the limit on {name}"
    for name, most in choice.limits.items()
    if costs[name][0] > most
  ]
  bits = [{assignment[site] for site in group} for group in choice.groups]
  if any(
    len(b) > 1 or not b <= set(allowed)
    for b, allowed in zip(bits, choice.allowed, strict=True)
  ):
    broken.append("bounds or ties")
  return ", ".join(broken)
