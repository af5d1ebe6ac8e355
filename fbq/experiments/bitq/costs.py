"""What networks of block formats move, and what that costs."""

from collections.abc import Mapping, Sequence

import numpy as np

from fbq import block_formats
from fbq.experiments.bitq.choices import shown
from fbq.experiments.bitq.config import BitQ
from fbq.experiments.bitq.results import (
  BlockNetwork,
  LayerMovement,
  MemorySweep,
  Movement,
)
from fbq.lab import networks
from fbq.nets.graph import Net
from hwsim.bfp import (
  FP32,
  BlockFormat,
  Memories,
  Traffic,
  block_format,
  network_traffic,
)

_UNLIMITED = 1 << 50  # bits of a memory that holds everything


def movement(traffic: Sequence[Traffic], memories: Memories) -> Movement:
  """What all layers move."""
  inputs, weights, outputs = zip(*(t.tensor_bits for t in traffic), strict=True)
  return Movement(
    float(sum(t.dram_bits for t in traffic)),
    float(sum(t.sram_bits for t in traffic)),
    sum(t.joules(memories) for t in traffic),
    (float(sum(inputs)), float(sum(weights)), float(sum(outputs))),
  )


def layers(
  net: Net, formats: Mapping[str, BlockFormat], memories: Memories
) -> tuple[LayerMovement, ...]:
  """What every layer with weights moves."""
  workload = net.workload
  rows = []
  for traffic in network_traffic(workload, formats, memories):
    i = workload.index[traffic.name]
    inputs, outputs = workload.input_sites[i][0], workload.output_sites[i]
    sites = inputs, workload.weight_site(workload.layers[i]), outputs
    rows.append(
      LayerMovement(
        traffic.name,
        tuple(None if site is None else formats[site] for site in sites),
        movement([traffic], memories),
        " ".join(map(str, traffic.tile[1:])),
      )
    )
  return tuple(rows)


def sweep(settings: BitQ, recommended: Sequence[BlockNetwork]) -> MemorySweep:
  """Traffic and energy of a network over memory sizes, at uniform formats.

  Args:
    settings: the network, the sizes and the words.
    recommended: network recommended for each word.
  """
  net = networks.build(settings.sweep, "sweep")
  sizes = settings.sweep.memory_kib

  # FP32, 16 bits without an exponent, and of each word the narrowest format;
  # of a short word also the one nearest to what is recommended
  formats = {"FP32": FP32, "16 bits": block_format(16, 0, 1)}
  for (name, word), best in zip(
    settings.words.items(), recommended, strict=True
  ):
    bits = np.mean([float(f.activation_bits) for f in best.formats.values()])
    nearest = min(word.grid, key=lambda f: abs(float(f.activation_bits) - bits))
    narrowest = min(word.grid, key=lambda f: f.activation_bits)
    for f in (nearest, narrowest) if word.bits <= 8 else (narrowest,):
      formats[f"{name} {shown(f)}"] = f

  ratios, joules = {}, {}
  for name, format_ in formats.items():
    one = block_formats.uniform(net, format_)
    once, *found = (
      movement(network_traffic(net.workload, one, memories), memories)
      for memories in map(
        Memories, (_UNLIMITED, *(int(s * 8192) for s in sizes))
      )
    )
    ratios[name] = tuple(each.dram_bits / once.dram_bits for each in found)
    joules[name] = tuple(each.joules for each in found)
  return MemorySweep(net.name, sizes, ratios, joules)
