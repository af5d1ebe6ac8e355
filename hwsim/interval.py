"""Latency of a network with its interval over all that is assumed."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hwsim.latency_table import OutputBits, total_cycles
from hwsim.pulp.many import network_cycles
from hwsim.targets import Target, family, ladder_of, latency_table
from hwsim.workload import Workload


class Latency(NamedTuple):
  """Cycles of a network.

  Attributes:
    central: on the target itself, which is at an end of several ranges
      (`hwsim.assumption.Assumption.end`): draws go one way from it, so that it
      may lie outside of the interval, which is around the median.
    median: least cycles that half of the draws do not exceed.
    low, high: between which the wanted share of the draws is.
  """

  central: int
  median: int
  low: int
  high: int


def latency(
  workload: Workload,
  precision: Mapping[str, int],
  target: Target,
  output_bits: OutputBits = 8,
  draws: int = 200,
  share: float = 0.9,
  seed: int = 0,
) -> Latency:
  """Cycles of a network under one assignment, and their interval.

  Args:
    workload: the network.
    precision: bits of every free site.
    target: hardware; see `hwsim.pulp.doubt` and `hwsim.ne16.doubt`.
    output_bits: as in `hwsim.latency_table.layer_cycles`.
    draws: how many targets are drawn.
    share: share of the draws that lie in the interval, the same part of the
      others above and below.
    seed: of the draws.

  Raises:
    ValueError: as `latency_table` and `assumptions` of the target's family; or
      a layer that does not fit at every end of what is assumed.
  """
  table = latency_table(workload, target)
  room = family(target)
  constants, _ = room.doubt.draws(target, draws, seed)
  tables = room.many.latency_tables(workload, constants)
  if not tables.fits.all():
    name = workload.layers[int(np.argmin(tables.fits.all(axis=0)))].name
    raise ValueError(
      f"layer {name!r} does not fit {target.name!r} in every draw of what is "
      "assumed of it; use a larger l1_bytes or l2_bytes"
    )
  cycles = network_cycles(
    tables.cycles, workload, precision, output_bits, ladder_of(target)
  )
  shares = 0.5, (1 - share) / 2, (1 + share) / 2
  numbers = np.quantile(cycles, shares, method="inverted_cdf").tolist()
  central = total_cycles(table, workload, precision, output_bits)
  return Latency(central, *numbers)
