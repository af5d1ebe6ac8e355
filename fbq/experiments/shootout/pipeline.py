"""All strategies of `fbq.lab.strategies` against each other.

For each seed: float training, every strategy's assignments, the exact hardware
pass, fine-tuning. Whoever searches by training has so many steps less to
fine-tune; so every assignment costs the same number of training steps. All are
fine-tuned from the float network: weights and ranges of a search are dropped.
"""

import json
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.experiments.shootout.config import Shootout, label, strategies_of
from fbq.experiments.shootout.costs import step_seconds
from fbq.experiments.shootout.results import Outcomes, Pass, Tried
from fbq.experiments.shootout.standings import BASELINE, Tuned
from fbq.files import write_atomically
from fbq.lab import fine_tuning, points
from fbq.lab.calibration import calibrate, ranges_at
from fbq.lab.lab import Lab
from fbq.lab.strategies import Evidence, Search, Valuation
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges
from fbq.schemes.fixed import Fixed
from fbq.search import exact, problem, value
from fbq.search.judge import Judge
from hwsim import latency_io


class Candidate(NamedTuple):
  """An assignment on its way to fine-tuning.

  Attributes:
    strategy, seed, setting: see `standings.Tuned`.
    searched: bits that the strategy chose.
    precision: bits after the hardware pass.
    more_steps: steps of fine-tuning that its strategy did not spend searching.
  """

  strategy: str
  seed: int
  setting: str
  searched: dict[str, int]
  precision: dict[str, int]
  more_steps: int


class Started(NamedTuple):
  """The float network of a seed: variables, ranges, calibration set, keys."""

  variables: Mapping[str, Any]
  accuracy: float
  ranges: Ranges
  tensors: Mapping[str, np.ndarray]
  images: jax.Array
  labels: jax.Array
  search_key: jax.Array
  probe_key: jax.Array
  tuning_key: jax.Array


def run(settings: Shootout, lab: Lab) -> Outcomes:
  """Every strategy's assignments with their accuracies."""
  net, cycles = lab.net, lab.costs.cycles
  latency_io.save(lab.costs.table, lab.workdir / "latency_table.csv")
  choice = problem.make(net.workload, {"cycles": cycles})
  eight = lab.costs.total(net.workload, precision.uniform(net, 8))
  given = strategies_of(settings)
  searches = {n: s for n, s in given.items() if isinstance(s, Search)}
  valuations = {n: s for n, s in given.items() if isinstance(s, Valuation)}

  def choose(values, shares):
    """The most valuable assignments within shares of the cycles at 8 bits."""
    valued = problem.make(net.workload, {"cycles": cycles}, values)
    best = exact.best_value(valued, [int(share * eight) for share in shares])
    return [best.precision(i) for i in range(len(shares))]

  def candidate(strategy, seed, setting, searched, more_steps=0):
    """With the exact hardware pass."""
    raised, _ = exact.least_latency(choice, searched)
    return Candidate(strategy, seed, setting, searched, raised, more_steps)

  # ---- One compiled step for each search, whatever the seed and setting
  schemes = {name: search.scheme(net) for name, search in searches.items()}
  trainers = {
    name: lab.trainer(
      settings.search,
      Model(net, schemes[name]),
      search.trained,
      search.penalty(net, schemes[name], cycles),
      gate_learning_rate=settings.strategies[name].gate_learning_rate,
      range_learning_rate=settings.search.range_learning_rate,
    )
    for name, search in searches.items()
  }
  started: dict[int, Started] = {}
  candidates: list[Candidate] = []
  value_seconds: dict[str, list[float]] = {name: [] for name in valuations}

  for seed in settings.seeds:
    # ---- Float network and ranges
    start = started[seed] = _start(lab, seed)

    # ---- Searches by training; where they have a budget, thresholds on gates
    # know nothing of it, so the likeliest assignment within it counts
    gates = {}
    for name, search in searches.items():
      values, scheme = settings.strategies[name].settings, schemes[name]
      ended = lab.run_many(
        [f"seed{seed}-{name}-{setting:g}" for setting in values],
        f"search: {name}",
        trainers[name],
        [_search_start(settings, net, scheme, start)] * len(values),
        [_search_data(settings, search, v, start) for v in values],
      )
      gates[name] = ended[len(ended) // 2]
      for setting, end in zip(values, ended, strict=True):
        searched = scheme.assignment(net, end)
        if search.has_budget:
          shares = scheme.distribution(end, None)
          worth = value.from_shares(net, scheme.groups, np.asarray(shares))
          [searched] = choose(worth, [setting])
        said = label(setting, search.has_budget)
        candidates.append(candidate(name, seed, said, searched))

    # ---- Choices from values, under budgets
    stored = _values(lab, seed, valuations, start, gates)
    for name, valuation in valuations.items():
      value_seconds[name].append(stored[name]["seconds"])
      worth = {
        site: {int(bits): v for bits, v in by_bits.items()}
        for site, by_bits in stored[name]["values"].items()
      }
      shares = settings.strategies[name].settings
      more = 0 if valuation.needs else settings.search.steps
      candidates += [
        candidate(name, seed, label(share, True), bits, more)
        for share, bits in zip(shares, choose(worth, shares), strict=True)
      ]

    # ---- Uniform networks, as they are and raised
    for bits in precision.BITS[::-1]:
      said, more = f"{bits}/{bits}", settings.search.steps
      raised = candidate(
        BASELINE, seed, f"{said} raised", precision.uniform(net, bits), more
      )
      plain = raised._replace(setting=said, precision=raised.searched)
      candidates += [plain, raised]

  # ---- Fine-tuning, once for each different assignment of a seed
  tuned = _fine_tuned(settings, lab, candidates, started)

  # ---- What a search costs, in steps of float training
  with lab.clock.measure("timing of steps"):
    first = started[settings.seeds[0]]
    float_run = {"key": jax.random.key(0)}
    cases: dict[str, Any] = {
      "float": (lab.float_trainer, first.variables, float_run)
    }
    for name, search in searches.items():
      setting = settings.strategies[name].settings[0]
      begin = _search_start(settings, net, schemes[name], first)
      data = _search_data(settings, search, setting, first)
      cases[name] = trainers[name], begin, data
    seconds = step_seconds(cases)
  costs = {
    name: seconds[name] / seconds["float"] * settings.search.steps
    for name in searches
  }
  for name, valuation in valuations.items():
    own = statistics.fmean(value_seconds[name]) / seconds["float"]
    costs[name] = own + costs.get(valuation.needs, 0.0)

  # ---- The record
  different = {
    points.digest(net, one.searched): one.searched for one in candidates
  }
  distances = [
    exact.distance(choice, cycles, one) for one in different.values()
  ]
  return Outcomes(
    net.name,
    lab.costs.name,
    lab.task.test.count,
    tuple(tuned),
    {
      name: Tried(
        strategy.text, settings.strategies[name].settings, costs[name]
      )
      for name, strategy in given.items()
    },
    tuple(Pass(int(d.start), int(d.greedy), int(d.least)) for d in distances),
    settings.seeds,
    tuple(start.accuracy for start in started.values()),
    settings.budgets,
    settings.least_accuracy,
    _assumptions(settings, lab, started),
  )


def _start(lab: Lab, seed: int) -> Started:
  """The float network of a seed, calibrated."""
  keys = jax.random.split(jax.random.key(seed), 6)
  variables, judged = lab.float_network(f"seed{seed}-float", keys[:2])
  with lab.clock.measure("calibration"):
    images, labels = lab.calibration_set(keys[2])
    ranges, tensors = calibrate(lab.net, variables, images)
  return Started(
    variables,
    judged.test.accuracy,
    ranges,
    tensors,
    images,
    labels,
    *keys[3:],
  )


def _search_start(settings, net: Net, scheme, start: Started):
  """Variables before a search: ranges at the bits that the gates grow from."""
  grown_from = {
    site: net.fixed_bits.get(site, settings.search.range_bits)
    for site in start.ranges
  }
  return {
    **start.variables,
    "ranges": ranges_at(start.ranges, grown_from),
    "gates": scheme.start(),
  }


def _search_data(settings, search: Search, setting, start: Started) -> Mapping:
  """The data of one run of a search."""
  data = {
    "key": start.search_key,
    "strength": jnp.float32(setting),
    "temperature": jnp.float32(settings.search.temperature),
    "temperature_steps": jnp.float32(settings.search.steps),
  }
  if search.has_budget:
    data |= {
      "strength": jnp.float32(settings.search.budget_strength),
      "budget": jnp.float32(setting),
      "ramp_steps": jnp.float32(settings.search.steps / 2),
    }
  return data


def _values(lab, seed, valuations, start: Started, gates) -> dict[str, Any]:
  """Values and processor time of every valuation, kept in values/."""
  path = lab.workdir / "values" / f"seed{seed}.json"
  if valuations and not path.exists():
    with lab.clock.measure("values"):
      judge = Judge(
        lab.net,
        jax.jit(lambda v, x, b: Model(lab.net, Fixed()).apply(v, x, False, b)),
        {kind: start.variables[kind] for kind in ("params", "batch_stats")},
        start.ranges,
        np.asarray(start.images),
        np.asarray(start.labels),
      )
      evidence = Evidence(judge, start.tensors, gates, start.probe_key)
      # Compiled beforehand: else the first strategy would pay for the next one.
      judge.logits(precision.uniform(lab.net, 8))
      content = {}
      for name, valuation in valuations.items():
        began = time.process_time()
        values = valuation.values(lab.net, evidence)
        seconds = time.process_time() - began
        content[name] = {"seconds": seconds, "values": values}
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(content) + "\n")
  return json.loads(path.read_text()) if valuations else {}


def _fine_tuned(settings, lab: Lab, candidates, started) -> list[Tuned]:
  """Every candidate with its cycles and its test accuracy."""
  net = lab.net
  recipe = fine_tuning.recipe_of(settings.qat)
  fine_tune = {
    more: fine_tuning.FineTuner(lab, recipe, settings.fine_tuning, more)
    for more in {one.more_steps for one in candidates}
  }
  starts = {
    seed: fine_tuning.starts(
      net, start.variables, start.tensors, recipe, start.ranges
    )
    for seed, start in started.items()
  }
  names = [
    f"seed{one.seed}-{one.strategy}-{one.setting}".replace(" ", "-")
    for one in candidates
  ]
  points.save_precisions(
    lab, {n: one.precision for n, one in zip(names, candidates, strict=True)}
  )

  accuracies: dict[tuple, float] = {}
  tuned = []
  for name, one in zip(names, candidates, strict=True):
    case = one.seed, points.digest(net, one.precision), one.more_steps
    if case not in accuracies:
      accuracies[case] = fine_tune[one.more_steps](
        "seed{}-fine-tune-{}-{}".format(*case),
        started[one.seed].variables,
        starts[one.seed],
        one.precision,
        started[one.seed].tuning_key,
      ).test.accuracy
      lab.log.say(f"[{len(accuracies)}] {name}: {accuracies[case]:.2%}")
    tuned.append(
      Tuned(
        one.strategy,
        one.seed,
        one.setting,
        lab.costs.total(net.workload, one.precision),
        accuracies[case],
        one.precision,
        lab.costs.otherwise(net.workload, one.precision),
      )
    )
  return tuned


def _assumptions(settings: Shootout, lab: Lab, started) -> tuple[str, ...]:
  mean = statistics.fmean(start.accuracy for start in started.values())
  return (
    "Every assignment costs the same number of training steps: "
    f"{settings.search.steps + settings.fine_tuning.steps} after "
    f"{settings.float_training.steps} in floating point (mean accuracy "
    f"{mean:.2%}). Strategies that train nothing fine-tune for all of them, "
    f"the others for {settings.fine_tuning.steps}.",
    "All fine-tuning starts from the float network: weights and ranges that a "
    "search has trained are dropped, and its assignment is kept.",
    "Free Bits and Bayesian Bits have fbq's defaults, which mend the "
    "gradients, dead gates and weight ranges of the authors' code.",
    _chances([len(plan.settings) for plan in settings.strategies.values()]),
    "The cost of a search is processor time; that of hessian-exact, where "
    "tried, includes compilation.",
    "Accuracies are on test images; no strategy saw them, but the best of "
    "several points is read off them for all alike.",
    f"Cycles are simulated. {lab.task.about_test}",
    points.about_outputs(lab.costs),
  )


def _chances(counts) -> str:
  """How many assignments each strategy may pick its best of."""
  fewest, most = min(counts), max(counts)
  if fewest == most:
    return (
      f"Every strategy has {fewest} settings, so as many chances; the uniform "
      f"networks have {2 * len(precision.BITS)}."
    )
  return (
    f"Strategies have {fewest} to {most} settings: those with more have more "
    "chances."
  )
