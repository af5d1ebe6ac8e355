"""Quantization-aware training at uniform bits, by one rule or several.

For each seed: float training, calibration, then training by every rule, on the
same batches; accuracies before and after beside the float network's.
"""

import statistics
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from fbq import norms
from fbq.experiments.fine_tuning import FineTuner, starts
from fbq.experiments.qat_settings import Setup, check
from fbq.experiments.stages import (
  Lab,
  activations,
  initial_variables,
  machine_facts,
)
from fbq.experiments.workdir import finish, opened
from fbq.model import Model
from fbq.report import page, qat
from fbq.report.qat import Outcome
from fbq.report.tables import write_atomically
from fbq.train.log import Log


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks, data
  setup = check(config)
  net = setup.net
  work = opened(workdir, config.to_dict())
  if work is None:
    return
  fingerprint, log, clock = work
  lab = Lab(config, net, setup.task, workdir, fingerprint, log, clock)

  # ---- One compiled step for each rule, whatever the seed
  stage, more_steps = "fine_tuning", 0
  if config.start == "scratch":  # as many steps as float and fine-tuning take
    stage, more_steps = "float_training", lab.task.steps(config.fine_tuning)
  tuners = {
    method: FineTuner(
      lab,
      recipe,
      stage,
      more_steps,
      config.range_learning_rates.get(method, recipe.scheme.rule.learning_rate),
    )
    for method, recipe in setup.recipes.items()
  }
  outcomes: list[Outcome] = []
  for seed in config.seeds:
    # ---- Float training, calibration
    keys = jax.random.split(jax.random.key(seed), 4)
    variables, float_accuracy = lab.float_network(f"seed{seed}-float", keys[:2])
    with clock.measure("calibration"):
      images, _ = lab.calibration_set(keys[2])
      if config.start == "scratch":
        variables = _normalized(
          net, initial_variables(Model(net), keys[0]), images
        )
      tensors = activations(net, variables, images)

    # ---- Training by every rule
    for method, tuner in tuners.items():
      with clock.measure("calibration"):
        ranges = starts(net, variables, tensors, tuner.recipe)
      start = tuner.start(variables, ranges, setup.assignment)
      with clock.measure("evaluation before training"):
        before = tuner.accuracy(start, setup.assignment)
      after = tuner(
        f"seed{seed}-{method}", variables, ranges, setup.assignment, keys[3]
      )
      outcomes.append(Outcome(method, seed, float_accuracy, before, after))
      log.say(
        f"seed {seed}, {method}: {before:.2%} before training, {after:.2%} "
        f"after; float {float_accuracy:.2%}"
      )

  # ---- Report, and the mark that all is done
  summary = _write_report(workdir, config, setup, outcomes, clock.seconds, log)
  finish(workdir, summary)


def _normalized(net, variables, images):
  """`variables` whose batch norms have the statistics of `images`.

  Without them the tensors of an untrained network tell nothing of those that
  training will see.
  """
  _, moved = jax.jit(
    lambda v, x: Model(net).apply(v, x, train=True, mutable="batch_stats")
  )(variables, images)
  settle = lambda old, new: old + (new - old) / (1.0 - norms.MOMENTUM)
  stats = jax.tree.map(
    settle, variables["batch_stats"], moved.get("batch_stats", {})
  )
  return {**variables, "batch_stats": stats}


def _write_report(
  workdir: Path,
  config: ConfigDict,
  setup: Setup,
  outcomes: list[Outcome],
  seconds: dict[str, float],
  log: Log,
) -> dict:
  """results.csv, rules.png, report.html; the summary for result.json."""
  chosen = next(iter(setup.recipes))
  rows = qat.rows(outcomes, chosen)
  answer = qat.verdict(rows, setup.words)
  bits = config.bits, config.activation_bits
  qat.write_csv(workdir / "results.csv", outcomes, *bits)
  picture = qat.picture(outcomes, rows)
  write_atomically(workdir / "rules.png", picture)
  html = page.render(
    "qat.html",
    report={
      "network": setup.net.name,
      "facts": machine_facts(),
      "assumptions": [
        f"Every rule trains for {config.fine_tuning.steps} steps on the same "
        "batches"
        + (
          f" from the same float network, trained for "
          f"{config.float_training.steps}."
          if config.start == "float"
          else f" after the {config.float_training.steps} of float training, "
          "all from scratch."
        ),
        "Image and sums of shortcuts stay at 8 bits where the network says so.",
        f"Batch norm: {config.qat.batch_norm}. Grids: weights "
        f"{config.qat.weights}, "
        + ("per channel" if config.qat.per_channel else "per layer")
        + f"; activations {config.qat.activations}.",
        setup.task.about_test,
      ],
    },
    words=setup.words,
    answer=answer,
    picture=picture,
    rows=rows,
    chosen=chosen,
    texts={
      name: recipe.scheme.rule.text for name, recipe in setup.recipes.items()
    },
    outcomes=outcomes,
    seconds=dict(seconds),
    config=config.to_dict(),
  )
  write_atomically(workdir / "report.html", html.encode())
  log.console.print(qat.console_table(rows, outcomes))
  log.say(answer)
  log.say(f"Report: {workdir / 'report.html'}")
  return {
    "verdict": answer,
    "float_accuracy": statistics.fmean(o.float_accuracy for o in outcomes),
    "rules": {
      r.method: {
        name: {"mean": m.value, "standard_error": _plain(m.error)}
        for name, m in (
          ("before", r.before),
          ("after", r.after),
          ("lost", r.lost),
          ("behind", r.ahead),
        )
      }
      for r in rows
    },
  }


def _plain(error: float) -> float | None:
  """JSON knows no NaN."""
  return None if np.isnan(error) else error
