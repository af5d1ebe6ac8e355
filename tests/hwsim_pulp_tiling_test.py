"""Tilings against DORY's own solver and against a search written as loops."""

import dataclasses
import itertools

import pytest
from hwsim_networks import golden
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pulp_calls import is_whole, tile_l1, tile_l2

from hwsim.pulp import XPULP_V2, simulate, tiles
from hwsim.workload import Layer

BUDGET = 35_000


def golden_layer(case):
  op = (
    "depthwise" if case["dw"] else "linear" if case["layer"] == "fc" else "conv"
  )
  k, size = case["k"], case["H"]
  return Layer(
    case["layer"], op, case["Ci"], case["Co"], size, size, k, k, case["s"],
    (k // 2,) * 4,
  )  # fmt: skip


def test_every_golden_tiling_is_equal():
  cases = golden("pulp_golden.json")["dory_tilings"]
  assert len(cases) == 203
  for case in cases:
    layer = golden_layer(case)
    tile = tile_l1(layer, case["a"], case["w"], case["o"], XPULP_V2)
    assert [tile.out_channels, tile.in_channels] == case["weights"], case
    assert list(tile[:1] + tile[2:4]) == case["inp"], case
    assert list(tile[1:2] + tile[4:]) == case["out"], case


def test_every_golden_tiling_of_layers_cut_in_l3_is_equal():
  """One L1 tile serves all slices: chosen with the padding of the layer."""
  cases = golden("dory_l3_golden.json")
  assert len(cases) == 33
  for case in cases:
    op, c_in, c_out, height, width, k, stride, pad, *bits = case["node"]
    layer = Layer(
      case["name"], op, c_in, c_out, height, width, k, k, stride, (pad,) * 4
    )
    part, tile = tiles(layer, *bits, XPULP_V2, case["input_l3"])
    (n, _), (_, h_in, _), (_, h_out, _) = case["L2"]
    assert part[:3] == (n, h_in, h_out), case
    assert [tile.out_channels, tile.in_channels] == case["L1"][0], case
    assert list(tile[:1] + tile[2:4]) == case["L1"][1], case
    assert list(tile[1:2] + tile[4:]) == case["L1"][2], case


def test_an_output_left_in_l3_is_read_from_there():
  """A layer that would fit L2 streams its input all the same."""
  layer = Layer("pw", "conv", 64, 64, 28, 28)
  assert is_whole(tile_l2(layer, 8, 8, 8, XPULP_V2), layer)
  tile = tile_l2(layer, 8, 8, 8, XPULP_V2, input_in_l3=True)
  assert tile.input_in_l3 and tile.out_channels == 64
  alone = simulate(layer, 8, 8, 8, XPULP_V2)
  after = simulate(layer, 8, 8, 8, XPULP_V2, input_in_l3=True)
  # 64 x 28 x 28 bytes at half a byte a cycle, of which some are hidden
  assert alone.l3 == 0 < after.l3 <= 64 * 28 * 28 * 2 + 28 * 1500


def test_only_logits_have_a_bias():
  """Hidden linear layers are requantized: lambda holds their bias."""
  layer = Layer("fc", "linear", 256, 64)
  wide = dataclasses.replace(XPULP_V2, bias_bits=64)
  for out_bits, more in ((8, 0), (32, 64 * 32 // 8 // 8)):
    narrow = simulate(layer, 8, 8, out_bits, XPULP_V2).total
    assert simulate(layer, 8, 8, out_bits, wide).total == narrow + more


def conv_by_loops(layer, a, w, o, budget):
  """(n, h_in, h_out, w_in, w_out) of docs/facts/pulp.md 1.2, trying all."""
  k, s, ci, co = (
    layer.kernel_height, layer.stride, layer.in_channels, layer.out_channels,
  )  # fmt: skip
  height, width = layer.out_height, layer.out_width
  pad_h, pad_w = sum(layer.padding[:2]), sum(layer.padding[2:])
  step = int(8 / min(a, w, o))
  best, found = -1, None
  for n, h_in, w_in in itertools.product(
    range(1, co + 1),
    range(k, layer.in_height + 1),
    range(k, layer.in_width + 1),
  ):
    h_out = (h_in - k + s + pad_h * (h_in == layer.in_height)) / s
    w_out = (w_in - k + s + pad_w * (w_in == layer.in_width)) / s
    if n % step or (h_in - k) % s or (w_in - k) % s:
      continue
    if h_out % 1 or w_out % 1 or h_out > height or w_out > width:
      continue
    size = 2 * ci * h_in * w_in * a // 8
    size += int(2 * n * h_out * w_out * o) // 8
    size += 2 * ci * n * k * k * w // 8 + 2 * n * 8 + 2 * 8 * k * k * ci + 40
    if size > budget:
      continue
    value = size + 2e6 * ((h_out - 1) % 8) + 3e6 * ((w_out - 1) % 2)
    value += 1e6 * ((n - 1) % 4) + 1e6 * (w_out * h_out >= 16) + 1e5 * n
    value += 1e4 * ((co - 1) % n) + 1e4 * ((co - 1) % n % 4)
    value += 2e4 * ((height - 1) % h_out % 8) + 3e4 * ((width - 1) % w_out % 2)
    if value > best:
      best, found = value, (n, h_in, int(h_out), w_in, int(w_out))
  return found


@settings(max_examples=300, deadline=None)
@given(
  st.integers(1, 6),
  st.integers(1, 14),
  st.integers(3, 14),
  st.integers(3, 14),
  st.sampled_from((1, 3)),
  st.integers(1, 2),
  *[st.sampled_from((2, 4, 8))] * 3,
  st.integers(300, 4000),
)
def test_conv_tiles_equal_a_search_by_loops(
  ci, co, height, width, k, s, a, w, o, room
):
  layer = Layer(
    "c", "conv", 4 * ci, 4 * co, height, width, k, k, s, (k // 2,) * 4
  )
  im2col = 16 * k * k * layer.in_channels
  target = dataclasses.replace(XPULP_V2, l1_bytes=im2col + room + 29_000)
  packed = layer.in_count * a + layer.weight_count * w + layer.out_count * o
  once = -(-packed // 8) + 8 * layer.out_channels + im2col * a // 8
  if once <= im2col + room:
    expected = layer.out_channels, height, width
  else:
    found = conv_by_loops(layer, a, w, o, im2col + room)
    event("no tile" if found is None else "tiles")
    if found is None:
      assert tile_l1(layer, a, w, o, target) is None
      return
    expected = found[0], found[1], found[3]
  tile = tile_l1(layer, a, w, o, target)
  assert (tile.out_channels, tile.in_height, tile.in_width) == expected
  if tile.in_height == height:  # a whole axis makes every output
    assert tile.out_height == layer.out_height
  if tile.in_width == width:
    assert tile.out_width == layer.out_width


def test_depthwise_tiles_are_whole_rows_or_whole_maps():
  small = Layer("d", "depthwise", 96, 96, 30, 30, 3, 3, 1, (1, 1, 1, 1))
  tile = tile_l1(small, 8, 8, 8, XPULP_V2)
  assert (tile.in_height, tile.in_width) == (30, 30) and tile.out_channels < 96
  large = dataclasses.replace(small, in_height=60, in_width=60)
  tile = tile_l1(large, 8, 8, 8, XPULP_V2)
  assert tile.in_width == 60 and tile.in_height < 60
  assert tile.in_channels == tile.out_channels


def add_by_loops(layer, a, o):
  best, found = -1, None
  for h in range(1, layer.in_height + 1):
    for w in range(1, layer.in_width + 1):
      count = 2 * layer.in_channels * h * w
      size = 2 * ((count * a + 7) // 8) + (count * o + 7) // 8
      value = 1e6 * size + 10 * w + h
      if size <= BUDGET and value > best:
        best, found = value, (h, w)
  return found


def pool_by_loops(layer, a, o):
  k, s = layer.kernel_height, layer.stride
  best, found = -1, None
  step = int(8 / min(a, o))
  for n in range(step, layer.in_channels + 1, step):
    for h in range(k, layer.in_height + 1, s):
      for w in range(k, layer.in_width + 1, s):
        h_out, w_out = (h - k) // s + 1, (w - k) // s + 1
        size = (2 * n * h * w * a + 7) // 8 + 20
        size += (2 * n * h_out * w_out * o + 7) // 8
        value = 1e4 * size + 100 * w + h + 1e6 * n
        if size <= BUDGET and value > best:
          best, found = value, (n, h, w)
  return found


@pytest.mark.parametrize("a", [2, 4, 8])
@pytest.mark.parametrize("o", [2, 4, 8])
def test_add_and_pool_tiles_equal_a_search_by_loops(a, o):
  add = Layer("add", "add", 64, 64, 30, 26)
  tile = tile_l1(add, a, 8, o, XPULP_V2)
  assert (tile.in_height, tile.in_width) == add_by_loops(add, a, o)
  assert tile.out_channels == 64
  for k, s in ((2, 2), (3, 1)):
    pool = Layer("p", "max_pool", 320, 320, 24, 25, k, k, s)
    tile = tile_l1(pool, a, 8, o, XPULP_V2)
    assert (tile.out_channels, tile.in_height, tile.in_width) == pool_by_loops(
      pool, a, o
    )


def l3_by_loops(layer, a, w, o, budget):
  """Attempts of docs/facts/pulp.md 1.5, (n, h_in, h_out, from L3), in turn."""
  k, s = layer.kernel_height, layer.stride
  ci, co, height = layer.in_channels, layer.out_channels, layer.out_height
  plans = [(0, 1, 0), (0, 0, 1), (0, 1, 1)]
  plans += [(1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
  for from_l3, cut_n, cut_h in plans:
    best, found = -1, None
    for n, h_in, h in itertools.product(
      range(1 if cut_n else co, co + 1),
      range(k, layer.in_height + 1) if from_l3 else [layer.in_height],
      range(1 if cut_h else height, height + 1),
    ):
      if from_l3 and ((h_in - k) % s or height % ((h_in - k + s) // s)):
        continue
      if from_l3 and cut_h and h * s != h_in - k + s:
        continue
      x = ci * h_in * layer.in_width * a
      size = (1 + from_l3) * x // 8
      size += (1 + cut_h) * co * h * layer.out_width * o // 8
      size += (1 + cut_n) * n * (ci * k * k * w // 8 + 8)
      if size > budget:
        continue
      l1 = x // 8 + n * h * layer.out_width * o // 8 + ci * n * k * k * w // 8
      l1 += 8 * n + 16 * k * k * ci + 20
      value = size + 1e8 * (l1 < BUDGET) + 1e5 * ((h - 1) % 8)
      value += 1e5 * (n % 4 == 0) + 1e6 * ((co - n) % n == 0)
      value += 1e6 * ((height - h) % h == 0)
      value += 1e5 * (h == height) + 1e4 * (n == co)
      if value > best:
        best, found = value, (n, h_in, h, bool(from_l3))
    if found:
      return found
  return None


@settings(max_examples=200, deadline=None)
@given(
  st.integers(1, 8),
  st.integers(1, 10),
  st.integers(3, 24),
  st.sampled_from((1, 3)),
  st.integers(1, 2),
  *[st.sampled_from((2, 4, 8))] * 3,
  st.floats(0.05, 1.0),
)
def test_l3_tiles_equal_a_search_by_loops(ci, co, size, k, s, a, w, o, share):
  layer = Layer("c", "conv", 4 * ci, 4 * co, size, size, k, k, s, (k // 2,) * 4)
  whole = layer.in_count * a // 8 + layer.out_count * o // 8
  whole += layer.weight_count * w // 8 + 8 * layer.out_channels
  budget = max(1, int(whole * share))
  target = dataclasses.replace(XPULP_V2, l2_bytes=budget, code_reserved_bytes=0)
  expected = l3_by_loops(layer, a, w, o, budget)
  if whole <= budget:
    assert is_whole(tile_l2(layer, a, w, o, target), layer)
  elif expected is None:
    assert tile_l2(layer, a, w, o, target) is None
    with pytest.raises(ValueError, match=f"layer 'c'.*leaves {budget} bytes"):
      tiles(layer, a, w, o, target)
  else:
    event("input from L3" if expected[3] else "input in L2")
    assert tile_l2(layer, a, w, o, target) == expected


def test_pw3_makes_two_rows_at_8_bits():
  """The case of docs/facts/pulp.md 1.5: few rows leave half the cores idle."""
  layer = Layer("pw3", "conv", 96, 96, 56, 56)
  assert tile_l2(layer, 8, 8, 8, XPULP_V2).out_height == 2
  assert tile_l2(layer, 4, 4, 8, XPULP_V2).out_height == 8


def test_an_input_beyond_l2_comes_from_l3_row_by_row():
  """dw2 of MobileNetV1-0.75-224: its 8-bit input alone is 602 kB."""
  layer = Layer("dw2", "depthwise", 48, 48, 112, 112, 3, 3, 2, (1, 1, 1, 1))
  tile = tile_l2(layer, 8, 8, 8, XPULP_V2)
  assert tile.input_in_l3
  assert layer.out_height % ((tile.in_height - 3 + 2) // 2) == 0
  assert not tile_l2(layer, 2, 2, 8, XPULP_V2).input_in_l3


def test_a_layer_that_fits_no_tile_names_layer_and_bytes():
  layer = Layer("big", "conv", 512, 512, 14, 14, 3, 3, 1, (1, 1, 1, 1))
  with pytest.raises(
    ValueError, match="'big'.*35000 bytes.*im2col buffers take 73728"
  ):
    simulate(layer, 8, 8, 8, dataclasses.replace(XPULP_V2, l2_bytes=10**9))
