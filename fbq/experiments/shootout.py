"""All strategies of `fbq.experiments.strategies` against each other.

For each seed: float training, every strategy's assignments, the exact hardware
pass, fine-tuning. Whoever searches by training has so many steps less to
fine-tune; so every assignment costs the same number of training steps. All are
fine-tuned from the float network: weights and ranges of a search are dropped.
"""

import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import fine_tuning, settings, strategies
from fbq.experiments.shootout_report import write_report
from fbq.experiments.shootout_settings import check
from fbq.experiments.stages import (
  Lab,
  calibrate,
  digest,
  ranges_at,
)
from fbq.experiments.workdir import finish, opened
from fbq.model import Model
from fbq.report.shootout import BASELINE, Outcome
from fbq.report.tables import write_atomically
from fbq.schemes.fixed import Fixed
from fbq.search import exact, problem, value
from fbq.search.judge import Judge
from fbq.train import feed, parallel
from fbq.train.loop import Trainer
from hwsim import latency_io
from hwsim.latency_table import total_cycles
from hwsim.pulp import get_target, latency_table

_ROUNDS = 9


class Found(NamedTuple):
  """An assignment on its way to fine-tuning.

  Attributes:
    strategy, seed, setting: see `Outcome`.
    searched: bits that the strategy chose.
    precision: after the hardware pass.
    more_steps: of fine-tuning, that its strategy did not spend on searching.
  """

  strategy: str
  seed: int
  setting: str
  searched: dict[str, int]
  precision: dict[str, int]
  more_steps: int


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks, costs, data
  net, task = check(config)
  work = opened(workdir, settings.claim_of(config))
  if work is None:
    return
  fingerprint, log, clock = work
  lab = Lab(config, net, task, workdir, fingerprint, log, clock)
  with clock.measure("latency table"):
    target = get_target(config.target)
    table = latency_table(net.workload, target)
    latency_io.save(table, workdir / "latency_table.csv")
    cycles = table.for_output_bits(8)
  choice = problem.make(net.workload, {"cycles": cycles})
  eight = total_cycles(table, net.workload, precision.uniform(net, 8))
  recipe = fine_tuning.recipe_of(config.qat)

  # ---- One compiled step for each strategy, whatever the seed and setting
  searchers = {
    name: make()
    for name, make in strategies.searchers(net, cycles).items()
    if name in config.strategies
  }
  trainers = {
    name: lab.trainer(
      "search",
      Model(net, searcher.scheme),
      searcher.trained,
      searcher.regularizer,
      gate_learning_rate=config.strategies[name].gate_learning_rate,
      range_learning_rate=config.search.range_learning_rate,
    )
    for name, searcher in searchers.items()
  }
  found: list[Found] = []
  start_of: dict[int, Any] = {}  # seed -> float variables, starts, keys
  value_seconds: dict[str, list[float]] = {}
  example: dict[str, Any] = {}  # strategy -> start and data of one search

  def add(strategy, seed, setting, searched, more_steps):
    raised, _ = exact.least_latency(choice, searched)
    found.append(Found(strategy, seed, setting, searched, raised, more_steps))

  def choose(values, shares):
    """The most valuable assignments within shares of the cycles at 8 bits."""
    valued = problem.make(net.workload, {"cycles": cycles}, values)
    best = exact.best_value(valued, [int(share * eight) for share in shares])
    return [best.precision(i) for i in range(len(shares))]

  for seed in config.seeds:
    # ---- Float training and ranges
    keys = jax.random.split(jax.random.key(seed), 6)
    variables, accuracy = lab.float_network(f"seed{seed}-float", keys[:2])
    with clock.measure("calibration"):
      images, labels = lab.calibration_set(keys[2])
      ranges, tensors = calibrate(net, variables, images)
    starts = fine_tuning.starts(net, variables, tensors, recipe, ranges)
    start_of[seed] = variables, starts, keys[5], accuracy

    # ---- Searches by training
    gates = {}
    for name, searcher in searchers.items():
      given = config.strategies[name].settings
      start = _search_start(net, searcher, variables, ranges, config)
      data = [_search_data(searcher, s, keys[3], config) for s in given]
      example.setdefault(name, (start, data[0]))
      ended = lab.run_many(
        [f"seed{seed}-{name}-{setting:g}" for setting in given],
        f"search: {name}",
        trainers[name],
        [start] * len(given),
        data,
      )
      gates[name] = ended[len(given) // 2]
      for setting, end in zip(given, ended, strict=True):
        searched = searcher.scheme.assignment(net, end)
        if searcher.has_budget:  # thresholds know nothing of it
          shares = searcher.scheme.distribution(end, None)
          searched = choose(
            value.from_shares(net, searcher.scheme.groups, shares), [setting]
          )[0]
        add(name, seed, _say(setting, searcher.has_budget), searched, 0)

    # ---- Choices from values, under budgets
    wanted = [n for n in config.strategies if n in strategies.VALUE_TEXTS]
    path = workdir / "values" / f"seed{seed}.json"
    if not path.exists() and wanted:
      with clock.measure("values"):
        judge = Judge(
          net,
          jax.jit(lambda v, x, b: Model(net, Fixed()).apply(v, x, False, b)),
          {kind: variables[kind] for kind in ("params", "batch_stats")},
          ranges,
          np.asarray(images),
          np.asarray(labels),
        )
        evidence = strategies.Evidence(judge, tensors, gates, keys[4])
        _save_values(path, net, wanted, evidence)
    stored = json.loads(path.read_text()) if wanted else {}
    for name in wanted:
      value_seconds.setdefault(name, []).append(stored[name]["seconds"])
      values = {
        site: {int(bits): v for bits, v in by_bits.items()}
        for site, by_bits in stored[name]["values"].items()
      }
      shares = config.strategies[name].settings
      chosen = choose(values, shares)
      more = 0 if name == strategies.GATES else config.search.steps
      for i, share in enumerate(shares):
        add(name, seed, _say(share, True), chosen[i], more)
    for bits in precision.BITS[::-1]:
      same = precision.uniform(net, bits)
      label = f"{bits}/{bits}"
      found.append(
        Found(BASELINE, seed, label, same, same, config.search.steps)
      )
      add(BASELINE, seed, f"{label} raised", same, config.search.steps)

  # ---- Fine-tuning, once for each different assignment of a seed
  (workdir / "precision").mkdir(exist_ok=True)
  fine_tune = {
    more: fine_tuning.FineTuner(lab, recipe, more_steps=more)
    for more in {f.more_steps for f in found}
  }
  accuracies: dict[tuple, float] = {}
  for one in found:
    name = f"seed{one.seed}-{one.strategy}-{one.setting}".replace("/", "-")
    write_atomically(
      workdir / "precision" / f"{name.replace(' ', '-')}.json",
      precision.to_json(net, one.precision).encode(),
    )
    case = one.seed, digest(net, one.precision), one.more_steps
    if case in accuracies:
      continue
    variables, starts, key, _ = start_of[one.seed]
    accuracies[case] = fine_tune[one.more_steps](
      "seed{}-fine-tune-{}-{}".format(*case),
      variables,
      starts,
      one.precision,
      key,
    )
    log.say(f"[{len(accuracies)}] {name}: {accuracies[case]:.2%}")
  outcomes = [
    Outcome(
      one.strategy,
      one.seed,
      one.setting,
      total_cycles(table, net.workload, one.precision),
      accuracies[one.seed, digest(net, one.precision), one.more_steps],
      one.precision,
    )
    for one in found
  ]

  # ---- What a search costs, in steps of float training
  with clock.measure("timing of steps"):
    first = start_of[config.seeds[0]][0]
    seconds = step_seconds(
      {name: (trainers[name], *case) for name, case in example.items()}
      | {"float": (lab.float_trainer, first, {"key": jax.random.key(0)})}
    )
  step_cost = {
    name: seconds[name] / seconds["float"] * config.search.steps
    for name in searchers
  } | {
    name: statistics.fmean(spent) / seconds["float"]
    for name, spent in value_seconds.items()
  }
  if strategies.GATES in step_cost:
    step_cost[strategies.GATES] += step_cost["free-bits"]

  # ---- Report, and the mark that all is done
  summary = write_report(
    workdir,
    config,
    net,
    target,
    outcomes,
    {name: s.text for name, s in searchers.items()} | strategies.VALUE_TEXTS,
    step_cost,
    [exact.distance(choice, cycles, one) for one in _different(net, found)],
    [start_of[seed][3] for seed in config.seeds],
    task,
    clock.seconds,
    log,
  )
  finish(workdir, summary)


def _search_start(net, searcher, variables, ranges, config):
  """Variables before a search: ranges at the bits that the gates grow from."""
  grown_from = {
    site: net.fixed_bits.get(site, config.search.range_bits) for site in ranges
  }
  return {
    **variables,
    "ranges": ranges_at(ranges, grown_from),
    "gates": searcher.scheme.start(),
  }


def _search_data(searcher, setting, key, config) -> Mapping[str, jax.Array]:
  """The data of one run of a search."""
  data = {
    "key": key,
    "strength": jnp.float32(setting),
    "temperature": jnp.float32(config.search.temperature),
    "temperature_steps": jnp.float32(config.search.steps),
  }
  if searcher.has_budget:
    data |= {
      "strength": jnp.float32(config.search.budget_strength),
      "budget": jnp.float32(setting),
      "ramp_steps": jnp.float32(config.search.steps / 2),
    }
  return data


def _say(setting: float, is_budget: bool) -> str:
  return f"{setting:.0%} of cycles" if is_budget else f"strength {setting:g}"


def _different(net, found):
  """The different assignments that strategies chose, seeds aside."""
  return {digest(net, one.searched): one.searched for one in found}.values()


def _save_values(path, net, wanted, evidence):
  """Values of every strategy, and the processor time that each one took."""
  content = {}
  # Compiled beforehand: else the first strategy would pay for the next one.
  evidence.judge.logits(precision.uniform(net, 8))
  for name in wanted:
    start = time.process_time()
    values = strategies.values(net, name, evidence)
    seconds = time.process_time() - start
    content[name] = {"seconds": seconds, "values": values}
  path.parent.mkdir(exist_ok=True)
  write_atomically(path, (json.dumps(content) + "\n").encode())


def step_seconds(
  cases: Mapping[str, tuple[Trainer, Any, Mapping[str, jax.Array]]],
) -> dict[str, float]:
  """Processor time of one step of each trainer, medians of interleaved runs.

  Args:
    cases: name -> (trainer, variables to start from, data of a run).
  """
  put = lambda tree, trainer: parallel.put(tree, trainer.place)
  states = {name: put(t.start(v), t) for name, (t, v, _) in cases.items()}
  datas = {name: put(data, t) for name, (t, _, data) in cases.items()}
  given = {n: feed.first(t.feed, data) for n, (t, _, data) in cases.items()}
  spent: dict[str, list[float]] = {name: [] for name in cases}
  for _ in range(_ROUNDS + 1):
    for name, (trainer, _, _) in cases.items():
      jax.block_until_ready(states[name])
      start = time.process_time()
      states[name], _ = trainer.step(states[name], datas[name], *given[name])
      jax.block_until_ready(states[name])
      spent[name].append(time.process_time() - start)
  return {name: statistics.median(s[1:]) for name, s in spent.items()}
