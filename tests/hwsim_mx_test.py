"""Cycles of MX formats: published rates, hand counts, exact choice by them."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from fbq.quantizers import microscaling
from fbq.schemes import published_formats
from hwsim import mx
from hwsim.bfp import FP32, block_format, movement_table
from hwsim.workload import Layer, Workload


def form(element, bits, size=32, scale_bits=8):
  return block_format(
    bits, scale_bits, size, spans_kernel=False, element=element
  )


E4M3, E2M1 = form("E4M3", 8), form("E2M1", 4)
NVFP4 = form("E2M1", 4, 16)._replace(scale="E4M3")
BFP = block_format(8, 8, 32, spans_kernel=False)
LARGE = Layer("fc", "conv", 1024, 1024, 64, 64)


@pytest.mark.parametrize(
  ("target", "format_", "gflops", "per_watt"),
  [
    # arXiv 2505.13159: 80 % of 8 cores x 8 products x 2; the ratio to software
    (mx.MXDOTP, E4M3, 102.4, 356),
    # arXiv 2603.04979: "up to 125 MXFP8-GFLOPS and 250 MXFP4-GFLOPS"
    (mx.VMXDOTP, E4M3, 125, 843),
    (mx.VMXDOTP, E2M1, 250, 1632),
  ],
)
def test_published_rates(target, format_, gflops, per_watt):
  cost = mx.layer_cost(LARGE, format_, format_, target)
  assert cost.way == "unit" and cost.products == LARGE.macs
  found = 2 * LARGE.macs / (cost.cycles / target.hertz) / 1e9
  assert abs(found / gflops - 1) < 0.01
  assert math.isclose(2 * LARGE.macs / cost.joules / 1e9, per_watt)


@pytest.mark.parametrize(
  ("target", "faster", "thriftier"),
  [(mx.MXDOTP, 25, 12.5), (mx.VMXDOTP, 7.0, 4.9)],
)
def test_published_gain_over_software(target, faster, thriftier):
  unit = mx.layer_cost(LARGE, E4M3, E4M3, target)
  software = mx.layer_cost(LARGE, BFP, BFP, target)
  assert software.way == "software"
  assert math.isclose(software.cycles / unit.cycles, faster, rel_tol=1e-4)
  assert math.isclose(software.joules / unit.joules, thriftier)


@pytest.mark.parametrize(
  ("channels", "size", "along"),
  # Whole instructions of 8, cut where a block ends
  [(3, 32, 8), (20, 32, 24), (32, 32, 32), (40, 32, 40), (41, 16, 48)],
)
def test_sums_take_whole_instructions(channels, size, along):
  layer = Layer("a", "conv", channels, 5, 9, 7, 3, 3)
  outputs = 5 * 7 * 5
  cost = mx.layer_cost(
    layer, form("E4M3", 8, size), form("E4M3", 8, size), mx.MXDOTP
  )
  assert cost.products == outputs * 9 * along
  assert cost.cycles == math.ceil(cost.products / 51.2)


@pytest.mark.parametrize(
  ("op", "inputs", "weights", "target", "way"),
  [
    ("conv", E4M3, E4M3, mx.MXDOTP, "unit"),
    ("conv", E2M1, E2M1, mx.MXDOTP, "software"),  # MXFP8 alone
    ("conv", E2M1, E2M1, mx.VMXDOTP, "unit"),
    ("conv", E2M1, E4M3, mx.VMXDOTP, "software"),  # two elements
    ("conv", form("E2M3", 6), form("E2M3", 6), mx.VMXDOTP, "software"),
    ("conv", form("INT8", 8), form("INT8", 8), mx.VMXDOTP, "software"),
    ("conv", form("E4M3", 8, 12), form("E4M3", 8, 12), mx.MXDOTP, "software"),
    ("conv", form("E4M3", 8, 8), E4M3, mx.MXDOTP, "unit"),
    ("conv", form("E2M1", 4, 16), form("E2M1", 4, 16), mx.VMXDOTP, "unit"),
    ("conv", NVFP4, NVFP4, mx.VMXDOTP, "software"),  # E4M3 scales
    ("conv", NVFP4, E2M1, mx.VMXDOTP, "software"),
    ("conv", E2M1, NVFP4, mx.VMXDOTP, "software"),
    ("conv", NVFP4, NVFP4, mx.MXDOTP, "software"),
    ("depthwise", E4M3, E4M3, mx.VMXDOTP, "software"),  # scales in the sum
    ("conv", FP32, FP32, mx.VMXDOTP, "fp32"),
    ("conv", FP32, E4M3, mx.VMXDOTP, "software"),
  ],
)
def test_what_the_unit_takes(op, inputs, weights, target, way):
  layer = Layer("a", op, 16, 16, 8, 8, 3, 3)
  assert mx.layer_cost(layer, inputs, weights, target).way == way


def test_nvfp4_costs_what_software_costs():
  """By hand: 4,096 pixels x 1,024 x 1,024 at 64 x 0.97 / 7 products a cycle."""
  macs = 4096 * 1024 * 1024
  cost = mx.layer_cost(LARGE, NVFP4, NVFP4, mx.VMXDOTP)
  assert cost == mx.Cost(
    "software", macs, math.ceil(macs / 8.868571428571428), cost.joules
  )
  assert math.isclose(cost.joules, macs * 4.9 * 2 / 843e9)
  mxfp4 = mx.layer_cost(LARGE, E2M1, E2M1, mx.VMXDOTP)
  assert math.isclose(cost.cycles / mxfp4.cycles, 14, rel_tol=1e-6)

  # A pool has no products: its 864 and 24 values of 4 bits, and scales of 8
  table = mx.cycle_table(WORKLOAD, (NVFP4,), mx.VMXDOTP)
  moved = movement_table(WORKLOAD, (NVFP4,), 4 * 128 * 1024, others="once")
  assert table.units[2, 0, 0, 0] == math.ceil(
    moved.bits(moved.units[2, 0, 0, 0]) / 512
  )


def test_the_published_nvfp4_is_the_one_that_no_unit_takes():
  preset = published_formats.priced(microscaling.FORMATS["NVFP4"])
  assert preset == NVFP4
  for name in ("MXFP4", "MXFP8 E4M3", "MXINT8"):
    assert not published_formats.priced(microscaling.FORMATS[name]).scale


WORKLOAD = Workload(
  "small",
  (
    Layer("a", "conv", 3, 16, 8, 8, 3, 3),
    Layer("b", "conv", 16, 24, 6, 6),
    Layer("pool", "avg_pool", 24, 24, 6, 6, 6, 6),
    Layer("fc", "linear", 24, 10),
  ),
  ((-1,), (0,), (1,), (2,)),
  (("input.out",), ("a.out",), ("b.out",), ("b.out",)),
  ("a.out", "b.out", "b.out", None),
)


def test_a_layer_takes_the_longer_of_products_and_transfers():
  formats = (E4M3, E2M1, FP32)
  table = mx.cycle_table(WORKLOAD, formats, mx.VMXDOTP)
  slow = dataclasses.replace(mx.VMXDOTP, dma_bytes=1)
  slower = mx.cycle_table(WORKLOAD, formats, slow)
  moved = movement_table(WORKLOAD, formats, 4 * 128 * 1024, others="once")
  assert table.units.dtype == np.int64 and table.per_bit == 1
  for n, layer in enumerate(WORKLOAD.layers):
    for i, w, o in itertools.product(range(3), repeat=3):
      bits = moved.bits(moved.units[n, i, w, o])
      products = 0
      if layer.has_weights:
        products = mx.layer_cost(
          layer, formats[i], formats[w], mx.VMXDOTP
        ).cycles
      transfers = math.ceil(bits / 512)
      assert table.units[n, i, w, o] == max(products, transfers)
      assert slower.units[n, i, w, o] == max(products, math.ceil(bits / 8))


def test_costs_of_a_network_are_those_of_its_layers():
  formats = dict.fromkeys(WORKLOAD.sites, E4M3) | {"fc.weight": E2M1}
  costs = mx.network_costs(WORKLOAD, formats, mx.VMXDOTP)
  assert [c.way for c in costs.values()] == ["unit", "unit", "software"]
  assert costs["a"] == mx.layer_cost(WORKLOAD.layers[0], E4M3, E4M3, mx.VMXDOTP)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (dict(utilization=0), "utilization is 0"),
    (dict(software=-1.0), "software is -1.0"),
    (dict(granule=0), "granule is 0"),
    (dict(unit=(("E4M3", 8),)), "other elements than unit"),
  ],
)
def test_senseless_targets_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(mx.MXDOTP, **changes)
