"""The Free Bits pass: raise precisions wherever that lowers latency."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hwsim.latency_table import BITS
from hwsim.workload import Workload


class Raise(NamedTuple):
  """What the pass changed for one layer.

  Attributes:
    layer: name of the layer.
    site: site of the activation that the layer reads.
    before: (activation bits, weight bits); None for bits of absent weights.
    after: (activation bits, weight bits) after the pass.
    cycles_before: cycles of the layer before the pass.
    cycles_after: cycles of the layer after the pass.
  """

  layer: str
  site: str
  before: tuple[int, int | None]
  after: tuple[int, int | None]
  cycles_before: int
  cycles_after: int


def free_bits(
  workload: Workload, cycles: np.ndarray, precision: Mapping[str, int]
) -> tuple[dict[str, int], list[Raise]]:
  """The assignment after one pass of the Free Bits heuristic.

  For every tensor that layers read, and the weights of these layers, the bits
  of least latency are taken among those at least as high; what is raised goes
  to the highest of equals. Nothing changes where latency would not fall. One
  pass is enough:
  with 8-bit outputs, as benchmarked by the authors, a layer's cycles depend on
  the tensor it reads and on its weights alone (docs/facts/pulp.md 6). Where
  several layers read one tensor they are decided together; the authors' code
  keeps the last one's choice.

  Args:
    workload: `L` layers.
    cycles: [L, A, W], cycles of each layer by bits of its input and of its
      weights.
    precision: bits of every site; fixed sites keep theirs.

  Returns:
    (assignment, changes by layer in the order of the workload).
  """
  # Positions in `BITS` from here on.
  cycles = np.asarray(cycles)
  fixed = dict(workload.fixed_bits)
  level = {bits: i for i, bits in enumerate(BITS)}
  result = dict(precision)
  changes = []

  # What layers read in common is decided once for all of them.
  for site, readers in _readers(workload).items():
    now = level[precision[site]]
    allowed = [now] if site in fixed else range(now, len(BITS))
    weights = {i: _weight_level(workload, i, precision) for i in readers}

    def best_weight(i, a, weights=weights):
      row = cycles[i, a, weights[i] :]
      if row[0] == row.min() or _weight_site(workload, i) in fixed:
        return weights[i]
      return weights[i] + len(row) - 1 - int(np.argmin(row[::-1]))

    def total(a, readers=readers, best_weight=best_weight):
      return sum(cycles[i, a, best_weight(i, a)] for i in readers)

    # Nothing changes without a gain. Among equals the higher bits are taken,
    # but a tensor that need not be raised stays.
    least = min(total(a) for a in allowed)
    current = sum(cycles[i, now, weights[i]] for i in readers)
    if not least < current:
      continue
    chosen = (
      now
      if total(now) == least
      else max(a for a in allowed if total(a) == least)
    )

    # Weights follow the activation that was chosen.
    result[site] = BITS[chosen]
    for i in readers:
      layer, w = workload.layers[i], weights[i]
      after = best_weight(i, chosen)
      if layer.has_weights:
        result[workload.weight_site(layer)] = BITS[after]
      if (chosen, after) != (now, w):
        changes.append((i, site, (now, w), (chosen, after)))

  # In the order of the workload, whatever the order of the sites.
  return result, [
    Raise(
      layer=workload.layers[i].name,
      site=site,
      before=_bits(workload, i, before),
      after=_bits(workload, i, after),
      cycles_before=int(cycles[(i, *before)]),
      cycles_after=int(cycles[(i, *after)]),
    )
    for i, site, before, after in sorted(changes)
  ]


def _readers(workload: Workload) -> dict[str, list[int]]:
  """Site -> the layers that read it; an adder counts with its first operand.

  Both operands of an adder have a fixed precision, so nothing is decided there.
  """
  readers: dict[str, list[int]] = {}
  for i, sites in enumerate(workload.input_sites):
    readers.setdefault(sites[0], []).append(i)
  return readers


def _weight_site(workload, i):
  return workload.weight_site(workload.layers[i])


def _weight_level(workload, i, precision):
  """Index of the layer's weight bits; the last one where it has no weights."""
  layer = workload.layers[i]
  if not layer.has_weights:
    return len(BITS) - 1
  return BITS.index(precision[workload.weight_site(layer)])


def _bits(workload, i, pair):
  a, w = pair
  return BITS[a], BITS[w] if workload.layers[i].has_weights else None
