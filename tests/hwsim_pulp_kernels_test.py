"""Kernel cycles of single tiles against the instruction-level simulator."""

import collections
import json
import pathlib

import numpy as np

from hwsim.pulp import XPULP_V2, XPULPNN_V1, XPULPNN_V2
from hwsim.pulp.kernels import Tiles, kernel_cycles
from hwsim.workload import Layer

GOLDEN = pathlib.Path(__file__).parent / "golden"
TARGETS = {
  "XpulpV2": XPULP_V2,
  "XpulpNN": XPULPNN_V1,
  "XpulpNN-mixed": XPULPNN_V2,
}


def golden_cycles(key):
  library, kind, bits, sizes = key.split("|")
  *sizes, padding = sizes.split(",")
  x_in, y_in, c_in, x_out, y_out, n, k, stride = map(int, sizes)
  op = {"conv": "conv", "dw": "depthwise", "fc": "linear"}[kind]
  layer = Layer(
    key,
    op,
    c_in,
    c_in if kind == "dw" else n,
    max(y_in, k),
    max(x_in, k),
    k,
    k,
    stride,
  )
  tiles = Tiles(
    *(np.array([v]) for v in (n, y_in, x_in, y_out, x_out, *map(int, padding)))
  )
  cycles = kernel_cycles(
    layer, tiles, int(bits[0]), int(bits[1]), int(bits[2:]), TARGETS[library]
  )
  return library, kind, cycles.item()


def test_golden_tiles_within_one_percent_on_average():
  cases = json.loads((GOLDEN / "pulp_golden.json").read_text())["kernel_tiles"]
  assert len(cases) == 900
  errors = collections.defaultdict(list)
  for key, measured in cases.items():
    library, kind, cycles = golden_cycles(key)
    errors[library, kind].append(abs(cycles / measured - 1))
  assert len(errors) == 9
  for group, error in errors.items():
    assert np.mean(error) <= 0.01, group
    assert np.percentile(error, 95) <= 0.03, group
    assert np.max(error) <= 0.07, group
