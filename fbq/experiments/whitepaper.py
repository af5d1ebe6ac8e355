"""The whitepaper's tables 2 to 6 (arXiv 1806.08342) on one network.

For each seed: float training, calibration, every recipe without training on the
network with folded batch norms, and every recipe with training from the float
network, by the paper's rules: smallest and largest weights of the moment,
moving averages of activations, batch norms corrected and then frozen. Then the
same for networks of other widths at 8 and 4 bits, and a report of ours beside
the published.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from fbq import norms, precision
from fbq.experiments.fine_tuning import FineTuner, Recipe
from fbq.experiments.stages import Lab
from fbq.experiments.whitepaper_report import Study, assignment, write_report
from fbq.experiments.whitepaper_settings import check
from fbq.experiments.workdir import finish, opened
from fbq.model import Model
from fbq.nets.graph import INPUT_SITE, Net
from fbq.ptq import folding, recipes
from fbq.ptq.bench import Bench
from fbq.quantizers import qat_rules
from fbq.quantizers.histograms import Histogram
from fbq.quantizers.site_ranges import Ranges
from fbq.report.tables import write_atomically
from fbq.report.whitepaper import CASES, FLOAT, PTQ, QAT, WIDTH_CASES, Case
from fbq.schemes.fixed import Fixed, Form
from fbq.schemes.gridded import Gridded
from fbq.train import steps
from fbq.train.loop import Diverged


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks
  setup = check(config)
  work = opened(workdir, config.to_dict())
  if work is None:
    return
  fingerprint, log, clock = work
  lab = Lab(config, setup.net, setup.task, workdir, fingerprint, log, clock)

  # ---- Tables 2 to 6
  study = _study(lab, "", CASES)

  # ---- Width against precision
  widths = {
    width: study
    if net == setup.net
    else _study(
      dataclasses.replace(lab, net=net), f"width{width:g}-", WIDTH_CASES
    )
    for width, net in setup.widths.items()
  }

  # ---- Report, and the mark that all is done
  summary = write_report(
    workdir, config, study, widths, setup.task, clock.seconds, log
  )
  finish(workdir, summary)


def _study(lab: Lab, prefix: str, cases: Sequence[Case]) -> Study:
  """A network trained by each seed, and every case of it.

  Args:
    lab: of the network.
    prefix: of the names of its runs.
    cases: beside `FLOAT`.
  """
  study = Study(lab.net, {case: [] for case in (FLOAT, *cases)}, [], [])
  judge = functools.cache(lambda net: steps.evaluator(Model(net, Gridded())))
  tuner = functools.cache(
    # No range is learned: the rate is of nothing.
    lambda form: FineTuner(
      lab, _recipe(lab, form), QAT, range_learning_rate=0.0
    )
  )
  for seed in lab.config.seeds:
    name = f"{prefix}seed{seed}"
    keys = jax.random.split(jax.random.key(seed), 4)
    variables, accuracy = lab.float_network(f"{name}-float", keys[:2])
    study.accuracies[FLOAT].append(accuracy)
    study.spreads.append(folding.spreads(lab.net, variables))
    with lab.clock.measure("calibration"):
      bench = Bench(lab.net, variables, [lab.calibration_set(keys[2])[0]])
      starts = _starts(lab.net, bench.histograms)

    # ---- Without training
    path = lab.workdir / PTQ / f"{name}.json"
    if not path.exists():
      with lab.clock.measure("without training"):
        _save(path, _untrained(lab, bench, judge, cases))
    stored = json.loads(path.read_text())
    for case in cases:
      if case.method == PTQ:
        study.accuracies[case].append(stored[case.name])
        lab.log.say(f"{name}: {case.name} {stored[case.name]:.2%}")

    # ---- Trained quantized, on the same batches
    for case in cases:
      if case.method == QAT:
        train = tuner(Form(case.form, "affine", case.per_channel))
        of_run = f"{name}-{case.name}", variables, starts
        accuracy = _trained(lab, study, train, case, *of_run, keys[3])
        study.accuracies[case].append(accuracy)
        lab.log.say(f"{name}: {case.name} {accuracy:.2%}")
  return study


def _trained(
  lab: Lab, study: Study, train: FineTuner, case: Case, name, *start
) -> float:
  """Accuracy after training; if that diverges, chance, and it is noted.

  Args:
    start: variables, starts and key, see `FineTuner.train`.
  """
  variables, starts, key = start
  try:
    return train(name, variables, starts, assignment(lab.net, case), key)
  except Diverged as error:  # a result too, and no end of the others
    study.diverged.append(name)
    lab.log.say(f"{error} Counted as chance.")
    return 1 / lab.task.classes


def _recipe(lab: Lab, form: Form) -> Recipe:
  """The whitepaper's training."""
  return Recipe(
    Fixed(qat_rules.MIN_MAX, form),
    norms.CORRECT,
    lab.config.qat.freeze_share,
  )


def _starts(net: Net, found: Mapping[str, Histogram]) -> Ranges:
  """{site: {bits: ends [2]}}: where moving averages of activations start."""
  return {
    site: dict.fromkeys(
      precision.BITS,
      np.array([min(seen.low, 0.0), max(seen.high, 0.0)], np.float32),
    )
    for site, seen in found.items()
    if site in net.is_signed and site != INPUT_SITE
  }


def _untrained(
  lab: Lab, bench: Bench, judge: Callable, cases: Sequence[Case]
) -> dict[str, float]:
  """{case: accuracy} of those that are not trained."""
  accuracies = {}
  for case in cases:
    if case.method == PTQ:
      net, variables, data = bench.apply(
        recipes.Recipe(
          case.weight_bits,
          case.activation_bits,
          case.form,
          per_channel=case.per_channel,
          steps=("fold",) if case.folded else (),
        )
      )
      # Through numpy, which knows no weak types: one trace for all cases.
      kinds: Any = jax.tree.map(np.asarray, dict(variables))
      accuracies[case.name] = steps.accuracy(
        judge(net), kinds, lab.task.test_batches(), data
      )
  return accuracies


def _save(path: Path, accuracies: Mapping[str, float]) -> None:
  path.parent.mkdir(exist_ok=True)
  write_atomically(path, (json.dumps(accuracies, indent=1) + "\n").encode())
