"""Kernel cycles against an instruction-level simulator, loops, publications."""

import collections
import json
import math
import pathlib

import numpy as np
import pytest
from hwsim_networks import golden
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pulp_calls import Tiles, kernel_cycles

from hwsim.pulp import coefficients as library_costs
from hwsim.pulp import get_target
from hwsim.workload import Layer

XPULP_V2, XPULPNN_V1, XPULPNN_V2 = (
  get_target(f"{name}_iss") for name in ("xpulp_v2", "xpulpnn_v1", "xpulpnn_v2")
)
TARGETS = {
  "XpulpV2": XPULP_V2,
  "XpulpNN": XPULPNN_V1,
  "XpulpNN-mixed": XPULPNN_V2,
}
SAME = (1, 1, 1, 1)
REFERENCE_LAYERS = {
  "conv3x3_16x16x32_to_64": Layer("c", "conv", 32, 64, 16, 16, 3, 3, 1, SAME),
  "pw_16x16x128_to_128": Layer("p", "conv", 128, 128, 16, 16),
  "dw3x3_16x16x64": Layer("d", "depthwise", 64, 64, 16, 16, 3, 3, 1, SAME),
  "linear_768_to_1000pad": Layer("l", "linear", 768, 1000),
}


def one_tile(*sizes):
  return Tiles(*(np.array([size]) for size in sizes))


def whole(layer):
  """The whole layer as one tile."""
  return one_tile(
    layer.out_channels, layer.in_height, layer.in_width, layer.out_height,
    layer.out_width, *layer.padding,
  )  # fmt: skip


def golden_cycles(key):
  library, kind, bits, sizes = key.split("|")
  *sizes, padding = sizes.split(",")
  x_in, y_in, c_in, x_out, y_out, n, k, stride = map(int, sizes)
  op = {"conv": "conv", "dw": "depthwise", "fc": "linear"}[kind]
  layer = Layer(
    key, op, c_in, c_in if kind == "dw" else n, max(y_in, k), max(x_in, k), k,
    k, stride,
  )  # fmt: skip
  tiles = one_tile(n, y_in, x_in, y_out, x_out, *map(int, padding))
  bits = int(bits[0]), int(bits[1]), int(bits[2:])
  cycles = kernel_cycles(layer, tiles, *bits, TARGETS[library])
  return library, kind, cycles.item()


def test_golden_tiles_within_one_percent_on_average():
  cases = golden("pulp_golden.json")["kernel_tiles"]
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


def reference_layer(name, key):
  """Cycles of a reference layer; key is library|input weight output bits."""
  library, bits = key.split("|")
  out_bits = int(bits[2:]) if len(bits) > 2 else 32
  layer = REFERENCE_LAYERS[name]
  cycles = kernel_cycles(
    layer, whole(layer), int(bits[0]), int(bits[1]), out_bits, TARGETS[library]
  )
  return cycles.item()


@pytest.mark.parametrize("name", REFERENCE_LAYERS)
def test_reference_layers_at_every_precision(name):
  errors = [
    abs(reference_layer(name, key) / cycles - 1)
    for key, (cycles, _) in golden("pulp_reference_layers.json")[name].items()
    if not key.startswith("pulp-nn|")  # the 8-bit library is not modelled
  ]
  assert len(errors) == {"c": 81, "p": 81, "d": 54, "l": 18}[name[0]]
  assert np.mean(errors) <= 0.006 and np.max(errors) <= 0.025


def conv_by_loops(layer, sizes, costs, in_bits, lanes):
  """Cycles of the slowest core, pixel by pixel (docs/facts/pulp.md 2.1)."""
  n, h_in, w_in, h_out, w_out, top, bottom, left, right = sizes
  k, s, ci = layer.kernel_height, layer.stride, layer.in_channels
  patch = ci * k * k
  trips, left_k = patch // costs["k_per_iter"], patch % costs["k_per_iter"]
  odd = costs["odd_ch"] + costs["odd_ch_iter"] * trips
  odd += left_k * costs["odd_ch_leftK"]
  block = costs["block4x2"] + costs["inner_iter"] * trips
  block += left_k * costs["leftK_elem_block"]
  block += costs["leftK_block_flag"] if left_k else 0
  single = costs["chleft"] + costs["chleft_iter"] * trips
  single += left_k * costs["chleft_leftK"]
  if not costs["chleft"]:
    single = 2 * odd
  times = []
  for core in range(8):
    if h_out % 8 and w_out > 1:
      chunk = math.ceil(h_out / 4)
      rows = range(core // 2 * chunk, core // 2 * chunk + chunk)
      half = w_out >> 1
      columns = range(half, w_out) if core % 2 else range(half)
    else:
      chunk = math.ceil(h_out / 8)
      rows, columns = range(core * chunk, core * chunk + chunk), range(w_out)
    time = costs["base"]
    for y in rows:
      if y >= h_out:
        continue
      for x in columns:
        inside = sum(
          0 <= y * s - top + i < h_in and 0 <= x * s - left + j < w_in
          for i in range(k)
          for j in range(k)
        )
        outside = k * k - inside
        fast = top <= y < h_out - bottom and left <= x < w_out - right
        if fast:
          time += costs["px_int"] + costs["seg_int"] * k
          time += costs["copy_word"] * patch * in_bits / 32
        else:
          time += costs["seg_border_copy"] * inside
          time += costs["seg_border_zero"] * outside
          time += costs["copy_word"] * inside * ci * in_bits / 32
          time += costs["zero_word"] * outside * ci * lanes / 32
      time += (
        len(columns) // 2 * (costs["pair"] + n // 4 * block + n % 4 * single)
      )
      time += len(columns) % 2 * n * odd
    times.append(time)
  return max(times)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_conv_equals_loops_over_cores_and_pixels(data):
  draw = data.draw
  k, s = draw(st.sampled_from((1, 2, 3, 5))), draw(st.integers(1, 3))
  pads = [draw(st.integers(0, k // 2)) for _ in range(4)]
  ci, n = draw(st.integers(1, 40)), draw(st.integers(1, 20))
  h_out, w_out = draw(st.integers(1, 20)), draw(st.integers(1, 20))
  # Exactly the inputs these outputs read, as the tiles of a layer have them.
  h_in = (h_out - 1) * s + k - pads[0] - pads[1]
  w_in = (w_out - 1) * s + k - pads[2] - pads[3]
  assume(min(h_in, w_in) >= 1)
  a, w, o = (draw(st.sampled_from((2, 4, 8))) for _ in range(3))
  library = draw(st.sampled_from(sorted(TARGETS)))
  costs = library_costs.coefficients("conv", f"{library}|a{a}w{w}o{o}")
  lanes = 8 if library == "XpulpV2" else max(a, w)
  layer = Layer("c", "conv", ci, n, max(h_in, k), max(w_in, k), k, k, s)
  sizes = n, h_in, w_in, h_out, w_out, *pads
  cycles = kernel_cycles(layer, one_tile(*sizes), a, w, o, TARGETS[library])
  by_loops = conv_by_loops(layer, sizes, costs, a, lanes)
  assert cycles.item() == pytest.approx(by_loops, rel=1e-12)


def test_many_tiles_equal_one_by_one():
  layer = Layer("c", "conv", 20, 30, 9, 9, 3, 3, 1, SAME)
  sizes = np.array(
    [
      (30, 5, 9, 4, 9, 1, 0, 1, 1),
      (30, 6, 9, 4, 9, 0, 0, 1, 1),
      (6, 2, 3, 1, 2, 0, 1, 0, 1),
    ]
  )
  together = kernel_cycles(layer, Tiles(*sizes.T), 8, 4, 4, XPULPNN_V2)
  for row, cycles in zip(sizes, together, strict=True):
    alone = kernel_cycles(layer, one_tile(*row), 8, 4, 4, XPULPNN_V2)
    assert alone.item() == cycles


def test_idle_cores():
  """Two rows of a pointwise tile of one column keep two cores busy."""
  layer = Layer("p", "conv", 96, 96, 8, 1)
  full = kernel_cycles(layer, whole(layer), 8, 8, 8, XPULP_V2).item()
  tile = one_tile(96, 2, 1, 2, 1, 0, 0, 0, 0)
  assert kernel_cycles(layer, tile, 8, 8, 8, XPULP_V2).item() == full
  # Depthwise channels go to cores by groups of a byte: 24 at 2 bits are 6.
  layer = Layer("d", "depthwise", 24, 24, 16, 16, 3, 3, 1, SAME)
  wide = Layer("d", "depthwise", 32, 32, 16, 16, 3, 3, 1, SAME)
  times = [
    kernel_cycles(x, whole(x), 2, 2, 2, XPULP_V2).item() for x in (layer, wide)
  ]
  assert times[0] == times[1]


def test_additions_cost_what_was_measured():
  """pulp_kernels.json add_cycles_per_element_per_core, raw rows."""
  for size, channels, both_8, both_4 in (
    (8, 64, 7772, 12376),
    (16, 64, 30812, 49240),
    (28, 32, 53852, 86104),
    (56, 24, 141212, 225880),
  ):
    layer = Layer("add", "add", channels, channels, size, size)
    for bits, measured in ((8, both_8), (4, both_4)):
      cycles = kernel_cycles(layer, whole(layer), bits, 8, 8, XPULPNN_V1)
      assert cycles.item() == pytest.approx(measured, abs=2)


@pytest.mark.parametrize("op", ["avg_pool", "max_pool"])
def test_pools_grow_with_the_window_and_the_map(op):
  """Not measured: only what any implementation shows."""

  def cycles(kernel, size, bits):
    layer = Layer(op, op, 64, 64, size, size, kernel, kernel, kernel)
    return kernel_cycles(layer, whole(layer), bits, 8, 8, XPULP_V2).item()

  assert 0 < cycles(2, 8, 8) < cycles(2, 16, 8) < cycles(2, 64, 8)
  assert cycles(4, 64, 8) / cycles(2, 64, 8) < 2
  assert all(cycles(7, 7, bits) > 0 for bits in (2, 4, 8))


def test_8_bit_blocks_are_near_the_formula_of_dorys_authors():
  """tiler_conv1d_to_up.py:364-372, pixel pair without im2col."""
  costs = library_costs.coefficients("conv", "XpulpV2|a8w8o8")
  for patch in (128, 256, 288, 512, 1152):
    for n in (16, 32, 64, 256):
      ours = costs["pair"] + n // 4 * (
        costs["block4x2"] + costs["inner_iter"] * (patch // 4)
      )
      theirs = 27 + 127 + n // 4 * (159 + 14 * (patch // 4))
      assert ours == pytest.approx(theirs, rel=0.05)


def mac_per_cycle(name, key):
  return REFERENCE_LAYERS[name].macs / reference_layer(name, key)


def test_published_throughputs_and_ratios():
  """docs/facts/pulp.md 4.3: within 15 %, nothing fitted."""
  conv = "conv3x3_16x16x32_to_64"
  # PULP-NN reaches 15.5 MAC/cycle on eight cores (arXiv 1908.11263).
  assert mac_per_cycle(conv, "XpulpV2|888") == pytest.approx(15.5, rel=0.15)
  # XpulpNN against a cluster with 8-bit SIMD: 6x and 8x (arXiv 2011.14325).
  for bits, published in ((4, 6), (2, 8)):
    gain = mac_per_cycle(conv, f"XpulpNN|{bits}{bits}8") / mac_per_cycle(
      conv, f"XpulpV2|{bits}{bits}8"
    )
    assert gain == pytest.approx(published, rel=0.15)


def test_precisions_rank_as_on_mpic():
  """Single-core MAC/cycle of MPIC (arXiv 2010.04073), which decodes mixed
  formats in hardware as XPulpNNv2 does but has no MAC-and-load."""
  table = golden("pulp_reference_layers.json")["mpic_single_core_mac_per_cycle"]
  published, ours = [], []
  for a in (2, 4, 8):
    for w in (2, 4, 8):
      published.append(table[f"a{a}"][f"w{w}"])
      ours.append(
        mac_per_cycle("conv3x3_16x16x32_to_64", f"XpulpNN-mixed|{a}{w}8")
      )
  ranks = [np.argsort(np.argsort(values)) for values in (published, ours)]
  assert np.corrcoef(*ranks)[0, 1] > 0.9


def test_an_unknown_library_is_named():
  with pytest.raises(ValueError, match="no conv kernel 'XpulpV9.*XpulpNN"):
    library_costs.coefficients("conv", "XpulpV9|a8w8o8")


def test_every_kernel_has_coefficients_and_provenance():
  path = pathlib.Path(library_costs.__file__).with_name("kernels.json")
  tables = json.loads(path.read_text(encoding="utf-8"))
  for kind, count in (("conv", 81), ("depthwise", 54), ("linear", 18)):
    assert len(tables[kind]["table"]) == count
  assert all(
    "provenance" in tables[kind]
    for kind in ("conv", "depthwise", "linear", "add", "pool")
  )
