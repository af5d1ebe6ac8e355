"""What a network costs on PULP clusters or NE16, layer by layer, and why.

Every layer at every precision on several instruction sets, uniform networks
next to their Free Bits versions, what is published of them, and a sweep of the
L2 budget.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from fbq import nets, precision
from fbq.experiments.profile import config, published
from fbq.experiments.profile.config import Profiling
from fbq.experiments.profile.costs import Cost, Gain, Whole, short
from fbq.experiments.profile.results import Profile
from fbq.lab.causes import why
from fbq.lab.intervals import Interval, interval, why_outside
from fbq.lab.lab import Lab
from fbq.nets.graph import Net
from fbq.search.free_bits import free_bits
from fbq.search.problem import layer_factors
from hwsim import latency_io, ne16, pulp
from hwsim.ne16 import roofline as ne16_roofline
from hwsim.ne16.kernels import mode_of
from hwsim.pulp import many
from hwsim.pulp.roofline import least_bytes, peak_macs_per_cycle
from hwsim.targets import (
  Target,
  family,
  ladder_of,
  latency_table,
  simulate,
)
from hwsim.workload import Layer, Workload

_simulate = functools.lru_cache(maxsize=100_000)(simulate)


def run(settings: Profiling, lab: Lab) -> Profile:
  """The profile of a network on a target, beside other targets."""
  net, work = lab.net, lab.net.workload
  target, targets = config.compared(settings)
  ladder = ladder_of(target)
  uniform = uniform_names(target)

  # ---- Every layer at every precision that its tensors can have
  with lab.clock.measure("layers"):
    table = latency_table(work, target)
    latency_io.save(table, lab.workdir / "latency_table.csv")
    costs = [
      cost(layer, (a, w, o), each)
      for each in targets
      for layer, out_bits in _layers(work)
      for a in ladder.activations
      for w in (ladder.weights if layer.has_weights else (8,))
      for o in (ladder.activations if out_bits == 8 else (out_bits,))
    ]

  # ---- Whole networks, and what Free Bits makes faster by raising bits
  with lab.clock.measure("networks"):
    whole = [row for each in targets for row in wholes(net, each)]
    found = {each.name: networks(net, each) for each in targets}
    own = found[target.name]
    gains = [
      Gain(start, before, after, why(layer, before, after, target))
      for start in uniform[1:]
      for layer, before, after in zip(
        work.layers, own[start], own[f"{start}+FB"], strict=True
      )
      if after.cycles < before.cycles
    ]
    variants = ()
    if net == nets.mobilenet_v1(0.75, 224) and isinstance(target, pulp.Target):
      variants = published.variants(lambda each: _cycles(net, each))

  # ---- The part of L2 that code takes is a property of the application
  with lab.clock.measure("L2 sweep"):
    default = target.l2_budget_bytes
    sizes = {default, *(default + by for by in settings.l2_sweep_bytes)}
    budgets = _budgets(
      net, target, [s for s in sorted(sizes) if 0 < s <= target.l2_bytes]
    )

  # ---- Within all that is assumed of the target
  intervals, outside = (), ""
  if settings.draws and config.has_ranges(target):
    with lab.clock.measure("draws"):
      intervals, outside = _intervals(net, target, own, settings)

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
    uniform=uniform,
    activations=ladder.activations,
    weights=ladder.weights,
    variants=variants,
    budgets=budgets,
    l2_bytes=default,
    peaks={
      op: {name: _peak(op, *_bits(name), target) for name in uniform}
      for op in ("conv", "depthwise")
    },
    constants=dataclasses.asdict(target),
    intervals=intervals,
    why_outside=outside,
  )


def uniform_names(target: Target) -> tuple[str, ...]:
  """Names of the uniform networks of 8, 4 and 2 bits, as hardware has them."""
  narrow = {8: 8, 4: 4, 2: 2} if 2 in ladder_of(target).activations else {}
  return tuple(f"{narrow.get(b, 8)}/{b}" for b in (8, 4, 2))


def _bits(name: str) -> tuple[int, int]:
  """Activation and weight bits of a uniform network."""
  activations, _, weights = name.partition("/")
  return int(activations), int(weights)


def _peak(op, in_bits, weight_bits, target) -> float:
  """MAC/cycle of inner loops, or of NE16's array."""
  if isinstance(target, ne16.Target):
    mode = "3x3" if op == "conv" else op
    return ne16_roofline.peak_macs_per_cycle(mode, weight_bits)
  return peak_macs_per_cycle(op, in_bits, weight_bits, target)


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
    engine_of(layer, target),
  )


def engine_of(layer: Layer, target: Target) -> str:
  """What runs a layer where there is an accelerator beside the cores."""
  if not isinstance(target, ne16.Target):
    return ""
  mode = mode_of(layer)
  return "cores" if mode is None else f"NE16 {mode}"


# ---- Whole networks


def networks(net: Net, target: Target) -> dict[str, list[Cost]]:
  """Name -> layers of a network: uniform ones, and raised by Free Bits."""
  work, ladder = net.workload, ladder_of(target)
  cycles = np.array(
    [
      [
        [cost(layer, (a, w, out), target).cycles for w in ladder.weights]
        for a in ladder.activations
      ]
      for layer, out in _layers(work)
    ]
  )
  return {
    name: _costs(work, assignment, target)
    for name, assignment in _assignments(net, cycles, target).items()
  }


def _assignments(
  net: Net, cycles: np.ndarray, target: Target
) -> dict[str, dict[str, int]]:
  """Name -> bits of the uniform networks, and of what the pass makes of them.

  Args:
    net: the network.
    cycles: int64 [L, A, W] on the target.
    target: hardware, whose ladder counts.
  """
  ladder = ladder_of(target)
  found = {}
  for name in uniform_names(target):
    uniform = ladder.at_least(precision.uniform(net, _bits(name)[1]))
    found[name] = uniform
    if name != "8/8":
      found[f"{name}+FB"], _ = free_bits(net.workload, cycles, uniform, ladder)
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
  known: dict[str, float] = {}
  if net == nets.mobilenet_v1(0.75, 224):
    given = published.PUBLISHED.get(short(target.name), ())
    known = dict(zip(("4/4", "4/4+FB"), given, strict=False))
  found = networks(net, target)
  cycles = {name: sum(c.cycles for c in rows) for name, rows in found.items()}
  rows = []
  for name, layers in found.items():
    before = found[name.removesuffix("+FB")]
    pairs = zip(before, layers, strict=True)
    raised = sum(old.both != new.both for old, new in pairs)
    change = cycles[name] / cycles["8/8"] - 1
    rows.append(
      Whole(target.name, name, cycles[name], change, known.get(name), raised)
    )
  return rows


def _cycles(net: Net, target: Target) -> dict[str, int]:
  """Cycles of every network."""
  return {whole.name: whole.cycles for whole in wholes(net, target)}


# ---- What is assumed


def _intervals(
  net: Net,
  target: Target,
  own: Mapping[str, Sequence[Cost]],
  settings: Profiling,
) -> tuple[tuple[Interval, ...], str]:
  """Every network in draws of what is assumed, and why some are outside.

  None where a layer does not fit in some draw.
  """
  room, ladder, work = family(target), ladder_of(target), net.workload
  constants, _ = room.doubt.draws(target, settings.draws, settings.seed)
  tables = room.many.latency_tables(work, constants)
  if not tables.fits_at_8.all():
    return (), "A layer does not fit in every draw of what is assumed."
  table = latency_table(work, target).for_output_bits(8)
  drawn = {
    name: many.network_cycles(tables.cycles, work, bits, 8, ladder)
    for name, bits in _assignments(net, table, target).items()
  }
  central = {name: sum(c.cycles for c in rows) for name, rows in own.items()}
  found = tuple(
    interval(name, central[name], central["8/8"], cycles, drawn["8/8"])
    for name, cycles in drawn.items()
  )
  return found, why_outside(found, room.doubt.assumptions(target))


# ---- L2


def _budgets(
  net: Net, target: Target, sizes: Sequence[int]
) -> dict[int, dict[str, int]]:
  """Cycles of every network by bytes of L2 left to tensors; {}: does not fit.

  PULP clusters are timed all at once.
  """
  work = net.workload
  reserved = [target.l2_bytes - size for size in sizes]
  if isinstance(target, pulp.Target):
    changed = [
      dataclasses.replace(target, code_reserved_bytes=r) for r in reserved
    ]
    tables = many.latency_tables(work, many.stack(changed))
    fits = np.all(tables.fits_at_8, axis=1).tolist()
    return {
      size: _totals(net, cycles, target) if runs else {}
      for size, cycles, runs in zip(
        sizes, tables.cycles[..., -1], fits, strict=True
      )
    }
  found: dict[int, dict[str, int]] = {}
  for size, r in zip(sizes, reserved, strict=True):
    try:
      each = dataclasses.replace(target, code_reserved_bytes=r)
      table = latency_table(work, each)
    except ValueError:  # a layer fits no tiling
      found[size] = {}
      continue
    found[size] = _totals(net, table.for_output_bits(8), target)
  return found


def _totals(net: Net, cycles: np.ndarray, target: Target) -> dict[str, int]:
  """Cycles of every network from those of layers [L, A, W]."""
  work, ladder = net.workload, ladder_of(target)
  factors = layer_factors(work, cycles, ladder)
  return {
    name: sum(
      int(f.table[tuple(ladder.of(s).index(bits[s]) for s in f.sites)])
      for f in factors
    )
    for name, bits in _assignments(net, cycles, target).items()
  }
