"""Latency of quantized networks on PULP clusters, simulated tile by tile."""

import functools

import numpy as np

from hwsim.latency_table import BITS, LatencyTable
from hwsim.pulp.target import (
  TARGETS,
  XPULP_V2,
  XPULPNN_V1,
  XPULPNN_V2,
  Target,
  get_target,
)
from hwsim.pulp.timeline import LayerCycles, check_op, simulate
from hwsim.workload import Layer, Workload

__all__ = [
  "LayerCycles",
  "TARGETS",
  "Target",
  "XPULPNN_V1",
  "XPULPNN_V2",
  "XPULP_V2",
  "get_target",
  "latency_table",
  "layer_table",
  "simulate",
]


def latency_table(workload: Workload, target: Target) -> LatencyTable:
  """Cycles of every layer of a network at every precision on a target.

  Each layer is timed alone, its input in L2, as in the published benchmark;
  equal geometries are timed once per process.

  Raises:
    ValueError: a layer fits no tiling of the target, or asks for an operator or
      an activation function that its kernels do not have.
  """
  # All that cannot run is found before anything is timed
  for layer in workload.layers:
    check_op(layer, target)
  for name, function in workload.functions:
    raise ValueError(
      f"layer {name!r}: the kernels of {target.name!r} end in a ReLU or in "
      f"nothing, not in {function}; take a network without it, or load a table "
      "that was measured on a board (hwsim.latency_io.load)"
    )

  # Equal geometries come out of a cache, whatever their names
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
  )


def layer_table(layer: Layer, quantized: bool, target: Target) -> np.ndarray:
  """Cycles int64[A, W, O] of one layer; constant where a tensor is missing."""
  cycles = np.empty((len(BITS),) * 3, np.int64)
  for a, in_bits in enumerate(BITS):
    for w, weight_bits in enumerate(BITS if layer.has_weights else (8,)):
      for o, out_bits in enumerate(BITS if quantized else (32,)):
        there = (
          a,
          w if layer.has_weights else slice(None),
          o if quantized else slice(None),
        )
        cycles[there] = simulate(
          layer, in_bits, weight_bits, out_bits, target
        ).total
  return cycles


_layer_table = functools.lru_cache(maxsize=10_000)(layer_table)
