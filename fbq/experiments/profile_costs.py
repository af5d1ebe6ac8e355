"""The numbers of a profile: every layer on every target, networks, causes."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fbq import precision
from fbq.experiments.profile_causes import explain
from fbq.nets.graph import Net
from fbq.report.profile import UNIFORM, Budget, Cost, Gain, Whole
from fbq.search.free_bits import Raise, free_bits
from hwsim.latency_table import BITS
from hwsim.pulp import Target, simulate
from hwsim.pulp.roofline import least_bytes
from hwsim.workload import Layer, Workload

_simulate = functools.lru_cache(maxsize=100_000)(simulate)
# Enough of the precisions to find out whether every one fits: the widest, the
# narrowest, and mixtures whose channels come in fours.
_CORNERS = ((8, 8, 8), (2, 2, 2), (8, 2, 8), (2, 8, 8), (2, 8, 2), (8, 2, 2))


def kind_of(layer: Layer) -> str:
  """What a layer is called in reports."""
  if layer.op == "conv":
    area = layer.kernel_height * layer.kernel_width
    return "pointwise" if area == 1 else "convolution"
  return "pool" if layer.op.endswith("pool") else layer.op


def cost(
  layer: Layer, bits: tuple[int, int, int], quantized: bool, target: Target
) -> Cost:
  """One layer at (input, weight, output) bits; 32 if not quantized."""
  in_bits, weight_bits, out_bits = bits
  out_bits = out_bits if quantized else 32
  weight_bits = weight_bits if layer.has_weights else 8
  cycles = _simulate(layer.geometry, in_bits, weight_bits, out_bits, target)
  return Cost(
    target=target.name,
    layer=layer.name,
    kind=kind_of(layer),
    in_bits=in_bits,
    weight_bits=weight_bits if layer.has_weights else None,
    out_bits=out_bits,
    macs=layer.macs,
    least_bytes=least_bytes(layer, in_bits, weight_bits, out_bits),
    cycles=cycles.total,
    compute=cycles.compute,
    dma=cycles.dma,
    overhead=cycles.overhead,
    l3=cycles.l3,
    waiting=cycles.waiting,
  )


def every_cost(
  workload: Workload, target: Target, outputs: Sequence[int] = BITS
) -> Iterator[Cost]:
  """Every layer at every precision that its tensors can have."""
  for layer, site in zip(workload.layers, workload.output_sites, strict=True):
    for in_bits in BITS:
      for weight_bits in BITS if layer.has_weights else (8,):
        for out_bits in outputs if site is not None else (32,):
          bits = in_bits, weight_bits, out_bits
          yield cost(layer, bits, site is not None, target)


def check_fits(workload: Workload, target: Target) -> None:
  """Raises ValueError, naming the layer, if the target cannot run the net."""
  for layer, site in zip(workload.layers, workload.output_sites, strict=True):
    for bits in _CORNERS:
      out_bits = bits[2] if site is not None else 32
      try:
        _simulate(layer.geometry, *bits[:2], out_bits, target)
      except ValueError:
        simulate(layer, *bits[:2], out_bits, target)  # again, with the name


def enough_memory(workload: Workload, target: Target) -> dict[str, int] | None:
  """Least doublings of L1 and L2 on which the network runs, or None."""
  steps = sorted(
    ((i, j) for i in range(6) for j in range(6)), key=lambda ij: (sum(ij), ij)
  )
  for i, j in steps:
    sizes = {"l1_bytes": target.l1_bytes << i, "l2_bytes": target.l2_bytes << j}
    try:
      check_fits(workload, dataclasses.replace(target, **sizes))
    except ValueError:
      continue
    return {k: v for k, v in sizes.items() if v != getattr(target, k)}
  return None


def cycles_at_8(workload: Workload, target: Target) -> np.ndarray:
  """Cycles int64[L, A, W] with 8-bit outputs, the published setting."""
  cycles = np.empty((len(workload.layers), len(BITS), len(BITS)), np.int64)
  for i, (layer, site) in enumerate(
    zip(workload.layers, workload.output_sites, strict=True)
  ):
    for a, in_bits in enumerate(BITS):
      for w, weight_bits in enumerate(BITS):
        bits = in_bits, weight_bits, 8
        cycles[i, a, w] = cost(layer, bits, site is not None, target).cycles
  return cycles


def assignments(
  net: Net, cycles: np.ndarray
) -> dict[str, tuple[dict[str, int], list[Raise]]]:
  """Name -> (assignment, what Free Bits changed): uniform ones, then raised."""
  found = {}
  for name in UNIFORM:
    uniform = precision.uniform(net, int(name[0]))
    found[name] = uniform, []
    if name != "8/8":
      found[f"{name}+FB"] = free_bits(net.workload, cycles, uniform)
  return found


def layer_costs(
  net: Net, assignment: Mapping[str, int], target: Target
) -> list[Cost]:
  """The layers of a network under an assignment, outputs timed at 8 bits."""
  work = net.workload
  rows = []
  for layer, reads, writes in zip(
    work.layers, work.input_sites, work.output_sites, strict=True
  ):
    in_bits = max(assignment[site] for site in reads)
    weight_bits = assignment.get(work.weight_site(layer), 8)
    bits = in_bits, weight_bits, 8
    rows.append(cost(layer, bits, writes is not None, target))
  return rows


def wholes(
  net: Net, target: Target, published: Mapping[str, float]
) -> list[Whole]:
  """The uniform networks and their Free Bits ones on a target."""
  found = assignments(net, cycles_at_8(net.workload, target))
  totals = {
    name: sum(row.cycles for row in layer_costs(net, assignment, target))
    for name, (assignment, _) in found.items()
  }
  return [
    Whole(
      target.name,
      name,
      totals[name],
      totals[name] / totals["8/8"] - 1,
      published.get(name),
      len(found[name][1]),
    )
    for name in found
  ]


def sweep(net: Net, target: Target, budgets: Sequence[int]) -> list[Budget]:
  """Cycles of the networks for each size of the L2 left to tensors, bytes."""
  rows = []
  for size in sorted({*budgets, target.l2_budget_bytes}):
    changed = dataclasses.replace(
      target, code_reserved_bytes=target.l2_bytes - size
    )
    try:
      cycles = {w.name: w.cycles for w in wholes(net, changed, {})}
    except ValueError:
      cycles = {}
    rows.append(Budget(size, cycles, size == target.l2_budget_bytes))
  return rows


def gains(net: Net, target: Target) -> list[Gain]:
  """Layers that Free Bits makes faster by raising uniform 4 and 2 bits."""
  found = assignments(net, cycles_at_8(net.workload, target))
  rows = []
  for start in UNIFORM[1:]:
    for change in found[f"{start}+FB"][1]:
      index = net.workload.index[change.layer]
      layer = net.workload.layers[index]
      quantized = net.workload.output_sites[index] is not None
      before, after = (
        cost(layer, (a, w or 8, 8), quantized, target)
        for a, w in (change.before, change.after)
      )
      if after.cycles < before.cycles:
        why = explain(layer, before, after, target)
        rows.append(Gain(start, before, after, why))
  return rows
