"""All strategies of `fbq.lab.strategies` against each other.

For each seed: float training, an assignment of every strategy for every budget,
the exact hardware pass, fine-tuning. All fine-tune for as many steps and have
as many assignments; what a search takes comes on top and is told. Strengths of
penalties are found by bisection, so that assignments lie at the budgets.
"""

import functools
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fbq import precision
from fbq.experiments.shootout import candidates, tuning
from fbq.experiments.shootout.candidates import Candidate, Hardware, Started
from fbq.experiments.shootout.config import Shootout, aim_of, strategies_of
from fbq.experiments.shootout.costs import step_seconds
from fbq.experiments.shootout.results import Outcomes, Pass, Tried
from fbq.experiments.shootout.standings import BASELINE
from fbq.lab import points, searching
from fbq.lab.kept import kept
from fbq.lab.lab import Lab
from fbq.lab.searching import Searched
from fbq.lab.strategies import Evidence, Order, Search, Valuation
from fbq.model import Model
from fbq.schemes.fixed import Fixed
from fbq.search import exact
from fbq.search.judge import Judge
from hwsim import latency_io


def run(settings: Shootout, lab: Lab) -> Outcomes:
  """Every strategy's assignments with their accuracies."""
  net, hardware, budgets = lab.net, Hardware.of(lab), settings.budgets
  latency_io.save(lab.costs.table, lab.workdir / "latency_table.csv")
  given = strategies_of(settings)
  searches = {n: s for n, s in given.items() if isinstance(s, Search)}
  valuations = {n: s for n, s in given.items() if isinstance(s, Valuation)}
  controls = {n: s for n, s in given.items() if isinstance(s, Order)}

  # ---- One compiled step for each search, whatever the seed and strength
  schemes = {name: search.scheme(net) for name, search in searches.items()}
  trainers = {
    name: lab.trainer(
      settings.search,
      Model(net, schemes[name]),
      search.trained,
      search.penalty(net, schemes[name], lab.costs.for_gates),
      gate_learning_rate=settings.strategies[name].gate_learning_rate,
      range_learning_rate=settings.search.range_learning_rate,
    )
    for name, search in searches.items()
  }
  started: dict[int, Started] = {}
  found: list[Candidate] = []
  counts: dict[str, list[int]] = {name: [] for name in searches}
  strengths: dict[str, list[float]] = {}  # of the last seed
  value_seconds: dict[str, list[float]] = {name: [] for name in valuations}
  notes: list[str] = []
  warnings: list[str] = []

  def candidate(strategy, seed, setting, searched, end=None):
    """With the exact hardware pass."""
    raised = hardware.raised(searched)
    return Candidate(strategy, seed, setting, searched, raised, end)

  for seed in settings.seeds:
    # ---- Float network and ranges
    begun = started[seed] = candidates.start(lab, seed)

    # ---- Searches by training, the first strengths those of the last seed
    ended: dict[str, list[Searched]] = {}
    for name, search in searches.items():
      plan = settings.strategies[name]
      searcher = candidates.searcher_of(
        settings, hardware, name, trainers[name], schemes[name], begun, seed
      )
      ended[name], count = candidates.searched(
        settings,
        lab,
        hardware,
        search,
        schemes[name],
        searcher,
        plan,
        strengths.get(name, ()),
      )
      counts[name].append(count)
      if not search.has_budget:
        strengths[name] = [one.strength for one in ended[name]]
        aim = aim_of(settings, plan)
        warnings += searching.warnings(searcher, ended[name], aim)
      keeps = settings.fine_tuning.start == "search"
      found += [
        candidate(
          name,
          seed,
          _label(share),
          one.assignment,
          one.variables if keeps else None,
        )
        for share, one in zip(budgets, ended[name], strict=True)
      ]

    # ---- Choices from values
    stored = {}
    if valuations:
      stored = kept(
        lab.workdir / "values" / f"seed{seed}.json",
        functools.partial(_values, lab, seed, valuations, begun, ended),
      )
    for name in valuations:
      value_seconds[name].append(stored[name]["seconds"])
      notes += stored[name]["notes"]
      worth = {
        site: {int(bits): v for bits, v in by_bits.items()}
        for site, by_bits in stored[name]["values"].items()
      }
      found += [
        candidate(name, seed, _label(share), bits)
        for share, bits in zip(
          budgets, hardware.best(worth, budgets), strict=True
        )
      ]

    # ---- Controls, which take but the share of 2-bit tensors from a search
    for name, control in controls.items():
      like = [one.assignment for one in ended[control.like]]
      chosen = candidates.ordered(
        hardware, control, begun.probe_key, like, budgets
      )
      found += [
        candidate(name, seed, _label(share), bits)
        for share, bits in zip(budgets, chosen, strict=True)
      ]

    # ---- Uniform networks, as they are and raised
    for bits in precision.BITS[::-1]:
      said, uniform = f"{bits}/{bits}", precision.uniform(net, bits)
      raised = candidate(BASELINE, seed, f"{said} raised", uniform)
      plain = raised._replace(
        setting=said, precision=lab.ladder.at_least(uniform)
      )
      found += [plain, raised]

  # ---- Fine-tuning, once for each different assignment of a seed
  tuned = tuning.fine_tuned(settings, lab, hardware, given, found, started)

  # ---- What searches cost, in steps of float training
  seconds = _step_seconds(
    settings, lab, hardware, searches, trainers, schemes, started
  )
  costs = {
    name: seconds[name]
    / seconds["float"]
    * settings.search.steps
    * statistics.fmean(counts[name])
    for name in searches
  }
  for name, valuation in valuations.items():
    own = statistics.fmean(value_seconds[name]) / seconds["float"]
    costs[name] = own + costs.get(valuation.needs, 0.0)

  # ---- The record
  different = {points.digest(net, one.searched): one.searched for one in found}
  distances = [
    exact.distance(hardware.choice, lab.costs.cycles, lab.ladder.at_least(one))
    for one in different.values()
  ]
  return Outcomes(
    net.name,
    lab.costs.name,
    tuple(tuned),
    {
      name: Tried(
        strategy.text,
        costs.get(name, 0.0),
        statistics.fmean(counts[name]) if name in counts else 0.0,
      )
      for name, strategy in given.items()
    },
    tuple(Pass(int(d.start), int(d.greedy), int(d.least)) for d in distances),
    settings.seeds,
    tuple(begun.accuracy for begun in started.values()),
    budgets,
    settings.least_accuracy,
    (*_assumptions(settings, lab, started), *dict.fromkeys(notes)),
    tuple(warnings),
  )


def _label(share: float) -> str:
  """What a strategy was asked for, in words."""
  return f"{share:.0%} of cycles"


def _values(lab, seed, valuations, begun: Started, ended) -> dict[str, Any]:
  """Processor time, values and notes of every valuation, by its name."""
  with lab.clock.measure("values"):
    judge = Judge(
      lab.net,
      jax.jit(lambda v, x, b: Model(lab.net, Fixed()).apply(v, x, False, b)),
      {kind: begun.variables[kind] for kind in ("params", "batch_stats")},
      begun.ranges,
      np.asarray(begun.images),
      np.asarray(begun.labels),
    )
    gates = {name: e[len(e) // 2].variables for name, e in ended.items()}
    # Compiled beforehand: else the first strategy would pay for the next one.
    judge.logits(precision.uniform(lab.net, 8))

    content = {}
    for name, valuation in valuations.items():
      notes: list[str] = []
      evidence = Evidence(
        *(judge, begun.tensors, gates, begun.probe_key),
        *(notes.append, lab.ladder),
      )
      began = time.process_time()
      values = valuation.values(lab.net, evidence)
      content[name] = {
        "seconds": time.process_time() - began,
        "values": values,
        "notes": [f"Seed {seed}, {note}" for note in notes],
      }
  return content


def _step_seconds(
  settings, lab: Lab, hardware, searches, trainers, schemes, started
) -> Mapping[str, float]:
  """Processor time of a step of each search and of float training."""
  with lab.clock.measure("timing of steps"):
    seed = settings.seeds[0]
    cases: dict[str, Any] = {
      "float": (
        lab.float_trainer,
        started[seed].variables,
        {"key": jax.random.key(0)},
      )
    }
    for name, trainer in trainers.items():
      searcher = candidates.searcher_of(
        settings, hardware, name, trainer, schemes[name], started[seed], seed
      )
      run = (
        candidates.budget_run(settings, searcher, settings.budgets[0])
        if searches[name].has_budget
        else searcher.run_of(1.0)
      )
      cases[name] = trainer, searcher.start, run
    return step_seconds(cases)


def _assumptions(settings: Shootout, lab: Lab, started) -> tuple[str, ...]:
  mean = statistics.fmean(begun.accuracy for begun in started.values())
  kept = settings.fine_tuning.start == "search"
  return (
    f"Every assignment is fine-tuned for {settings.fine_tuning.steps} steps, "
    f"after {settings.float_training.steps} in floating point (mean accuracy "
    f"{mean:.2%}). What a strategy searches comes on top: "
    f"{settings.search.steps} steps for each search, and several to get to "
    "the budgets.",
    "Fine-tuning starts from the weights and ranges that a search trained, "
    "where there was one."
    if kept
    else "All fine-tuning starts from the float network: weights and ranges "
    "that a search has trained are dropped, and its assignment is kept.",
    f"Every strategy has {len(settings.budgets)} assignments, one for each "
    f"budget; the uniform networks have {2 * len(precision.BITS)}.",
    "Free Bits and Bayesian Bits have fbq's defaults, which mend the "
    "gradients, dead gates and weight ranges of the authors' code.",
    "The cost of searches is processor time; that of hessian-exact, where "
    "tried, includes compilation. Controls cost nothing, though they take the "
    "share of 2-bit tensors from a search.",
    "Which assignment counts within a budget is chosen by accuracy in "
    "validation; accuracies that are shown are on test images.",
    f"Cycles are simulated. {lab.about_images}",
    points.about_outputs(lab.costs),
  )
