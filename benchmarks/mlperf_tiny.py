"""Latency of MLPerf Tiny's four networks on every target, beside silicon.

    python -m benchmarks.mlperf_tiny

Cycles of one inference, all layers of the published int8 files; beside them
what GreenWaves measured on GAP9 (tiny v1.0, weights of 5 to 7 bits) and STM on
a Cortex-M4 (NUCLEO-L4R5ZI, v1.3), as docs/facts/ne16.md 5 quotes them. No model
is fitted to these. The L4R5 runs at 120 MHz, GAP9 was measured at 240.
"""

import json

from rich.console import Console
from rich.table import Table

from benchmarks.ne16 import GOLDEN, layers_of
from hwsim.ne16 import GAP9_NE16
from hwsim.pulp import XPULP_V2, XPULPNN_V1, XPULPNN_V2
from hwsim.targets import Target, simulate
from hwsim.workload import Layer

# Inferences a second and microjoules of one, on the NUCLEO-L4R5ZI at 120 MHz.
L4R5 = {
  "kws": (23.03, 1431.0),
  "ic": (6.04, 5496.0),
  "vww": (11.18, 3030.0),
  "ad": (208.6, 160.0),
}
L4R5_HZ = 120e6
# What is simulated: a target, and bits of weights; None: GreenWaves' own.
COLUMNS: tuple[tuple[Target, int | None], ...] = (
  (XPULP_V2, 8),
  (XPULPNN_V1, 8),
  (XPULPNN_V2, 8),
  (XPULPNN_V2, 4),
  (GAP9_NE16, 8),
  (GAP9_NE16, None),
)


def cycles(layers: list[Layer], target: Target, bits: int) -> int:
  """Cycles of all layers with weights of `bits` and activations of 8."""
  return sum(
    simulate(layer, 8, bits if layer.has_weights else 8, 8, target).total
    for layer in layers
  )


def rows() -> list[dict]:
  """A row for each network: simulated kcycles by column, and silicon's."""
  networks = json.loads(GOLDEN.read_text(encoding="utf-8"))["networks"]
  found = []
  for name, network in networks.items():
    layers, silicon = layers_of(name, network), network["silicon_gap9"]
    simulated = {
      (target.name, bits): cycles(layers, target, bits or silicon["w_bits"])
      / 1e3
      for target, bits in COLUMNS
    }
    per_second, microjoules = L4R5[name]
    found.append(
      {
        "network": name,
        "weight_bits": silicon["w_bits"],
        "simulated": simulated,
        "gap9_kcycles": silicon["kcycles_240"],
        "l4r5_kcycles": L4R5_HZ / per_second / 1e3,
        "l4r5_microjoules": microjoules,
      }
    )
  return found


def main() -> None:
  table = Table("network", title="kcycles of one inference")
  for target, bits in COLUMNS:
    table.add_column(
      f"{target.name} {f'W{bits}' if bits else 'their bits'}", justify="right"
    )
  for column in ("GAP9 silicon", "at bits", "L4R5 silicon"):
    table.add_column(column, justify="right")
  for row in rows():
    table.add_row(
      row["network"],
      *(f"{value:,.0f}" for value in row["simulated"].values()),
      f"{row['gap9_kcycles']:,.0f}",
      str(row["weight_bits"]),
      f"{row['l4r5_kcycles']:,.0f}",
    )
  Console(width=130).print(table)


if __name__ == "__main__":
  main()
