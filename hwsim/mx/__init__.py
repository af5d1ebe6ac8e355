"""Cycles of MX block formats on clusters whose dot-product unit takes them."""

from hwsim.mx.cycles import (
  Cost,
  cycle_table,
  layer_cost,
  network_costs,
  network_cycles,
  takes,
)
from hwsim.mx.target import MXDOTP, TARGETS, VMXDOTP, Target

__all__ = [
  "Cost",
  "MXDOTP",
  "TARGETS",
  "Target",
  "VMXDOTP",
  "cycle_table",
  "layer_cost",
  "network_costs",
  "network_cycles",
  "takes",
]
