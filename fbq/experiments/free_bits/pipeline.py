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
from fbq.lab import fine_tuning, points, searching
from fbq.lab.calibration import calibrate, ranges_at
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.schemes.free_bits import FreeBits as FreeBitsScheme
from fbq.schemes.groups import gate_groups
from fbq.search import exact, problem
from fbq.search.free_bits import free_bits
from fbq.train.regularizers import bops_regularizer
from hwsim import latency_io, proxies


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
  pinned = dataclasses.replace(
    net.workload, fixed_bits=(*net.workload.fixed_bits, *rules.items())
  )
  found: dict[str, dict[str, int]] = {}  # by the name of its point
  details: dict[str, dict[str, Any]] = {}
  warnings: list[str] = []
  grown_from = {
    site: net.fixed_bits.get(site, settings.search.range_bits)
    for site in net.is_signed
  }
  start = {**float_variables, "ranges": ranges_at(ranges, grown_from)}
  aim = settings.search.aim
  share_of = lambda bits: _share(aim, lab, pinned, {**bits, **rules})
  for locked in settings.search.locked:
    searcher = _searcher(settings, lab, locked, start, share_of, search_key)
    ended, _ = searching.search(lab, searcher, settings.search.strengths, aim)
    warnings += searching.warnings(searcher, ended, aim)
    gating = "locked" if locked else "free"
    for one in ended:
      found[f"{gating}-{one.asked}"] = {**one.assignment, **rules}
      details[f"{gating}-{one.asked}"] = {
        "gates": gating,
        "strength": f"{one.strength:g}",
      }
  for bits in settings.uniform_baselines:
    found[f"{bits}/{bits}"] = precision.uniform(net, bits)

  # ---- Hardware pass: raised wherever that is faster, but for what rules say
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
    lab,
    settings,
    found,
    judged,
    float_judged,
    details,
    parents,
    raises,
    warnings,
  )


def _searcher(settings, lab: Lab, locked: bool, start, share_of, key):
  """Searches that differ in their strength, all from the float network."""
  net, stage = lab.net, settings.search
  scheme = FreeBitsScheme(gate_groups(net, locked), stage.faithful)
  trainer = lab.trainer(
    stage,
    Model(net, scheme),
    ("params", "gates"),
    bops_regularizer(net.workload, scheme.groups, stage.penalty),
    gate_learning_rate=stage.gate_learning_rate,
    sums_gate_gradients=stage.faithful,
  )
  return searching.Searcher(
    f"search-{'locked' if locked else 'free'}",
    "precision search",
    trainer,
    {**start, "gates": scheme.start()},
    lambda strength: {"key": key, "strength": jnp.float32(strength)},
    lambda variables: scheme.assignment(net, variables),
    share_of,
  )


def _share(aim, lab: Lab, pinned, searched) -> float:
  """What a searched assignment costs of 8/8, as targets count it.

  Args:
    aim: targets.
    lab: network and its costs.
    pinned: workload in which what rules say is fixed.
    searched: bits of every site.
  """
  costs, eight = lab.costs, precision.uniform(lab.net, 8)
  whole = lab.net.workload
  if aim.cost == "bops":
    return proxies.bops(whole, searched) / proxies.bops(whole, eight)
  raised, _ = free_bits(pinned, costs.cycles, searched)
  return costs.total(whole, raised) / costs.total(whole, eight)


def _gap(workload, costs, assignment) -> dict[str, str]:
  """How far the pass ends above the least latency that raises reach."""
  choice = problem.make(workload, {"cycles": costs.cycles})
  ways = exact.distance(choice, costs.cycles, assignment)
  above = ways.greedy / ways.least - 1
  return {"above the fastest": f"{above:.1%}"} if above else {}
