"""Hardware costs of quantized networks, without any training code.

    import hwsim
    target = hwsim.get_target("xpulpnn_v1")
    table = hwsim.targets.latency_table(workload, target)
    hwsim.total_cycles(table, workload, {"conv.weight": 4, ...})

A `Workload` is written by hand, or is the `workload` of a network of fbq.
"""

from typing import Any

from hwsim import public

_PLACES = {
  # What is costed
  "Layer": "hwsim.workload:Layer",
  "Workload": "hwsim.workload:Workload",
  # Cycles by layer and precision; files of them
  "LatencyTable": "hwsim.latency_table:LatencyTable",
  "latency_io": "hwsim.latency_io",
  "latency_table": "hwsim.latency_table",
  "layer_cycles": "hwsim.latency_table:layer_cycles",
  "total_cycles": "hwsim.latency_table:total_cycles",
  "Ladder": "hwsim.latency_table:Ladder",
  # Targets of every family
  "GAP9_NE16": "hwsim.ne16:GAP9_NE16",
  "TARGETS": "hwsim.targets:TARGETS",
  "Target": "hwsim.targets:Target",
  "XPULPNN_V1": "hwsim.pulp:XPULPNN_V1",
  "XPULPNN_V2": "hwsim.pulp:XPULPNN_V2",
  "XPULP_V2": "hwsim.pulp:XPULP_V2",
  "get_target": "hwsim.targets:get_target",
  "latency": "hwsim.interval:latency",
  "ne16": "hwsim.ne16",
  "pulp": "hwsim.pulp",
  "simulate": "hwsim.targets:simulate",
  "targets": "hwsim.targets",
  # Data movement of block floating point
  "BlockFormat": "hwsim.bfp:BlockFormat",
  "Memories": "hwsim.bfp:Memories",
  "bfp": "hwsim.bfp",
  "block_format": "hwsim.bfp:block_format",
  "movement_table": "hwsim.bfp:movement_table",
  "network_traffic": "hwsim.bfp:network_traffic",
  # Cycles of MX formats
  "mx": "hwsim.mx",
  # Costs that need no hardware
  "bops": "hwsim.proxies:bops",
  "peak_activation_bytes": "hwsim.proxies:peak_activation_bytes",
  "weight_bytes": "hwsim.proxies:weight_bytes",
}
__all__ = sorted([*_PLACES, "__version__"])


def __getattr__(name: str) -> Any:
  return public.load(__name__, _PLACES, name)


def __dir__() -> list[str]:
  return __all__
