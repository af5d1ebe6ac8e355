"""What a network costs on a PULP cluster, layer by layer, and why.

Every layer at every precision on several instruction sets, uniform networks
next to their Free Bits versions, and a sweep of the L2 budget.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from fbq import nets, precision
from fbq.experiments.profile import config
from fbq.experiments.profile.config import Profiling
from fbq.experiments.profile.results import (
  UNIFORM,
  Cost,
  Gain,
  Profile,
  Whole,
  short,
)
from fbq.lab.causes import explain
from fbq.lab.lab import Lab
from fbq.nets.graph import Net
from fbq.search.free_bits import free_bits
from hwsim import latency_io
from hwsim.latency_table import BITS
from hwsim.pulp import Target, latency_table, simulate
from hwsim.pulp.roofline import least_bytes, peak_macs_per_cycle
from hwsim.workload import Layer, Workload

_simulate = functools.lru_cache(maxsize=100_000)(simulate)
# Change of cycles against 8/8 of MobileNetV1-0.75-224 on the slides of Free
# Bits (arXiv 2307.02894), by target.
PUBLISHED = {("xpulpnn_v1", "4/4"): -0.323, ("xpulpnn_v1", "4/4+FB"): -0.371}


def run(settings: Profiling, lab: Lab) -> Profile:
  """The profile of a network on a target, beside other targets."""
  net, work = lab.net, lab.net.workload
  target, targets = config.compared(settings)

  # ---- Every layer at every precision that its tensors can have
  with lab.clock.measure("layers"):
    table = latency_table(work, target)
    latency_io.save(table, lab.workdir / "latency_table.csv")
    costs = [
      cost(layer, (a, w, o), each)
      for each in targets
      for layer, out_bits in _layers(work)
      for a in BITS
      for w in (BITS if layer.has_weights else (8,))
      for o in (BITS if out_bits == 8 else (out_bits,))
    ]

  # ---- Whole networks, and what Free Bits makes faster by raising bits
  with lab.clock.measure("networks"):
    whole = [row for each in targets for row in wholes(net, each)]
    found = {each.name: networks(net, each) for each in targets}
    own = found[target.name]
    gains = [
      Gain(start, before, after, explain(layer, before, after, target))
      for start in UNIFORM[1:]
      for layer, before, after in zip(
        work.layers, own[start], own[f"{start}+FB"], strict=True
      )
      if after.cycles < before.cycles
    ]

  # ---- The part of L2 that code takes is a property of the application
  with lab.clock.measure("L2 sweep"):
    default = target.l2_budget_bytes
    sizes = {default, *(default + by for by in settings.l2_sweep_bytes)}
    budgets = {
      size: _with_l2(net, target, size)
      for size in sorted(sizes)
      if 0 < size <= target.l2_bytes
    }

  return Profile(
    network=net.name,
    target=target.name,
    costs=tuple(costs),
    networks={
      each: {name: tuple(rows) for name, rows in by_name.items()}
      for each, by_name in found.items()
    },
    wholes=tuple(whole),
    gains=tuple(gains),
    budgets=budgets,
    l2_bytes=default,
    peaks={
      op: {
        name: peak_macs_per_cycle(op, int(name[0]), int(name[2]), target)
        for name in UNIFORM
      }
      for op in ("conv", "depthwise")
    },
    constants=dataclasses.asdict(target),
  )


# ---- Layers


def _layers(work: Workload) -> list[tuple[Layer, int]]:
  """Every layer with the bits of its output: 8, as published, or 32."""
  bits = [32 if site is None else 8 for site in work.output_sites]
  return list(zip(work.layers, bits, strict=True))


def kind_of(layer: Layer) -> str:
  """What a layer is called in reports."""
  if layer.op == "conv":
    area = layer.kernel_height * layer.kernel_width
    return "pointwise" if area == 1 else "convolution"
  return "pool" if layer.op.endswith("pool") else layer.op


def cost(layer: Layer, bits: tuple[int, int, int], target: Target) -> Cost:
  """One layer at (input, weight, output) bits."""
  in_bits, weight_bits, out_bits = bits
  if not layer.has_weights:
    weight_bits = 8  # what `simulate` wants for none
  return Cost(
    target.name,
    layer.name,
    kind_of(layer),
    in_bits,
    weight_bits if layer.has_weights else None,
    out_bits,
    layer.macs,
    least_bytes(layer, in_bits, weight_bits, out_bits),
    *_simulate(layer.geometry, in_bits, weight_bits, out_bits, target),
  )


# ---- Whole networks


def networks(net: Net, target: Target) -> dict[str, list[Cost]]:
  """Name -> layers of a network: uniform ones, and raised by Free Bits."""
  work = net.workload
  cycles = np.array(
    [
      [[cost(layer, (a, w, out), target).cycles for w in BITS] for a in BITS]
      for layer, out in _layers(work)
    ]
  )
  found = {}
  for name in UNIFORM:
    uniform = precision.uniform(net, int(name[0]))
    found[name] = _costs(work, uniform, target)
    if name != "8/8":
      raised, _ = free_bits(work, cycles, uniform)
      found[f"{name}+FB"] = _costs(work, raised, target)
  return found


def _costs(
  work: Workload, assignment: Mapping[str, int], target: Target
) -> list[Cost]:
  """The layers of a network under an assignment."""
  rows = []
  for (layer, out), reads in zip(_layers(work), work.input_sites, strict=True):
    in_bits = max(assignment[site] for site in reads)
    weight_bits = assignment.get(work.weight_site(layer), 8)
    rows.append(cost(layer, (in_bits, weight_bits, out), target))
  return rows


def wholes(net: Net, target: Target) -> list[Whole]:
  """The uniform networks and their Free Bits ones on a target."""
  published = PUBLISHED if net == nets.mobilenet_v1(0.75, 224) else {}
  found = networks(net, target)
  cycles = {name: sum(c.cycles for c in rows) for name, rows in found.items()}
  rows = []
  for name, layers in found.items():
    before = found[name.removesuffix("+FB")]
    pairs = zip(before, layers, strict=True)
    raised = sum(old.both != new.both for old, new in pairs)
    change = cycles[name] / cycles["8/8"] - 1
    known = published.get((short(target.name), name))
    rows.append(Whole(target.name, name, cycles[name], change, known, raised))
  return rows


def _with_l2(net: Net, target: Target, size: int) -> dict[str, int]:
  """Cycles of every network with `size` bytes of L2 left to tensors."""
  reserved = target.l2_bytes - size
  changed = dataclasses.replace(target, code_reserved_bytes=reserved)
  try:
    return {whole.name: whole.cycles for whole in wholes(net, changed)}
  except ValueError:  # a layer fits no tiling
    return {}
