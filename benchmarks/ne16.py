"""The model of GAP9's NE16 beside silicon: the four networks of MLPerf Tiny.

    python -m benchmarks.ne16

Cycles of one inference as GreenWaves measured them at their own weight bits
(mlcommons tiny_results_v1.0, docs/facts/ne16.md 5), and what `hwsim.ne16` takes
for the same layers, each alone, with 90 % of 200 draws of what is assumed.
Nothing in the model, nor its ranges, is fitted to these.
"""

import json
import pathlib

import numpy as np
from rich.console import Console
from rich.table import Table

from hwsim.ne16 import GAP9_NE16, doubt, many, simulate
from hwsim.ne16.kernels import mode_of
from hwsim.workload import Layer, Workload

GOLDEN = pathlib.Path(__file__).parents[1] / "tests/golden/ne16_golden.json"
_OPS = {"dw": "depthwise", "fc": "linear"}

# Layers without weights, which the golden list leaves out: they run on the
# cores (the networks' public definitions).
_BESIDE = {
  "kws": [Layer("pool", "avg_pool", 64, 64, 25, 5, 25, 5)],
  "ic": [
    Layer("add1", "add", 16, 16, 32, 32),
    Layer("add2", "add", 32, 32, 16, 16),
    Layer("add3", "add", 64, 64, 8, 8),
    Layer("pool", "avg_pool", 64, 64, 8, 8, 8, 8),
  ],
  "vww": [Layer("pool", "avg_pool", 256, 256, 3, 3, 3, 3)],
  "ad": [],
}


def layer_of(row) -> Layer:
  """A layer of the golden list, padded as TFLite does."""
  (height, width, channels), (rows, columns, outputs) = (
    row["input_hwc"],
    row["output_hwc"],
  )
  kernel, stride = row["kernel"], row["stride"]
  padding = []
  for out, taps, size in (
    (rows, kernel[0], height),
    (columns, kernel[1], width),
  ):
    need = max((out - 1) * stride + taps - size, 0)
    padding += [need // 2, need - need // 2]
  return Layer(
    f"layer{row['tflite_op']}",
    _OPS.get(row["kind"], "conv"),
    *(channels, outputs, height, width, *kernel, stride),
    padding=tuple(padding),
  )  # fmt: skip


def layers_of(name: str, network) -> list[Layer]:
  """All layers of a network of the golden list, those without weights last."""
  return [*map(layer_of, network["layers"]), *_BESIDE[name]]


def interval(layers: list[Layer], weight_bits: int) -> tuple[float, float]:
  """Kilocycles between which 90 % of the draws are."""
  constants, _ = doubt.draws(GAP9_NE16, 200)
  place = GAP9_NE16.ladder.weights.index(weight_bits)
  total = 0
  for layer in layers:
    inputs = 2 if layer.op == "add" else 1
    alone = Workload(
      "alone", (layer,), ((-1,) * inputs,), (("x",) * inputs,), ("y",)
    )
    tables = many.latency_tables(alone, constants)
    assert tables.fits.all()
    total = total + tables.cycles[:, 0, 0, place, 0]
  low, high = np.quantile(total, (0.05, 0.95)) / 1e3
  return float(low), float(high)


def main():
  networks = json.loads(GOLDEN.read_text(encoding="utf-8"))["networks"]
  table = Table("network", title="kcycles of one inference, 240 MHz")
  for column in (
    "weight bits",
    "silicon",
    "this model",
    "of silicon",
    "within",
    "NE16's jobs",
    "DMA not hidden",
    "starts and tiles",
    "cores",
    "GVSOC's jobs",
  ):
    table.add_column(column, justify="right")
  for name, network in networks.items():
    silicon, bits = (
      network["silicon_gap9"][key] for key in ("kcycles_240", "w_bits")
    )
    layers = layers_of(name, network)
    engine, cores = np.zeros(5), 0
    for layer in layers:
      found = simulate(layer, 8, bits, 8, GAP9_NE16)
      if mode_of(layer) is None:
        cores += found.total
      else:
        engine += found[:5]
    total = engine[0] + cores
    cells = (total, *engine[1:4], cores, network["sum_gvsoc"][str(bits)])
    text = [f"{cell / 1e3:.1f}" for cell in cells]
    table.add_row(
      name,
      f"{bits}",
      f"{silicon:.1f}",
      text[0],
      f"{total / 1e3 / silicon:.0%}",
      "{:.0f}..{:.0f}".format(*interval(layers, bits)),
      *text[1:],
    )
  Console(width=120).print(table)


if __name__ == "__main__":
  main()
