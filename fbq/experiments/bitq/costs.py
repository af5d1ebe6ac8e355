"""What networks of block formats move, and what that costs."""

from collections.abc import Mapping, Sequence

from fbq.experiments.bitq.results import LayerMovement, Movement
from fbq.nets.graph import Net
from hwsim.bfp import BlockFormat, Memories, Traffic, network_traffic


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
