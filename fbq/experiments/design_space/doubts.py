"""One target within the ranges of all that is assumed of it."""

from collections.abc import Mapping

import numpy as np

from fbq import precision
from fbq.config import ConfigError
from fbq.experiments.design_space.config import DesignSpace, uniforms
from fbq.experiments.design_space.results import (
  Choice,
  Doubt,
  Order,
  Worth,
)
from fbq.files import user_path
from fbq.lab.intervals import interval
from fbq.lab.lab import Lab
from fbq.search import problem, quantile, terms
from fbq.search.free_bits import free_bits
from hwsim import pulp
from hwsim.latency_table import Ladder
from hwsim.pulp import slopes
from hwsim.pulp.many import network_cycles
from hwsim.targets import Target, family, ladder_of, latency_table


def doubt_of(
  settings: DesignSpace, lab: Lab, target: Target, best_bits: tuple[int, ...]
) -> Doubt:
  """Intervals, what each assumption is worth, and which choices are sure.

  Args:
    settings, lab: those of the run.
    target: target within its ranges; at an end of several of them.
    best_bits: bits of the free tensors in the best assignment on it.
  """
  net, workload = lab.net, lab.net.workload
  room, ladder = family(target), ladder_of(target)
  timed = _Timed(settings, lab, ladder)

  # ---- All draws, and both ends of every range, in one program
  drawn, _ = room.doubt.draws(target, settings.draws, settings.seed)
  ends = room.doubt.ends(target)
  constants = room.many.joined([drawn, *ends.values()])
  tables = room.many.latency_tables(workload, constants)
  if not tables.fits.all():
    name = workload.layers[int(np.argmin(tables.fits.all(axis=0)))].name
    raise ConfigError(
      f"config.draws: layer {name!r} does not fit {target.name!r} at every end "
      "of what is assumed of it; take a larger l2_bytes, or draws=0"
    )
  cycles, at_ends = np.split(tables.cycles, [settings.draws])
  central = latency_table(workload, target).cycles

  # ---- Networks: uniform, raised, raised with care, and those given
  least = settings.least_bits
  start = ladder.at_least(precision.uniform(net, least))
  networks = uniforms(net, ladder)
  [base] = [name for name in networks if name.endswith(f"/{least}")]
  raised, _ = free_bits(workload, timed.view(central), start, ladder)
  careful = _careful(settings, timed, cycles, (start, raised))
  networks[f"{base}+FB"] = raised
  networks[f"{base} fastest"] = start | dict(
    zip(workload.free_sites, best_bits, strict=True)
  )
  networks[f"{base}+FB, careful"] = careful
  gap, fails = 0.0, ""
  try:
    found = quantile.least_latency(
      problem.make(workload, {}, ladder=ladder),
      timed.view(cycles),
      start,
      settings.quantile,
    )
  except terms.TooWide as error:
    fails = str(error)
  else:
    gap = found.gap
    networks[f"{base} careful, {'near the least' if gap else 'exact'}"] = (
      found.precision
    )
  networks |= _given(settings, lab, ladder)
  totals = {name: timed.total(cycles, bits) for name, bits in networks.items()}
  middle = {
    name: int(timed.total(central[None], bits)[0])
    for name, bits in networks.items()
  }

  # ---- The pass in every draw
  by_draw = [
    free_bits(workload, timed.view(table), start, ladder)[0] for table in cycles
  ]
  return Doubt(
    settings.draws,
    settings.quantile,
    tuple(
      interval(name, middle[name], middle["8/8"], totals[name], totals["8/8"])
      for name in networks
    ),
    tuple(
      int(quantile.upper(totals[name], settings.quantile)) for name in networks
    ),
    _worths(timed, lab, target, raised, at_ends),
    tuple(
      _choice(site, start, raised, by_draw) for site in workload.free_sites
    ),
    _orders(middle, totals),
    gap,
    fails,
  )


def _careful(settings, timed, cycles, starts):
  """The better end of the careful pass: it may get stuck, as bits only rise."""
  found = [
    quantile.free_bits(
      timed.workload,
      timed.view(cycles),
      each,
      settings.quantile,
      timed.ladder,
    )
    for each in starts
  ]

  def reached(bits):
    return quantile.upper(timed.total(cycles, bits), settings.quantile)

  return min(found, key=reached)


class _Timed:
  """Cycles of assignments as the settings time outputs."""

  def __init__(self, settings: DesignSpace, lab: Lab, ladder: Ladder):
    self.workload, self.ladder = lab.net.workload, ladder
    self.own_outputs = settings.output_bits == "reader"

  def view(self, cycles: np.ndarray) -> np.ndarray:
    """[..., A, W, O], or [..., A, W] where outputs are timed at 8 bits."""
    return cycles if self.own_outputs else cycles[..., -1]

  def total(self, cycles: np.ndarray, bits: Mapping[str, int]) -> np.ndarray:
    """Cycles int64 [H] of an assignment from tables [H, L, A, W, O]."""
    output_bits = "site" if self.own_outputs else 8
    return network_cycles(cycles, self.workload, bits, output_bits, self.ladder)


def _given(
  settings: DesignSpace, lab: Lab, ladder: Ladder
) -> dict[str, dict[str, int]]:
  """Assignments of the folder that the settings name."""
  if not settings.precisions:
    return {}
  found = {}
  try:
    for path in sorted(user_path(settings.precisions).glob("*.json")):
      found[path.stem] = precision.from_json(lab.net, path, ladder)
  except (ValueError, OSError) as error:
    raise ConfigError(f"config.precisions: {error}") from error
  return found


def _worths(timed, lab, target, raised, at_ends) -> tuple[Worth, ...]:
  """What every assumption is worth to the raised network, the most first."""
  workload = lab.net.workload
  eight = timed.total(at_ends, precision.uniform(lab.net, 8)).reshape(-1, 2)
  best = timed.total(at_ends, raised).reshape(-1, 2)
  change = 100 * (best / eight - 1)

  # Derivatives at the assignment's own bits
  bits = workload.site_bits(raised)
  layers = [
    (
      layer,
      (
        max(bits[site] for site in reads),
        bits[workload.weight_site(layer)] if layer.has_weights else 8,
        32 if output is None else (bits[output] if timed.own_outputs else 8),
      ),
    )
    for layer, reads, output in zip(
      workload.layers,
      workload.input_sites,
      workload.output_sites,
      strict=True,
    )
  ]
  by_value = {}
  if isinstance(target, pulp.Target):  # NE16's code is not derived
    by_value = slopes.network_slopes(layers, target)
  found = [
    Worth(
      each.name,
      each.center,
      each.low,
      each.high,
      each.source,
      float(np.sum(by_value[each.name])) * (each.high - each.low)
      if each.has_slope and by_value
      else None,
      int(best[i, 1] - best[i, 0]),
      float(change[i, 1] - change[i, 0]),
    )
    for i, each in enumerate(family(target).doubt.assumptions(target))
  ]
  return tuple(sorted(found, key=lambda worth: -abs(worth.swing)))


def _choice(site, start, raised, by_draw) -> Choice:
  ends, many_ = np.unique([bits[site] for bits in by_draw], return_counts=True)
  shares = dict(
    zip(ends.tolist(), (many_ / len(by_draw)).tolist(), strict=True)
  )
  same = shares.pop(raised[site], 0.0)
  return Choice(site, start[site], raised[site], same, tuple(shares.items()))


def _orders(middle, totals) -> tuple[Order, ...]:
  """Neighbours by cycles, equal networks told once."""
  names = sorted(middle, key=lambda name: middle[name])
  distinct: list[str] = []
  for name in names:
    if not any(np.array_equal(totals[name], totals[d]) for d in distinct):
      distinct.append(name)
  return tuple(
    Order(a, b, float(np.mean(totals[a] < totals[b])))
    for a, b in zip(distinct, distinct[1:], strict=False)
  )
