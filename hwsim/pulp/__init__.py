"""Latency of quantized networks on PULP clusters, simulated tile by tile."""

from hwsim.pulp import doubt, many
from hwsim.pulp.table import latency_table, layer_table, simulate, tiles
from hwsim.pulp.target import (
  ISS_TARGETS,
  TARGETS,
  XPULP_V2,
  XPULP_V2_ISS,
  XPULPNN_V1,
  XPULPNN_V1_ISS,
  XPULPNN_V2,
  XPULPNN_V2_ISS,
  Constants,
  Target,
  get_target,
)
from hwsim.pulp.timeline import LayerCycles, layer_cycles

__all__ = [
  "Constants",
  "ISS_TARGETS",
  "LayerCycles",
  "TARGETS",
  "Target",
  "XPULPNN_V1",
  "XPULPNN_V1_ISS",
  "XPULPNN_V2",
  "XPULPNN_V2_ISS",
  "XPULP_V2",
  "XPULP_V2_ISS",
  "doubt",
  "get_target",
  "latency_table",
  "layer_cycles",
  "layer_table",
  "many",
  "simulate",
  "tiles",
]
