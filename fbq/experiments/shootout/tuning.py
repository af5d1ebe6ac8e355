"""Fine-tuning of all candidates: the same number of steps for each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fbq.experiments.shootout.candidates import Candidate, Hardware, Started
from fbq.experiments.shootout.config import Shootout
from fbq.experiments.shootout.significance import rank_correlation
from fbq.experiments.shootout.standings import Tuned
from fbq.lab import fine_tuning, points
from fbq.lab.calibration import activations
from fbq.lab.lab import Lab
from fbq.lab.strategies import Search, Strategy, macs_of
from fbq.quantizers import calibration
from fbq.quantizers.site_ranges import Ranges


def fine_tuned(
  settings: Shootout,
  lab: Lab,
  hardware: Hardware,
  strategies: Mapping[str, Strategy],
  candidates: Sequence[Candidate],
  started: Mapping[int, Started],
) -> list[Tuned]:
  """Every candidate with its cycles and accuracies.

  Equal assignments of a seed that start from the same weights train once.
  """
  net, costs = lab.net, lab.costs
  recipe = fine_tuning.recipe_of(settings.qat)
  tuner = fine_tuning.FineTuner(lab, recipe, settings.fine_tuning)
  names = [
    f"seed{one.seed}-{one.strategy}-{one.setting}".replace(" ", "-")
    for one in candidates
  ]
  points.save_precisions(
    lab, {n: one.precision for n, one in zip(names, candidates, strict=True)}
  )
  starts = {
    seed: fine_tuning.starts(
      net, begun.variables, begun.tensors, recipe, begun.ranges, lab.widths
    )
    for seed, begun in started.items()
  }
  macs = macs_of(net)
  free = net.workload.free_sites

  judged: dict[str, Any] = {}  # by name of the run
  tuned = []
  for name, one in zip(names, candidates, strict=True):
    begun = started[one.seed]
    run = f"seed{one.seed}-fine-tune-{points.digest(net, one.precision)}"
    variables, ranges = begun.variables, starts[one.seed]
    if one.end is not None:
      run += f"-{one.strategy}-{one.setting}".replace(" ", "-")
    if run not in judged:
      if one.end is not None:
        strategy = strategies[one.strategy]
        variables, ranges = kept(lab, recipe, strategy, one, begun)
      judged[run] = tuner(
        run, variables, ranges, one.precision, begun.tuning_key
      )
      lab.log.say(f"[{len(judged)}] {name}: {judged[run]}")

    # How far the chosen bits follow from the size of a tensor's work alone.
    rank = rank_correlation(
      [macs[site] for site in free], [one.searched[site] for site in free]
    )
    tuned.append(
      Tuned(
        one.strategy,
        one.seed,
        one.setting,
        costs.total(net.workload, one.precision),
        judged[run].test.accuracy,
        judged[run].test.error,
        judged[run].validation.accuracy,
        one.precision,
        rank,
        costs.otherwise(net.workload, one.precision),
      )
    )
  return tuned


def kept(
  lab: Lab,
  recipe: fine_tuning.Recipe,
  strategy: Strategy,
  one: Candidate,
  begun: Started,
) -> tuple[dict[str, Any], Ranges]:
  """(variables, ranges at which fine-tuning starts) that a search trained.

  Its weights are used to quantized inputs, and their batch norms to what these
  become. So ranges are calibrated on what tensors are with everything at the
  bits of the assignment, not on a float pass of these weights, which they were
  not trained for: before any fine-tuning that read 66.5 % of the digits and
  this 77.2 %, after the hardware pass 48.5 and 62.8 % (Free Bits at strength
  0.006, one seed). What the search itself learned stays, where the pass left
  the bits.

  Args:
    lab: network and calibration set.
    recipe: how the network will be trained.
    strategy: search that trained them.
    one: candidate with the variables of its end.
    begun: float network of the seed.
  """
  net, end = lab.net, dict(one.end or {})
  bits = one.precision

  # One pass at these bits, by the ranges of the search and of its weights.
  weights = {
    f"{node.name}.weight": calibration.weight_ranges(
      np.asarray(end["params"][f"{node.name}_kernel"]),
      node.op != "linear",
      bits[f"{node.name}.weight"],
    )
    for node in net.nodes
    if node.has_weights
  }
  own = {
    site: end["ranges"][site] for site in net.is_signed if site in end["ranges"]
  }
  variables = {kind: end[kind] for kind in ("params", "batch_stats")}
  tensors = activations(
    net,
    {**variables, "ranges": {**own, **weights}},
    begun.images,
    lab.bits(bits),
  )
  found = fine_tuning.starts(net, variables, tensors, recipe, bits=lab.widths)

  # Learned ranges belong to the bits at which they were learned.
  if isinstance(strategy, Search) and "ranges" in strategy.trained:
    found = {
      site: {
        b: np.asarray(end["ranges"][site])
        if site in end["ranges"] and b == bits[site] == one.searched[site]
        else range_
        for b, range_ in by_bits.items()
      }
      for site, by_bits in found.items()
    }
  return variables, found
