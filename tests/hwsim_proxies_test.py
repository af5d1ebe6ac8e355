"""Bit operations and sizes against published counts and hand-worked nets."""

import dataclasses

import numpy as np
import pytest
from hwsim_networks import chain, golden, mobilenet_v1, network

from hwsim.latency_table import encode
from hwsim.proxies import (
  bops,
  bops_table,
  peak_activation_bytes,
  weight_bytes,
)
from hwsim.scoring import score
from hwsim.workload import Layer, Workload

NETWORKS = {
  name: counts
  for name, counts in golden("bops_counts.json").items()
  if isinstance(counts, dict)
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_equal_the_reference(name):
  counts, net = NETWORKS[name], network(name)
  assert len(net.layers) == counts["layers"]
  assert net.macs == counts["macs"]
  weights = 0
  for layer, row in zip(net.layers, counts["layer_list"], strict=True):
    assert layer.macs == row["macs"], row
    assert layer.out_height == (1 if layer.op == "linear" else row["hout"])
    assert row["params"] - layer.weight_count in (0, row["cout"])  # bias
    weights += layer.weight_count
  assert net.weight_count == weights <= counts["params_conv_fc"]
  for bits in (2, 4, 8):
    expected = counts.get(f"BOPs_{bits}_{bits}_input8", counts["BOPs_8_8"])
    assert bops(net, dict.fromkeys(net.free_sites, bits)) == expected
  free = dataclasses.replace(net, fixed_bits=())
  assert bops(free, dict.fromkeys(net.sites, 32)) == counts["BOPs_32_32"]


def test_bops_are_exact_beyond_float64():
  layer = Layer("huge", "conv", 2**20 + 1, 2**20 + 1, 2**12, 2**12)
  net = dataclasses.replace(chain("huge", [layer]), fixed_bits=())
  assert bops(net, dict.fromkeys(net.sites, 8)) == 64 * (2**20 + 1) ** 2 * 2**24


def test_bops_of_many_candidates_equal_one_by_one():
  net, random = mobilenet_v1(), np.random.default_rng(0)
  bits = random.choice((2, 4, 8), (20, len(net.free_sites)))
  costs = bops_table(net).reshape(len(net.layers), -1)
  many = score(costs, encode(net, bits, net.free_sites))
  for row, total in zip(bits, many, strict=True):
    assert total == bops(
      net, dict(zip(net.free_sites, row.tolist(), strict=True))
    )


def residual():
  """conv a -> conv b -> add(a, b) -> logits; 10x10 images of 1, 3 channels."""
  conv = Layer("a", "conv", 1, 3, 10, 10)
  return Workload(
    "residual",
    (
      conv,
      dataclasses.replace(conv, name="b", in_channels=3),
      Layer("add", "add", 3, 3, 10, 10),
      Layer("fc", "linear", 300, 5),
    ),
    ((-1,), (0,), (1, 0), (2,)),
    (("image.out",), ("a.out",), ("b.out", "a.out"), ("add.out",)),
    ("a.out", "b.out", "add.out", None),
    (("image.out", 8), ("a.out", 8), ("b.out", 8)),
  )


def test_peak_memory_keeps_what_a_later_layer_reads():
  net = residual()
  weights = dict.fromkeys(("a.weight", "b.weight", "fc.weight"), 2)
  # At the addition: a and b at 8 bits, 300 bytes each, and the sum.
  assert peak_activation_bytes(net, weights | {"add.out": 8}) == 900
  assert peak_activation_bytes(net, weights | {"add.out": 4}) == 750
  # At the last layer: the sum and five 32-bit logits.
  tail = Workload("tail", net.layers[3:], ((-1,),), (("x",),), (None,))
  assert peak_activation_bytes(tail, {"x": 4, "fc.weight": 2}) == 150 + 20


def joined(nested):
  """Images of 10x10 whose parts of 2 and 3 channels lie side by side.

  Between the join and its reader stands a layer of 10 channels. Nested: the
  join is a part of another one, beside 4 channels that are made of it.
  """
  conv = lambda name, into, out: Layer(name, "conv", into, out, 10, 10)
  layers = [
    conv("a", 1, 2),
    conv("b", 1, 3),
    Layer("j", "concat", 5, 5, 10, 10),
  ]
  sources, reads = [(-1,), (-1,), (0, 1)], [("x",), ("x",), ("j", "j")]
  channels = 5
  if nested:
    layers += [conv("f", 5, 4), Layer("k", "concat", 9, 9, 10, 10)]
    sources += [(2,), (2, 3)]
    reads += [("j",), ("j", "j")]
    channels = 9
  join = len(layers) - 1
  layers += [conv("wide", 1, 10), conv("end", channels, 1)]
  sources += [(-1,), (join,)]
  reads += [("x",), ("j",)]
  writes = ("j",) * (join + 1) + ("wide", None)
  return Workload("n", tuple(layers), tuple(sources), tuple(reads), writes)


@pytest.mark.parametrize("nested, parts", [(False, 5), (True, 9)])
def test_parts_of_a_join_live_until_its_last_reader(nested, parts):
  """Peak while the wide layer runs: image, parts, 10 channels, 100 bytes each.

  The join is no tensor besides its parts.
  """
  net = joined(nested)
  assert len(net.in_place) == 1 + nested
  precision = dict.fromkeys(net.sites, 8)
  assert peak_activation_bytes(net, precision) == 100 * (1 + parts + 10)


def test_weight_bytes_are_packed_by_layer():
  precision = {"a.weight": 4, "b.weight": 2, "fc.weight": 8, "add.out": 8}
  # 3 weights at 4 bits, 9 at 2 bits, 1500 at 8 bits
  assert weight_bytes(residual(), precision) == 2 + 3 + 1500


@pytest.mark.parametrize(
  "change, message",
  [
    ({"a.out": 4}, "fixed bits .* do not allow sites \\['a.out'\\]"),
    ({"c.weight": 4}, "unknown sites \\['c.weight'\\]"),
  ],
)
def test_wrong_sites_are_named(change, message):
  precision = dict.fromkeys(residual().free_sites, 8)
  with pytest.raises(ValueError, match=message):
    bops(residual(), precision | change)
  with pytest.raises(ValueError, match="no bits for sites \\['a.weight'\\]"):
    bops(residual(), {"b.weight": 2, "fc.weight": 2, "add.out": 2})
