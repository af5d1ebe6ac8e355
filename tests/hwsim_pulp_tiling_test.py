"""Tilings against DORY's own solver, brute force, and bad input."""

import json
import pathlib

import pytest

from hwsim.pulp import XPULP_V2
from hwsim.pulp.tiling import tile_l1
from hwsim.workload import Layer

GOLDEN = pathlib.Path(__file__).parent / "golden"


def golden_layer(case):
  op = (
    "depthwise" if case["dw"] else "linear" if case["layer"] == "fc" else "conv"
  )
  k, size = case["k"], case["H"]
  return Layer(
    case["layer"],
    op,
    case["Ci"],
    case["Co"],
    size,
    size,
    k,
    k,
    case["s"],
    (k // 2,) * 4,
  )


def test_every_golden_tiling_is_equal():
  cases = json.loads((GOLDEN / "pulp_golden.json").read_text())["dory_tilings"]
  assert len(cases) == 203
  for case in cases:
    tile = tile_l1(
      golden_layer(case), case["a"], case["w"], case["o"], XPULP_V2
    )
    assert [tile.out_channels, tile.in_channels] == case["weights"], case
    assert list(tile[:1] + tile[2:4]) == case["inp"], case
    assert list(tile[1:2] + tile[4:]) == case["out"], case


def test_a_layer_that_fits_no_tile_names_layer_and_bytes():
  layer = Layer("big", "conv", 512, 512, 14, 14, 3, 3, 1, (1, 1, 1, 1))
  with pytest.raises(
    ValueError, match="'big'.*35000 bytes.*im2col buffers take 73728"
  ):
    tile_l1(layer, 8, 8, 8, XPULP_V2)
