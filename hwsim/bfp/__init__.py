"""Data movement of block floating point networks, minimised exactly."""

from hwsim.bfp.energy import (
  Memories,
  Traffic,
  layer_traffic,
  network_traffic,
)
from hwsim.bfp.formats import (
  FP32,
  BlockFormat,
  bitq_format,
  bitq_grid,
  block_format,
)
from hwsim.bfp.movement import Nest, nest_of
from hwsim.bfp.scoring import encode, layer_bits, score
from hwsim.bfp.sweep import least_movement
from hwsim.bfp.table import MovementTable, movement_table
from hwsim.bfp.tiling import Tiling, best_tiling

__all__ = [
  "BlockFormat",
  "FP32",
  "Memories",
  "MovementTable",
  "Nest",
  "Tiling",
  "Traffic",
  "best_tiling",
  "bitq_format",
  "bitq_grid",
  "block_format",
  "encode",
  "layer_bits",
  "layer_traffic",
  "least_movement",
  "movement_table",
  "nest_of",
  "network_traffic",
  "score",
]
