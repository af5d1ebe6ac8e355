"""The Free Bits pass: raise precisions wherever that lowers latency.

The authors' pass looks at every layer once, with its output timed at 8 bits
(docs/facts/pulp.md 6): then a layer's cycles depend on the tensor it reads and
on its weights alone, and one look is enough. Two things here are ours. Layers
that read one tensor are decided together, where the authors' code keeps the
last one's choice. And cycles may depend on the bits of the output, which are
those at which its readers read it: then a raise may cost the layers that write
the tensor what it saves its readers, and open new ones, so the sum over all of
them counts, and the pass is repeated until nothing changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fbq.search.problem import Factor, layer_factors
from hwsim.latency_table import PULP_LADDER, Ladder
from hwsim.workload import Workload

LayerBits = tuple[int, int | None, int | None]


class Raise(NamedTuple):
  """What the pass changed for one layer.

  Attributes:
    layer: name of the layer.
    site: site of the activation that the layer reads; of two, one that rose.
    before: (input, weight, output) bits, of the wider of two inputs; None for
      weights that are absent and outputs that are not quantized.
    after: the same after the pass.
    cycles_before: cycles of the layer before the pass.
    cycles_after: cycles of the layer after the pass.
  """

  layer: str
  site: str
  before: LayerBits
  after: LayerBits
  cycles_before: int
  cycles_after: int


def free_bits(
  workload: Workload,
  cycles: np.ndarray,
  precision: Mapping[str, int],
  ladder: Ladder = PULP_LADDER,
) -> tuple[dict[str, int], list[Raise]]:
  """The assignment after the Free Bits heuristic.

  For every activation, and the weights of the layers that read it, the bits of
  least latency are taken among those at least as high, all else as it is; what
  is raised goes to the highest of equals. Nothing changes where latency would
  not fall, so every change lowers the latency of the network, bits only rise,
  and it ends: at a fixed point, where no single activation with its readers'
  weights can be raised for a gain. With cycles [L, A, W], where no layer reads
  two free tensors, the first round is the last that changes anything, and no
  assignment above is faster; else one may be (`fbq.search.exact.distance` says
  by how much).

  Args:
    workload: `L` layers.
    cycles: integers [L, A, W], cycles of each layer by bits of its input and of
      its weights, or [L, A, W, O], by those of its output too.
    precision: bits of every site; fixed sites keep theirs. What the hardware
      does not have is raised to the next precision that it has before anything
      is compared.
    ladder: precisions of the hardware.

  Returns:
    (assignment, changes by layer in the order of the workload). A layer is
    listed if its input, its weights or its cycles changed.
  """
  # Positions on the ladder from here on.
  factors = layer_factors(workload, cycles, ladder)
  precision = ladder.at_least(precision)
  level = {
    site: ladder.of(site).index(precision[site]) for site in workload.sites
  }
  groups = list(groups_of(workload, factors))

  # A raise may make others worth while, those of its neighbours.
  while True:
    before = dict(level)
    for group in groups:
      level |= _raised(group, level, len(ladder.activations))
    if level == before:
      break

  result = {site: ladder.of(site)[at] for site, at in level.items()}
  return result, changes(workload, factors, precision, result, ladder)


class Group(NamedTuple):
  """What is decided together.

  Attributes:
    site: an activation.
    is_free: whether its bits may change.
    layers: (factor, site of the weights that may change or "") of every layer
      whose cycles depend on the activation.
  """

  site: str
  is_free: bool
  layers: list[tuple[Factor, str]]


def groups_of(workload: Workload, factors: Sequence[Factor]) -> Iterator[Group]:
  """Every activation with the layers around it, in the order of the network."""
  free = set(workload.free_sites)
  weights = {workload.weight_site(layer) for layer in workload.layers}
  for site in workload.sites:
    if site in weights:
      continue
    layers = []
    for layer, reads, factor in zip(
      workload.layers, workload.input_sites, factors, strict=True
    ):
      # A layer that only writes the tensor keeps its weights.
      weight = workload.weight_site(layer)
      is_decided = site in reads and layer.has_weights and weight in free
      if site in factor.sites:
        layers.append((factor, weight if is_decided else ""))
    yield Group(site, site in free, layers)


def _raised(
  group: Group, level: Mapping[str, int], count: int
) -> dict[str, int]:
  """Positions of what is raised in a group; nothing without a gain."""
  now = level[group.site]
  found = {}
  for at in range(now, count) if group.is_free else [now]:
    place = {**level, group.site: at}
    total, chosen = 0, {group.site: at}
    for factor, weight in group.layers:
      least = place.get(weight, 0)
      index = [
        slice(least, None) if site == weight else place[site]
        for site in factor.sites
      ]
      row = np.atleast_1d(factor.table[tuple(index)])
      total += int(row.min())
      # Of equals the highest, but weights that need not be raised stay.
      if weight and row[0] != row.min():
        chosen[weight] = least + len(row) - 1 - int(np.argmin(row[::-1]))
    found[at] = total, chosen

  # Of equals the highest, but a tensor that need not be raised stays.
  current = sum(
    int(factor.table[tuple(level[site] for site in factor.sites)])
    for factor, _ in group.layers
  )
  least = min(total for total, _ in found.values())
  if least >= current:
    return {}
  at = (
    now
    if found[now][0] == least
    else max(at for at, (total, _) in found.items() if total == least)
  )
  return found[at][1]


def changes(
  workload: Workload,
  factors: Sequence[Factor],
  before: Mapping[str, int],
  after: Mapping[str, int],
  ladder: Ladder = PULP_LADDER,
) -> list[Raise]:
  """What differs between two assignments, by layer.

  Args:
    workload: `L` layers.
    factors: cycles of each layer, see `fbq.search.problem.layer_factors`.
    before: bits of every site.
    after: bits of every site.
    ladder: precisions of the hardware.
  """
  found = []
  for i, (layer, factor) in enumerate(
    zip(workload.layers, factors, strict=True)
  ):
    reads, writes = workload.input_sites[i], workload.output_sites[i]
    site = next((s for s in reads if before[s] != after[s]), reads[0])
    weight = workload.weight_site(layer) if layer.has_weights else None
    old, new = (
      (
        max(bits[site] for site in reads),
        None if weight is None else bits[weight],
        None if writes is None else bits[writes],
      )
      for bits in (before, after)
    )
    then, now = (
      int(
        factor.table[tuple(ladder.of(s).index(bits[s]) for s in factor.sites)]
      )
      for bits in (before, after)
    )
    if old[:2] != new[:2] or then != now:
      found.append(Raise(layer.name, site, old, new, then, now))
  return found
