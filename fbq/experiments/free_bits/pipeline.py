"""Free Bits (arXiv 2307.02894), from images to a front of accuracy over cycles.

Float training, calibration, Bayesian Bits searches at several strengths with
locked and free gates, the hardware pass on a latency table, and fine-tuning of
everything found beside the uniform baselines.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from fbq import precision
from fbq.experiments.free_bits.config import FreeBits
from fbq.lab import fine_tuning, points
from fbq.lab.calibration import calibrate, ranges_at
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.schemes.free_bits import FreeBits as FreeBitsScheme
from fbq.schemes.groups import gate_groups
from fbq.search import exact, problem
from fbq.search.free_bits import free_bits
from fbq.train.regularizers import bops_regularizer
from hwsim import latency_io


def run(settings: FreeBits, lab: Lab) -> points.Assignments:
  """The front of a network: every assignment found, with cost and accuracy."""
  net, table = lab.net, lab.costs.table
  latency_io.save(table, lab.workdir / "latency_table.csv")
  key = jax.random.key(settings.seed)
  start_key, float_key, calibration_key, search_key, tuning_key = (
    jax.random.split(key, 5)
  )

  # ---- Float network
  float_variables, float_judged = lab.float_network(
    "float", (start_key, float_key)
  )

  # ---- Ranges of activations, on training data
  with lab.clock.measure("calibration"):
    images, _ = lab.calibration_set(calibration_key)
    ranges, tensors = calibrate(net, float_variables, images)

  # ---- Precision search, from activations' ranges at `range_bits`: one
  # compiled step for each gating, strengths are data
  rules = precision.ruled(net, settings.rules)
  grown_from = {
    site: net.fixed_bits.get(site, settings.search.range_bits)
    for site in net.is_signed
  }
  found: dict[str, dict[str, int]] = {}  # by the name of its point
  details: dict[str, dict[str, Any]] = {}
  for locked in settings.search.locked:
    scheme = FreeBitsScheme(gate_groups(net, locked), settings.search.faithful)
    searcher = lab.trainer(
      settings.search,
      Model(net, scheme),
      ("params", "gates"),
      bops_regularizer(net.workload, scheme.groups),
      gate_learning_rate=settings.search.gate_learning_rate,
      sums_gate_gradients=settings.search.faithful,
    )
    start = {
      **float_variables,
      "ranges": ranges_at(ranges, grown_from),
      "gates": scheme.start(),
    }
    gating = "locked" if locked else "free"
    strengths = [f"{strength:g}" for strength in settings.search.strengths]
    names = [f"{gating}-{strength}" for strength in strengths]
    ended = lab.run_many(
      [f"search-{name}" for name in names],
      "precision search",
      searcher,
      [start] * len(names),
      [
        {"key": search_key, "strength": jnp.float32(strength)}
        for strength in settings.search.strengths
      ],
    )
    for name, strength, variables in zip(names, strengths, ended, strict=True):
      found[name] = {**scheme.assignment(net, variables), **rules}
      details[name] = {"gates": gating, "strength": strength}
  for bits in settings.uniform_baselines:
    found[f"{bits}/{bits}"] = precision.uniform(net, bits)

  # ---- Hardware pass: raised wherever that is faster, but for what rules say
  pinned = dataclasses.replace(
    net.workload, fixed_bits=(*net.workload.fixed_bits, *rules.items())
  )
  raises, parents = {}, {}
  for name, assignment in list(found.items()):
    workload = pinned if name in details else net.workload
    raised, changes = free_bits(workload, lab.costs.cycles, assignment)
    if changes:
      found[f"{name}+FB"] = raised
      raises[f"{name}+FB"], parents[f"{name}+FB"] = changes, name
      details[f"{name}+FB"] = _gap(workload, lab.costs, assignment)
  for name, assignment in found.items():
    if any(assignment[site] != bits for site, bits in rules.items()):
      details.setdefault(name, {})["breaks"] = "the rules"
  points.save_precisions(lab, found)

  # ---- Fine-tuning from the float network, by one compiled step for all
  recipe = fine_tuning.recipe_of(settings.qat)
  fine_tune = fine_tuning.FineTuner(lab, recipe, settings.fine_tuning)
  starts = fine_tuning.starts(net, float_variables, tensors, recipe, ranges)
  judged = points.fine_tuned(
    lab, fine_tune, float_variables, starts, found, tuning_key
  )

  # ---- The record
  return points.assignments(
    lab, settings, found, judged, float_judged, details, parents, raises
  )


def _gap(workload, costs, assignment) -> dict[str, str]:
  """How far the pass ends above the least latency that raises reach."""
  choice = problem.make(workload, {"cycles": costs.cycles})
  ways = exact.distance(choice, costs.cycles, assignment)
  above = ways.greedy / ways.least - 1
  return {"above the fastest": f"{above:.1%}"} if above else {}
