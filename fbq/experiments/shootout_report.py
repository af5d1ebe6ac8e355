"""What a shootout leaves for people: table, picture, page."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import strategies
from fbq.experiments.stages import machine_facts
from fbq.experiments.task import Task
from fbq.nets.graph import Net
from fbq.report import page, shootout, shootout_plots, tables
from fbq.report.shootout import Outcome
from fbq.search.exact import Distance
from fbq.train.log import Log
from hwsim.pulp import Target


def write_report(
  workdir: Path,
  config: ConfigDict,
  net: Net,
  target: Target,
  outcomes: Sequence[Outcome],
  texts: Mapping[str, str],
  search_steps: Mapping[str, float],
  distances: Sequence[Distance],
  float_accuracies: Sequence[float],
  task: Task,
  seconds: Mapping[str, float],
  log: Log,
) -> dict[str, Any]:
  """Writes results.csv, front.png and report.html, prints the table.

  Args:
    texts: what each strategy does.
    search_steps: cost of one search in steps of float training.
    distances: greedy and exact hardware pass of every different assignment.
    float_accuracies: by seed.
    task: that accuracies are of.

  Returns:
    The summary for result.json.
  """
  standings = shootout.standings(
    outcomes, config.budgets, config.least_accuracy, search_steps
  )
  _write_csv(workdir / "results.csv", outcomes)
  picture = shootout_plots.picture(outcomes, standings, task.test_count)
  tables.write_atomically(workdir / "front.png", picture)
  verdict = shootout.verdict(standings, len(config.seeds))
  mean = statistics.fmean(float_accuracies)
  given = config.strategies.to_dict()
  html = page.render(
    "shootout.html",
    report={
      "network": net.name,
      "target": target.name,
      "facts": machine_facts(),
      "assumptions": [
        "Every assignment costs the same number of training steps: "
        f"{config.search.steps + config.fine_tuning.steps} after "
        f"{config.float_training.steps} in floating point (mean accuracy "
        f"{mean:.2%}). Strategies that train nothing fine-tune for all of "
        f"them, the others for {config.fine_tuning.steps}.",
        "All fine-tuning starts from the float network: weights and ranges "
        "that a search has trained are dropped, and its assignment is kept.",
        "Free Bits and Bayesian Bits have fbq's defaults, which mend the "
        "gradients, dead gates and weight ranges of the authors' code.",
        _chances(given),
        "The cost of a search is processor time; that of "
        f"{strategies.HESSIAN}, where tried, includes compilation.",
        "Accuracies are on test images; no strategy saw them, but the best of "
        "several points is read off them for all alike.",
        f"Cycles are simulated. {task.about_test}",
      ],
    },
    answer=verdict,
    picture=picture,
    seeds=config.seeds,
    budgets=config.budgets,
    least_accuracy=config.least_accuracy,
    standings=standings,
    descriptions={
      name: (text, _settings(given[name]["settings"]))
      for name, text in texts.items()
      if name in given
    },
    pass_statement=_pass_statement(distances),
    outcomes=sorted(outcomes, key=lambda o: (o.strategy, o.seed, o.cycles)),
    seconds=dict(seconds),
    config=config.to_dict(),
  )
  tables.write_atomically(workdir / "report.html", html.encode())
  log.console.print(shootout.console_table(standings, config.budgets))
  log.say(verdict)
  log.say(_pass_statement(distances))
  log.say(f"Report: {workdir / 'report.html'}")
  return {
    "verdict": verdict,
    "float_accuracies": list(float_accuracies),
    "standings": {
      s.strategy: {
        "hypervolume": dataclasses.asdict(s.hypervolume),
        "behind": dataclasses.asdict(s.behind),
        "search_steps": s.search_steps,
      }
      for s in standings
    },
  }


def _chances(given) -> str:
  """How many assignments each strategy may pick its best of."""
  counts = sorted({len(plan["settings"]) for plan in given.values()})
  if len(counts) == 1:
    return (
      f"Every strategy has {counts[0]} settings, so as many chances; the "
      f"uniform networks have {2 * len(precision.BITS)}."
    )
  return (
    f"Strategies have {counts[0]} to {counts[-1]} settings: those with more "
    "have more chances."
  )


def _settings(values):
  return ", ".join(f"{value:g}" for value in values)


def _pass_statement(distances: Sequence[Distance]) -> str:
  """How far the greedy pass is from the exact one."""
  apart = [d for d in distances if d.greedy != d.least]
  saved = [1 - d.least / d.start for d in distances]
  text = (
    f"Raising precisions made {sum(s > 0 for s in saved)} of {len(saved)} "
    f"different assignments faster, by {statistics.fmean(saved):.1%} on "
    f"average and {max(saved):.1%} at most. "
  )
  if not apart:
    return text + (
      "The greedy Free Bits pass is optimal for every one of them, as it must "
      "be where outputs stay at 8 bits and no tensor is shared."
    )
  worst = max(d.greedy / d.least - 1 for d in apart)
  return text + (
    f"The greedy Free Bits pass misses the optimum in {len(apart)}, by "
    f"{worst:.2%} at most; the exact one was used."
  )


def _write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
  text = io.StringIO(newline="")
  writer = csv.writer(text, lineterminator="\n")
  sites = list(outcomes[0].precision)
  columns = ["strategy", "seed", "setting", "cycles", "accuracy"]
  writer.writerow([*columns, *(f"bits:{site}" for site in sites)])
  for o in outcomes:
    row = [o.strategy, o.seed, o.setting, o.cycles, repr(o.accuracy)]
    writer.writerow([*row, *(o.precision[site] for site in sites)])
  tables.write_atomically(path, text.getvalue().encode())
