"""Precisions without a search by training: measure, choose exactly, fine-tune.

How much each precision of each tensor harms the float network is measured on a
calibration set; under every budget of cycles, and the limits and rules given,
the assignment of least harm is then found exactly (`fbq.search.exact`).
"""

import csv
import io
import json
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import fine_tuning, settings
from fbq.experiments.exact_settings import HARMS, check
from fbq.experiments.free_bits_report import write_report
from fbq.experiments.stages import Lab, calibrate, digest
from fbq.experiments.workdir import finish, opened
from fbq.model import Model
from fbq.report.tables import write_atomically
from fbq.schemes.fixed import Fixed
from fbq.search import exact, explain, problem, sensitivity, value
from fbq.search.judge import Judge
from fbq.train import steps
from hwsim import latency_io


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks and costs
  setup = check(config)
  net, table = setup.net, setup.table
  work = opened(workdir, settings.claim_of(config))
  if work is None:
    return
  fingerprint, log, clock = work
  latency_io.save(table, workdir / "latency_table.csv")
  lab = Lab(config, net, setup.task, workdir, fingerprint, log, clock)

  # ---- Float training, ranges
  keys = jax.random.split(jax.random.key(config.seed), 4)
  variables, float_accuracy = lab.float_network("float", keys[:2])
  with clock.measure("calibration"):
    images, labels = lab.calibration_set(keys[2])
    ranges, tensors = calibrate(net, variables, images)

  # ---- Harm of every precision of every tensor, alone
  path = workdir / "sensitivities.json"
  if not path.exists():
    with clock.measure("sensitivities"):
      forward = steps.compile_once(
        lambda v, x, b: Model(net, Fixed()).apply(v, x, False, b)
      )
      judge = Judge(
        net, forward, variables, ranges, np.asarray(images), np.asarray(labels)
      )
      found = sensitivity.sensitivities(judge)
    log.say(f"sensitivities: {found.passes} passes over {len(images)} images")
    harm = {
      site: {
        bits: {name: getattr(change, name) for name in HARMS}
        for bits, change in by_bits.items()
      }
      for site, by_bits in found.changes.items()
    }
    write_atomically(path, (json.dumps(harm, indent=1) + "\n").encode())
  harm = {
    site: {int(b): change[config.value] for b, change in by_bits.items()}
    for site, by_bits in json.loads(path.read_text()).items()
  }

  # ---- The exact choice under every budget, and the whole front
  with clock.measure("exact choice"):
    choice = setup.problem(value.from_harm(net, harm))
    budgets = [int(share * setup.eight_cycles) for share in config.budgets]
    chosen = exact.best_value(choice, budgets)
    whole = exact.front(choice, max(1, setup.eight_cycles // 1000))
  _write_front(workdir / "surrogate_front.csv", whole)
  log.say(
    f"front of {len(whole.value)} assignments, {whole.costs['cycles'][0]:,} to "
    f"{whole.costs['cycles'][-1]:,} cycles, exact to {whole.error:,} cycles"
  )
  assignments = {
    f"exact-{share:.0%}": chosen.precision(i)
    for i, share in enumerate(config.budgets)
  } | {
    f"{bits}/{bits}": precision.uniform(net, bits)
    for bits in config.uniform_baselines
  }
  for folder in ("precision", "reasons"):
    (workdir / folder).mkdir(exist_ok=True)
  for name, assignment in assignments.items():
    file = name.replace("/", "-").replace("%", "")
    write_atomically(
      workdir / "precision" / f"{file}.json",
      precision.to_json(net, assignment).encode(),
    )
  for name, budget in zip(assignments, budgets, strict=False):
    reasons = explain.explain(choice, assignments[name], {"cycles": budget})
    text = "\n".join(str(reason) for reason in reasons) + "\n"
    file = workdir / "reasons" / f"{name.replace('%', '')}.txt"
    write_atomically(file, text.encode())

  # ---- Fine-tuning, once for each different assignment
  recipe = fine_tuning.recipe_of(config.qat)
  starts = fine_tuning.starts(net, variables, tensors, recipe, ranges)
  fine_tune, accuracies = fine_tuning.FineTuner(lab, recipe), {}
  for name, assignment in assignments.items():
    case = digest(net, assignment)
    if case not in accuracies:
      accuracies[case] = fine_tune(
        f"fine-tune-{case}", variables, starts, assignment, keys[3]
      )
      log.say(f"{name}: test accuracy {accuracies[case]:.2%}")

  # ---- Report, and the mark that all is done
  details = {
    name: {"breaks": broken}
    for name, assignment in assignments.items()
    if (broken := _broken(choice, assignment))
  } | {
    name: {"budget": f"{budget:,} cycles", "harm": f"{-worth:.4g}"}
    for name, budget, worth in zip(
      assignments, budgets, chosen.value, strict=False
    )
  }
  summary = write_report(
    workdir,
    config,
    net,
    setup.target,
    table,
    assignments,
    {n: accuracies[digest(net, a)] for n, a in assignments.items()},
    float_accuracy,
    details,
    {},
    {},
    setup.task,
    clock.seconds,
    log,
  )
  finish(workdir, summary)


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


def _write_front(path: Path, front: problem.Candidates) -> None:
  """One row per assignment on the front: costs, harm, bits of every site."""
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  sites = [f"bits:{site}" for site in front.sites]
  writer.writerow([*front.costs, "harm", *sites])
  for i in range(len(front.value)):
    costs = [int(cost[i]) for cost in front.costs.values()]
    writer.writerow([*costs, repr(-float(front.value[i])), *front.bits[i]])
  write_atomically(path, text.getvalue().encode())
