"""Free Bits (arXiv 2307.02894), from images to a front of accuracy over cycles.

Float training, calibration, Bayesian Bits searches at several strengths with
locked and free gates, the hardware pass on a latency table, and fine-tuning of
everything found beside the uniform baselines; all of it for every seed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fbq import precision
from fbq.experiments.free_bits.config import FreeBits
from fbq.lab import (
  fine_tuning,
  hardware_pass,
  over_seeds,
  points,
  searching,
)
from fbq.lab.calibration import calibrate, ranges_at
from fbq.lab.fine_tuning import FineTuner
from fbq.lab.hardware_pass import HardwarePass
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.report.assignments import Assignments
from fbq.schemes.free_bits import FreeBits as FreeBitsScheme
from fbq.schemes.groups import gate_groups
from fbq.search import exact, problem
from fbq.train.loop import Trainer
from fbq.train.regularizers import bops_regularizer
from hwsim import latency_io, proxies

_RAISED = "+FB"  # what names end in after the hardware pass


class Gating(NamedTuple):
  """Searches by gates of one kind.

  Attributes:
    scheme: their gates.
    trainer: compiled step of all strengths and seeds.
  """

  scheme: FreeBitsScheme
  trainer: Trainer


def run(settings: FreeBits, lab: Lab) -> Assignments:
  """The front of a network: every assignment found, with cost and accuracy."""
  latency_io.save(lab.costs.table, lab.workdir / "latency_table.csv")

  # One compiled step for each gating and one for all fine-tuning: strengths,
  # assignments and seeds are data
  recipe = fine_tuning.recipe_of(settings.qat)
  fine_tune = FineTuner(lab, recipe, settings.fine_tuning)
  gatings = {
    "locked" if locked else "free": _gating(settings, lab, locked)
    for locked in settings.search.locked
  }
  raising = hardware_pass.of(
    settings, settings.care, lab.costs, lab.net.workload
  )
  seeds = [
    of_seed(settings, lab, gatings, raising, fine_tune, seed)
    for seed in settings.seeds
  ]
  parents = {
    name: name.removesuffix(_RAISED)
    for name in seeds[0].found
    if name.endswith(_RAISED)
  }
  return over_seeds.assignments(lab, settings, seeds, parents)


def of_seed(
  settings: FreeBits,
  lab: Lab,
  gatings: Mapping[str, Gating],
  raising: HardwarePass,
  fine_tune: FineTuner,
  seed: int,
) -> over_seeds.OneSeed:
  """The whole method for one seed."""
  net = lab.net
  prefix = points.prefix_of(settings.seeds, seed)
  start_key, float_key, calibration_key, search_key, tuning_key = (
    jax.random.split(jax.random.key(seed), 5)
  )

  # ---- Float network
  float_variables, float_judged = lab.float_network(
    f"{prefix}float", (start_key, float_key)
  )

  # ---- Ranges of activations, on training data
  with lab.clock.measure("calibration"):
    images, _ = lab.calibration_set(calibration_key)
    widths = lab.widths
    ranges, tensors = calibrate(net, float_variables, images, widths)

  # ---- Precision search, from activations' ranges at `range_bits`
  rules = precision.ruled(net, settings.rules, lab.ladder)
  pinned = dataclasses.replace(
    net.workload, fixed_bits=(*net.workload.fixed_bits, *rules.items())
  )
  grown_from = {
    site: net.fixed_bits.get(site, settings.search.range_bits)
    for site in net.is_signed
  }
  start = {**float_variables, "ranges": ranges_at(ranges, grown_from)}
  aim = settings.search.aim
  share_of = lambda bits: _share(aim, lab, raising, pinned, {**bits, **rules})
  found: dict[str, dict[str, int]] = {}  # by the name of its point
  details: dict[str, dict[str, Any]] = {}
  warnings: list[str] = []
  for name, gating in gatings.items():
    searcher = _searcher(
      f"{prefix}search-{name}", gating, net, start, share_of, search_key
    )
    ended, _ = searching.search(lab, searcher, settings.search.strengths, aim)
    warnings += searching.warnings(searcher, ended, aim)
    for one in ended:
      # What the hardware does not have is raised to what it has.
      searched = lab.ladder.at_least({**one.assignment, **rules})
      found[f"{name}-{one.asked}"] = searched
      strength = f"{one.strength:g}"
      details[f"{name}-{one.asked}"] = {"gates": name, "strength": strength}
  found |= points.uniform(lab, settings.uniform_baselines)

  # ---- Hardware pass: raised wherever that is faster, but for what rules say
  raises = {}
  for name, assignment in list(found.items()):
    workload = pinned if name in details else net.workload
    raised, changes = raising(workload, assignment)
    found[name + _RAISED], raises[name + _RAISED] = raised, changes
    details[name + _RAISED] = _gap(workload, raising, assignment, raised)
  for name, assignment in found.items():
    if any(assignment[site] != bits for site, bits in rules.items()):
      details.setdefault(name, {})["breaks"] = "the rules"
  points.save_precisions(lab, found, prefix)

  # ---- Fine-tuning from the float network
  starts = fine_tuning.starts(
    net, float_variables, tensors, fine_tune.recipe, ranges, widths
  )
  judged = points.fine_tuned(
    lab, fine_tune, float_variables, starts, found, tuning_key, prefix
  )
  return over_seeds.OneSeed(
    seed, float_judged, found, judged, details, raises, warnings
  )


def _gating(settings: FreeBits, lab: Lab, locked: bool) -> Gating:
  net, search = lab.net, settings.search
  scheme = FreeBitsScheme(gate_groups(net, locked), search.faithful)
  trainer = lab.trainer(
    search,
    Model(net, scheme),
    ("params", "gates"),
    bops_regularizer(net.workload, scheme.groups, search.penalty),
    gate_learning_rate=search.gate_learning_rate,
    sums_gate_gradients=search.faithful,
  )
  return Gating(scheme, trainer)


def _searcher(name, gating: Gating, net, start, share_of, key):
  """Searches that differ in their strength, all from the float network."""
  scheme, trainer = gating
  return searching.Searcher(
    name,
    "precision search",
    trainer,
    {**start, "gates": scheme.start()},
    lambda strength: {"key": key, "strength": jnp.float32(strength)},
    lambda variables: scheme.assignment(net, variables),
    share_of,
  )


def _share(aim, lab: Lab, raising: HardwarePass, pinned, searched) -> float:
  """What a searched assignment costs of 8/8, as targets count it.

  Args:
    aim: targets.
    lab: network and its costs.
    raising: hardware pass.
    pinned: workload in which what rules say is fixed.
    searched: bits of every site.
  """
  costs, eight = lab.costs, precision.uniform(lab.net, 8)
  whole = lab.net.workload
  if aim.cost == "bops":
    return proxies.bops(whole, searched) / proxies.bops(whole, eight)
  raised, _ = raising(pinned, searched)
  return costs.total(whole, raised) / costs.total(whole, eight)


def _gap(workload, raising: HardwarePass, assignment, raised) -> dict[str, str]:
  """How far the pass ends above the least latency that raises reach.

  Both by the cycles of the target, also of a pass that looks at draws.
  """
  cycles, ladder = raising.costs.cycles, raising.costs.table.ladder
  choice = problem.make(workload, {"cycles": cycles}, ladder=ladder)
  start = ladder.at_least(workload.site_bits(assignment))
  fastest, _ = exact.least_latency(choice, start)
  least, reached = (
    int(problem.evaluate(choice, bits).costs["cycles"][0])
    for bits in (fastest, raised)
  )
  above = reached / least - 1
  return {"above the fastest": f"{above:.1%}"} if above else {}
