"""What a network costs on a PULP cluster, layer by layer, and why.

Every layer at every precision on several instruction sets, uniform networks
next to their Free Bits versions, and a sweep of the L2 budget.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping

import numpy as np

from fbq import nets, precision
from fbq.experiments.profile import claims, config
from fbq.experiments.profile.causes import explain
from fbq.experiments.profile.config import Profiling
from fbq.experiments.profile.results import (
  UNIFORM,
  Budget,
  Cost,
  Gain,
  Profile,
  Whole,
  short,
)
from fbq.lab.lab import Lab
from fbq.nets.graph import Net
from fbq.search.free_bits import Raise, free_bits
from hwsim import latency_io
from hwsim.latency_table import BITS
from hwsim.pulp import Target, latency_table, simulate
from hwsim.pulp.roofline import least_bytes, peak_macs_per_cycle
from hwsim.workload import Layer, Workload

_simulate = functools.lru_cache(maxsize=100_000)(simulate)
PUBLISHED_SOURCE = "slides of Free Bits (arXiv 2307.02894)"
# Change of cycles against 8/8 of MobileNetV1-0.75-224, by target.
PUBLISHED = {("xpulpnn_v1", "4/4"): -0.323, ("xpulpnn_v1", "4/4+FB"): -0.371}


def run(settings: Profiling, lab: Lab) -> Profile:
  """The profile of a network on a target, beside other targets."""
  net = lab.net
  target, targets = config.compared(settings)

  # ---- Every layer at every precision
  with lab.clock.measure("layers"):
    table = latency_table(net.workload, target)
    latency_io.save(table, lab.workdir / "latency_table.csv")
    costs = [
      cost for each in targets for cost in every_cost(net.workload, each)
    ]

  # ---- Whole networks, and what Free Bits raises
  with lab.clock.measure("networks"):
    is_published = net == nets.mobilenet_v1(0.75, 224)
    networks = [whole for each in targets for whole in wholes(net, each)]
    if is_published:
      networks = [
        whole._replace(
          published=PUBLISHED.get((short(whole.target), whole.name))
        )
        for whole in networks
      ]
    found_gains = gains(net, target)

  # ---- The part of L2 that code takes is a property of the application
  with lab.clock.measure("L2 sweep"):
    default = target.l2_budget_bytes
    sizes = {default, *(default + by for by in settings.l2_sweep_bytes)}
    budgets = [
      _budget(net, target, size)
      for size in sorted(sizes)
      if 0 < size <= target.l2_bytes
    ]

  # ---- The record, and what it says to the claims of others
  constants = dataclasses.asdict(target)
  del constants["name"]
  profile = Profile(
    network=net.name,
    target=target.name,
    targets=tuple(each.name for each in targets),
    layers=tuple(layer.name for layer in net.workload.layers),
    costs=tuple(costs),
    uniform={
      name: tuple(
        (cost.in_bits, cost.weight_bits)
        for cost in layer_costs(net, _uniform(net, name), target)
      )
      for name in UNIFORM
    },
    wholes=tuple(networks),
    gains=tuple(found_gains),
    budgets=tuple(budgets),
    peaks={each.name: _peaks(each) for each in targets},
    published_source=PUBLISHED_SOURCE if is_published else "",
    constants=constants,
    overridden=tuple(settings.target_overrides),
  )
  return dataclasses.replace(
    profile,
    answer=claims.answer(profile),
    statements=tuple(claims.statements(profile)),
  )


# ---- One layer


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


def every_cost(workload: Workload, target: Target) -> Iterator[Cost]:
  """Every layer at every precision that its tensors can have."""
  for layer, site in zip(workload.layers, workload.output_sites, strict=True):
    for in_bits in BITS:
      for weight_bits in BITS if layer.has_weights else (8,):
        for out_bits in BITS if site is not None else (32,):
          bits = in_bits, weight_bits, out_bits
          yield cost(layer, bits, site is not None, target)


# ---- Whole networks, whose outputs are timed at 8 bits, as published


def cycles_at_8(workload: Workload, target: Target) -> np.ndarray:
  """Cycles int64[L, A, W]."""
  return np.array(
    [
      [
        [cost(layer, (a, w, 8), site is not None, target).cycles for w in BITS]
        for a in BITS
      ]
      for layer, site in zip(
        workload.layers, workload.output_sites, strict=True
      )
    ]
  )


def _uniform(net: Net, name: str) -> dict[str, int]:
  return precision.uniform(net, int(name[0]))


def assignments(
  net: Net, target: Target
) -> dict[str, tuple[dict[str, int], list[Raise]]]:
  """Name -> (assignment, what Free Bits changed): uniform ones, then raised."""
  cycles = cycles_at_8(net.workload, target)
  found = {}
  for name in UNIFORM:
    found[name] = _uniform(net, name), []
    if name != "8/8":
      found[f"{name}+FB"] = free_bits(net.workload, cycles, found[name][0])
  return found


def layer_costs(
  net: Net, assignment: Mapping[str, int], target: Target
) -> list[Cost]:
  """The layers of a network under an assignment."""
  work = net.workload
  return [
    cost(
      layer,
      (
        max(assignment[site] for site in reads),
        assignment.get(work.weight_site(layer), 8),
        8,
      ),
      writes is not None,
      target,
    )
    for layer, reads, writes in zip(
      work.layers, work.input_sites, work.output_sites, strict=True
    )
  ]


def wholes(net: Net, target: Target) -> list[Whole]:
  """The uniform networks and their Free Bits ones on a target."""
  found = assignments(net, target)
  totals = {
    name: sum(row.cycles for row in layer_costs(net, assignment, target))
    for name, (assignment, _) in found.items()
  }
  return [
    Whole(
      target.name,
      name,
      total,
      total / totals["8/8"] - 1,
      raised=len(found[name][1]),
    )
    for name, total in totals.items()
  ]


def _budget(net: Net, target: Target, size: int) -> Budget:
  """Cycles with `size` bytes of L2 left to tensors."""
  reserved = target.l2_bytes - size
  changed = dataclasses.replace(target, code_reserved_bytes=reserved)
  try:
    cycles = {w.name: w.cycles for w in wholes(net, changed)}
  except ValueError:  # a layer fits no tiling
    cycles = {}
  return Budget(size, cycles, size == target.l2_budget_bytes)


def gains(net: Net, target: Target) -> list[Gain]:
  """Layers that Free Bits makes faster by raising uniform 4 and 2 bits."""
  found = assignments(net, target)
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


def _peaks(target):
  return {
    op: {
      name: peak_macs_per_cycle(op, int(name[0]), int(name[2]), target)
      for name in UNIFORM
    }
    for op in ("conv", "depthwise")
  }
