"""What every strategy proposes for every budget, of one seed.

All are raised by the exact hardware pass, and lie within the budget but where a
strategy does not get there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.experiments.shootout.config import Shootout, aim_of
from fbq.lab import searching
from fbq.lab.calibration import calibrate, ranges_at
from fbq.lab.costs import Costs
from fbq.lab.lab import Lab
from fbq.lab.searching import Searched
from fbq.lab.strategies import Order, Search
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges
from fbq.search import exact, problem, value
from fbq.train.loop import Trainer
from hwsim.latency_table import Ladder


class Candidate(NamedTuple):
  """An assignment on its way to fine-tuning.

  Attributes:
    strategy, seed, setting: see `standings.Tuned`.
    searched: bits that the strategy chose.
    precision: bits after the hardware pass.
    end: variables after the search that chose them, where fine-tuning starts
      from them; else None.
  """

  strategy: str
  seed: int
  setting: str
  searched: dict[str, int]
  precision: dict[str, int]
  end: Mapping[str, Any] | None = None


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


class Hardware(NamedTuple):
  """What assignments cost, and the exact hardware pass.

  Attributes:
    net: the network.
    costs: target and its cycles.
    choice: choice of all bits by cycles.
    eight: cycles of uniform 8 bits.
  """

  net: Net
  costs: Costs
  choice: problem.Problem
  eight: int

  @classmethod
  def of(cls, lab: Lab) -> "Hardware":
    """That of a lab."""
    workload = lab.net.workload
    return cls(
      lab.net,
      lab.costs,
      problem.make(workload, {"cycles": lab.costs.cycles}, ladder=lab.ladder),
      lab.costs.total(workload, precision.uniform(lab.net, 8)),
    )

  def raised(self, searched: Mapping[str, int]) -> dict[str, int]:
    """Bits after the exact pass, from those that the hardware has."""
    start = self.choice.ladder.at_least(searched)
    return exact.least_latency(self.choice, start)[0]

  def share(self, searched: Mapping[str, int]) -> float:
    """Cycles after the exact pass, as a share of those at 8 bits."""
    raised = self.raised(searched)
    return self.costs.total(self.net.workload, raised) / self.eight

  def best(self, values, budgets: Sequence[float]) -> list[dict[str, int]]:
    """The most valuable assignment within each share of 8 bits' cycles.

    Among the precisions that have values: gates know of 2, 4 and 8 bits only.
    """
    workload = self.net.workload
    ladder, cycles = _valued(self.choice.ladder, self.costs.cycles, values)
    valued = problem.make(workload, {"cycles": cycles}, values, ladder=ladder)
    most = [int(share * self.eight) for share in budgets]
    found = exact.best_value(valued, most)
    return [found.precision(i) for i in range(len(budgets))]


def _valued(ladder: Ladder, cycles: np.ndarray, values):
  """The part of a ladder of which every free tensor has a value, its cycles."""
  known = [
    [i for i, bits in enumerate(rungs) if all(bits in v for v in of_kind)]
    for rungs, of_kind in zip(
      ladder,
      (
        [v for s, v in values.items() if len(v) > 1 and is_weight(s) == weight]
        for weight in (False, True)
      ),
      strict=True,
    )
  ]
  activations, weights = known
  part = Ladder(
    *(
      tuple(rungs[i] for i in places)
      for rungs, places in zip(ladder, known, strict=True)
    )
  )
  found = cycles[:, activations][:, :, weights]
  return part, found[..., activations] if found.ndim == 4 else found


def is_weight(site: str) -> bool:
  """Whether a site is a kernel's."""
  return site.endswith(".weight")


def start(lab: Lab, seed: int) -> Started:
  """The float network of a seed, calibrated."""
  keys = jax.random.split(jax.random.key(seed), 6)
  variables, judged = lab.float_network(f"seed{seed}-float", keys[:2])
  with lab.clock.measure("calibration"):
    images, labels = lab.calibration_set(keys[2])
    ranges, tensors = calibrate(lab.net, variables, images, lab.widths)
  accuracy = judged.test.accuracy
  return Started(
    variables, accuracy, ranges, tensors, images, labels, *keys[3:]
  )


# ---- Searches by training


def searcher_of(
  settings: Shootout,
  hardware: Hardware,
  name: str,
  trainer: Trainer,
  scheme: Any,
  begun: Started,
  seed: int,
) -> searching.Searcher:
  """What the searches of a strategy have in common in a seed."""
  net = hardware.net
  grown_from = {
    site: net.fixed_bits.get(site, settings.search.range_bits)
    for site in begun.ranges
  }
  data = {
    "key": begun.search_key,
    "temperature": jnp.float32(settings.search.temperature),
    "temperature_steps": jnp.float32(settings.search.steps),
  }
  return searching.Searcher(
    f"seed{seed}-{name}",
    f"search: {name}",
    trainer,
    {
      **begun.variables,
      "ranges": ranges_at(begun.ranges, grown_from),
      "gates": scheme.start(),
    },
    lambda strength: data | {"strength": jnp.float32(strength)},
    lambda variables: scheme.assignment(net, variables),
    hardware.share,
  )


def searched(
  settings: Shootout,
  lab: Lab,
  hardware: Hardware,
  search: Search,
  scheme: Any,
  searcher: searching.Searcher,
  plan: Any,
  first: Sequence[float],
) -> tuple[list[Searched], int]:
  """(a search for each budget, in their order; how many were run).

  Args:
    settings, lab, hardware: see `pipeline.run`.
    search: the strategy.
    scheme: scheme of its gates.
    searcher: what its searches have in common.
    plan: how it is tried.
    first: strengths to try first.
  """
  if not search.has_budget:
    return searching.search(lab, searcher, (), aim_of(settings, plan), first)

  # Thresholds on gates know nothing of a budget, so the likeliest assignment
  # within it counts.
  budgets = settings.budgets
  ends = lab.run_many(
    [f"{searcher.name}-{budget:g}" for budget in budgets],
    searcher.stage,
    searcher.trainer,
    [searcher.start] * len(budgets),
    [budget_run(settings, searcher, budget) for budget in budgets],
  )
  strength = settings.search.budget_strength
  found = []
  for budget, end in zip(budgets, ends, strict=True):
    shares = np.asarray(scheme.distribution(end, None))
    worth = value.from_shares(hardware.net, scheme.groups, shares)
    [bits] = hardware.best(worth, [budget])
    share = hardware.share(bits)
    found.append(Searched(f"{budget:.0%}", strength, end, bits, share))
  return found, len(budgets)


def budget_run(
  settings: Shootout, searcher: searching.Searcher, budget: float
) -> dict[str, jax.Array]:
  """The data of a search whose penalty knows its budget."""
  return {
    **searcher.run_of(settings.search.budget_strength),
    "budget": jnp.float32(budget),
    "ramp_steps": jnp.float32(settings.search.steps / 2),
  }


# ---- Controls


def lowered(
  net: Net, order: Sequence[str], count: int, twos: float
) -> dict[str, int]:
  """The first `count` sites of an order lowered, a share of them to 2 bits.

  The first ones have 2 bits, the others of them 4, and the rest 8.
  """
  split = round(twos * count)
  bits = precision.uniform(net, 8)
  bits |= dict.fromkeys(order[:split], 2)
  return bits | dict.fromkeys(order[split:count], 4)


def ordered(
  hardware: Hardware,
  control: Order,
  key: jax.Array,
  like: Sequence[Mapping[str, int]],
  budgets: Sequence[float],
) -> list[dict[str, int]]:
  """A control's assignment for each budget: the slowest within it.

  Args:
    hardware: what assignments cost.
    control: in which order tensors are lowered.
    key: random key of the order.
    like: assignment for each budget whose share of 2-bit tensors, among those
      below 8, is taken over.
    budgets: shares of the cycles at 8 bits.
  """
  net = hardware.net
  free, order = net.workload.free_sites, control.order(net, key)
  found = []
  for bits, budget in zip(like, budgets, strict=True):
    low = [bits[site] for site in free if bits[site] < 8]
    twos = low.count(2) / max(len(low), 1)

    # All numbers of tensors are tried: that costs no training.
    ways = [lowered(net, order, n, twos) for n in range(len(order) + 1)]
    shares = [hardware.share(way) for way in ways]
    within = [i for i, share in enumerate(shares) if share <= budget]
    at = max(within, key=lambda i: shares[i]) if within else np.argmin(shares)
    found.append(ways[int(at)])
  return found
