"""Latency of quantized networks on PULP clusters, simulated tile by tile."""

from hwsim.pulp.table import latency_table, layer_table, simulate, tiles
from hwsim.pulp.target import (
  TARGETS,
  XPULP_V2,
  XPULPNN_V1,
  XPULPNN_V2,
  Constants,
  Target,
  get_target,
)
from hwsim.pulp.timeline import LayerCycles, layer_cycles

__all__ = [
  "Constants",
  "LayerCycles",
  "TARGETS",
  "Target",
  "XPULPNN_V1",
  "XPULPNN_V2",
  "XPULP_V2",
  "get_target",
  "latency_table",
  "layer_cycles",
  "layer_table",
  "simulate",
  "tiles",
]
