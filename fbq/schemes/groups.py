"""Which sites share the gates of a search."""

import dataclasses

import numpy as np

from fbq.nets.graph import Net


@dataclasses.dataclass(frozen=True)
class GateGroups:
  """Which sites share gates.

  Attributes:
    of_site: per site of the workload, the row of its gates; -1 where the
      precision is fixed.
    count: number `G` of rows.
  """

  of_site: tuple[int, ...]
  count: int

  def rows(self, net: Net) -> dict[str, int]:
    """Row of every site of `net`."""
    return dict(zip(net.workload.sites, self.of_site, strict=True))

  def assignment(self, net: Net, bits: np.ndarray) -> dict[str, int]:
    """{site: bits} from the bits [G] of every group and the fixed ones."""
    return {
      site: int(net.fixed_bits[site] if row < 0 else bits[row])
      for site, row in self.rows(net).items()
    }


def gate_groups(net: Net, locked: bool) -> GateGroups:
  """Gates of the search over the free sites of `net`.

  Free gates: one group per site. Locked (the authors' `shared_gates`): the
  weights of a layer share the gates of the activation it reads. Where several
  layers read one tensor they are all locked together; the authors tie the first
  of them only (docs/facts/quantization.md 3.2), which leaves the others
  unlocked.
  """
  sites = net.workload.sites
  parent = {site: site for site in sites}
  if locked:
    for layer, reads in zip(
      net.workload.layers, net.workload.input_sites, strict=True
    ):
      if layer.has_weights and reads[0] not in net.fixed_bits:
        parent[net.workload.weight_site(layer)] = reads[0]
  rows: dict[str, int] = {}
  of_site = []
  for site in sites:
    if site in net.fixed_bits:
      of_site.append(-1)
    else:
      of_site.append(rows.setdefault(parent[site], len(rows)))
  return GateGroups(tuple(of_site), len(rows))
