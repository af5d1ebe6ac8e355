"""Latency of quantized networks on GAP9's accelerator NE16."""

import functools

import numpy as np

from hwsim.latency_table import LatencyTable
from hwsim.ne16 import doubt, many
from hwsim.ne16.many import check_functions
from hwsim.ne16.target import GAP9_NE16, TARGETS, Target
from hwsim.ne16.timeline import simulate
from hwsim.pulp import LayerCycles
from hwsim.workload import Layer, Workload

__all__ = [
  "GAP9_NE16",
  "LayerCycles",
  "TARGETS",
  "Target",
  "doubt",
  "latency_table",
  "layer_table",
  "many",
  "simulate",
]


def latency_table(workload: Workload, target: Target) -> LatencyTable:
  """Cycles of every layer of a network at every precision on a target.

  Each layer is timed alone, its input in L2.

  Raises:
    ValueError: a layer fits no tiling of the target, or asks for an operator or
      an activation function that neither NE16 nor the cores have.
  """
  check_functions(workload)
  quantized = tuple(site is not None for site in workload.output_sites)
  cycles = []
  for layer, q in zip(workload.layers, quantized, strict=True):
    try:
      cycles.append(_layer_table(layer.geometry, q, target))
    except ValueError:
      # Again with the name, which the cache leaves out.
      cycles.append(layer_table(layer, q, target))
  return LatencyTable(
    target.name,
    workload.layers,
    quantized,
    np.stack(cycles),
    ("simulated",) * len(workload.layers),
    target.ladder,
  )


def layer_table(layer: Layer, quantized: bool, target: Target) -> np.ndarray:
  """Cycles int64[A, W, O] of one layer, along the ladder of the target."""
  ladder = target.ladder
  out_bits = 8 if quantized else 32
  row = [
    simulate(layer, 8, bits, out_bits, target).total
    for bits in (ladder.weights if layer.has_weights else (8,))
  ]
  shape = len(ladder.activations), len(ladder.weights), len(ladder.activations)
  return np.broadcast_to(np.array(row, np.int64)[:, None], shape).copy()


_layer_table = functools.lru_cache(maxsize=10_000)(layer_table)
