"""Free Bits (arXiv 2307.02894), from images to a front of accuracy over cycles.

Float training, calibration, Bayesian Bits searches at several strengths with
locked and free gates, the hardware pass on a latency table, fine-tuning of
everything found beside the uniform baselines, and a report.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from fbq import precision
from fbq.experiments import fine_tuning, settings
from fbq.experiments.free_bits_report import write_report
from fbq.experiments.free_bits_settings import check
from fbq.experiments.stages import (
  Lab,
  calibrate,
  digest,
  ranges_at,
)
from fbq.experiments.workdir import finish, opened
from fbq.model import Model
from fbq.report.tables import write_atomically
from fbq.schemes.free_bits import FreeBits
from fbq.schemes.groups import gate_groups
from fbq.search.free_bits import free_bits
from fbq.train.regularizers import bops_regularizer
from hwsim import latency_io
from hwsim.pulp import get_target, latency_table


def run(config: ConfigDict, workdir: Path) -> None:
  """Carries out the experiment in `workdir`, or what of it is left to do."""
  # ---- Checks: all that can be wrong is found before anything is trained
  net, task = check(config)
  work = opened(workdir, settings.claim_of(config))
  if work is None:
    return
  fingerprint, log, clock = work
  rules = precision.ruled(net, config.rules)

  # ---- Cost of every layer at every precision
  with clock.measure("latency table"):
    target = get_target(config.target)
    table = latency_table(net.workload, target)
    if config.measured_latency:
      table = latency_io.merge(table, config.measured_latency, 8)
    latency_io.save(table, workdir / "latency_table.csv")
    cycles = table.for_output_bits(8)

  # ---- Data and keys
  lab = Lab(config, net, task, workdir, fingerprint, log, clock)
  key = jax.random.key(config.seed)
  keys = dict(
    zip(
      ("start", "float", "calibration", "search", "fine-tuning"),
      jax.random.split(key, 5),
      strict=True,
    )
  )

  # ---- Float training
  float_variables, float_accuracy = lab.float_network(
    "float", (keys["start"], keys["float"])
  )

  # ---- Ranges of activations on training data
  with clock.measure("calibration"):
    images, _ = lab.calibration_set(keys["calibration"])
    ranges, tensors = calibrate(net, float_variables, images)

  # ---- Precision search, from activations' ranges at `range_bits`
  grown_from = {
    site: net.fixed_bits.get(site, config.search.range_bits)
    for site in net.is_signed
  }
  found: dict[str, dict[str, int]] = {}  # by the name of its point
  details: dict[str, dict[str, Any]] = {}
  for locked in config.search.locked:
    scheme = FreeBits(gate_groups(net, locked), config.search.faithful)
    searcher = lab.trainer(
      "search",
      Model(net, scheme),
      ("params", "gates"),
      bops_regularizer(net.workload, scheme.groups),
      gate_learning_rate=config.search.gate_learning_rate,
      sums_gate_gradients=config.search.faithful,
    )
    start = {
      **float_variables,
      "ranges": ranges_at(ranges, grown_from),
      "gates": scheme.start(),
    }
    gating = "locked" if locked else "free"
    strengths = [f"{strength:g}" for strength in config.search.strengths]
    names = [f"{gating}-{strength}" for strength in strengths]
    ended = lab.run_many(
      [f"search-{name}" for name in names],
      "precision search",
      searcher,
      [start] * len(names),
      [
        {"key": keys["search"], "strength": jnp.float32(strength)}
        for strength in config.search.strengths
      ],
    )
    for name, strength, variables in zip(names, strengths, ended, strict=True):
      found[name] = {**scheme.assignment(net, variables), **rules}
      details[name] = {"gates": gating, "strength": strength}
  for bits in config.uniform_baselines:
    found[f"{bits}/{bits}"] = precision.uniform(net, bits)

  # ---- Hardware pass; what rules say is not raised either
  pinned = dataclasses.replace(
    net.workload, fixed_bits=(*net.workload.fixed_bits, *rules.items())
  )
  raises, parents = {}, {}
  for name, assignment in list(found.items()):
    workload = pinned if name in details else net.workload
    raised, changes = free_bits(workload, cycles, assignment)
    if changes:
      found[f"{name}+FB"] = raised
      raises[f"{name}+FB"], parents[f"{name}+FB"] = changes, name
  for name, assignment in found.items():
    if any(assignment[site] != bits for site, bits in rules.items()):
      details.setdefault(name, {})["breaks"] = "the rules"
  (workdir / "precision").mkdir(exist_ok=True)
  for name, assignment in found.items():
    path = workdir / "precision" / f"{name.replace('/', '-')}.json"
    write_atomically(path, precision.to_json(net, assignment).encode())

  # ---- Fine-tuning, once for each different assignment, by one compiled step
  recipe = fine_tuning.recipe_of(config.qat)
  fine_tune = fine_tuning.FineTuner(lab, recipe)
  starts = fine_tuning.starts(net, float_variables, tensors, recipe, ranges)
  accuracies: dict[str, float] = {}  # by digest of the assignment
  count = len({digest(net, assignment) for assignment in found.values()})
  for name, assignment in found.items():
    case = digest(net, assignment)
    if case in accuracies:
      continue
    accuracies[case] = fine_tune(
      f"fine-tune-{case}",
      float_variables,
      starts,
      assignment,
      keys["fine-tuning"],
    )
    log.say(
      f"[{len(accuracies)}/{count}] {name}: test accuracy "
      f"{accuracies[case]:.2%}"
    )

  # ---- Report, and the mark that all is done
  summary = write_report(
    workdir,
    config,
    net,
    target,
    table,
    found,
    {name: accuracies[digest(net, found[name])] for name in found},
    float_accuracy,
    details,
    parents,
    raises,
    task,
    clock.seconds,
    log,
  )
  finish(workdir, summary)
