"""Movement tables of networks, against the search layer by layer."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from hwsim_networks import chain, network

from hwsim.bfp import (
  encode,
  layer_bits,
  movement_table,
  score,
)
from hwsim.bfp.formats import FP32, bitq_format, bitq_grid
from hwsim.bfp.movement import nest_of
from hwsim.bfp.tiling import best_tiling
from hwsim.workload import Layer, Workload

FORMATS = (FP32, bitq_format(16, 2, 24), bitq_format(8, 3, 48))
WEIGHTS = (bitq_format(8, 3, 48), bitq_format(16, 7, 32))
MEMORY_BITS = 4 * 8192


def residual():
  """conv -> depthwise -> add with the first output -> pool -> logits."""
  same = (1, 1, 1, 1)
  return Workload(
    "residual",
    (
      Layer("stem", "conv", 3, 16, 12, 12, 3, 3, 2, same),
      Layer("dw", "depthwise", 16, 16, 6, 6, 3, 3, 1, same),
      Layer("sum", "add", 16, 16, 6, 6),
      Layer("pool", "avg_pool", 16, 16, 6, 6, 6, 6),
      Layer("fc", "linear", 16, 10),
    ),
    ((-1,), (0,), (0, 1), (2,), (3,)),
    (("image",), ("a",), ("a", "b"), ("c",), ("c",)),
    ("a", "b", "c", "c", None),
    (("image", 8),),
  )


def table_of(workload, **options):
  return movement_table(workload, FORMATS, MEMORY_BITS, WEIGHTS, **options)


def bits(form, channels, area=1):
  """X + e ceil(C / BS) / C, of whole kernels; written out for the test."""
  blocks = math.ceil(channels / form.block_size)
  return form.element_bits + Fraction(
    form.exponent_bits * blocks, channels * area
  )


def assignment(choice):
  """Formats of the sites a, b, c, image and the weights, by position."""
  sites = residual().sites
  return {
    site: (WEIGHTS if "." in site else FORMATS)[position]
    for site, position in zip(sites, choice, strict=True)
  }


@pytest.mark.parametrize("out_moves, batch", [(2, 1), (1, 3)])
def test_every_entry_is_the_least_of_its_layer(out_moves, batch):
  workload = residual()
  table = table_of(workload, out_moves=out_moves, batch=batch)
  for layer, units, site in zip(
    workload.layers, table.units, workload.output_sites, strict=True
  ):
    if not layer.has_weights:
      assert not units.any()
      continue
    for place in np.ndindex(units.shape):
      i, w, o = place
      out = FORMATS[o] if site else FP32
      prices = (
        bits(FORMATS[i], layer.in_channels),
        bits(WEIGHTS[w], layer.in_channels, layer.kernel_height**2),
        bits(out, layer.out_channels),
      )
      best = best_tiling(nest_of(layer, batch), prices, MEMORY_BITS, out_moves)
      assert table.bits(units[place]) == best.bits


def test_additions_and_pools_can_move_once():
  table = table_of(residual(), others="once")
  price = bits(FORMATS[1], 16)
  count = 16 * 6 * 6
  assert table.bits(table.units[2, 1, 0, 0]) == 2 * count * price + count * 32
  assert table.bits(table.units[3, 1, 1, 1]) == (count + 16) * price
  assert (table.units[2, :, :1] == table.units[2]).all()
  twice = table_of(residual(), others="once", batch=2)
  assert twice.bits(twice.units[2, 1, 0, 0]) == 2 * (
    2 * count * price + count * 32
  )


def test_joins_of_tensors_move_once_unless_they_lie_in_place():
  """Two 4-channel parts of 3x3 pixels; an attention of one pixel."""
  layers = (
    Layer("left", "conv", 2, 4, 3, 3),
    Layer("right", "conv", 2, 4, 3, 3),
    Layer("join", "concat", 8, 8, 3, 3),
    Layer("pool", "avg_pool", 8, 8, 3, 3, 3, 3),
    Layer("scaled", "scale", 8, 8, 3, 3),
  )
  sources = ((-1,), (-1,), (0, 1), (2,), (2, 3))

  def moved(right):
    inputs = (("x",), ("x",), ("j", right), ("j",), ("j", "p"))
    net = Workload("n", layers, sources, inputs, ("j", right, "j", "p", "s"))
    table = movement_table(net, [FP32], MEMORY_BITS, others="once")
    return [int(table.bits(units[0, 0, 0])) for units in table.units[2:]]

  rest = [32 * (72 + 8), 32 * (72 + 8 + 72)]
  assert moved("j") == [0, *rest]
  assert moved("own") == [32 * (72 + 72), *rest]


def test_scores_of_many_are_sums_of_layers():
  workload = residual()
  table = table_of(workload, others="once")
  random = np.random.default_rng(0)
  top = [2 if "." in site else 3 for site in workload.sites]
  choices = random.integers(0, top, (50, len(top)))
  totals = score(table, encode(table, workload, choices))
  for choice, total in zip(choices, totals, strict=True):
    formats = assignment(choice)
    moved = layer_bits(table, workload, formats)
    assert table.bits(total) == sum(moved)
    # The adder reads both inputs at the wider of two formats.
    wide = max(bits(formats["a"], 16), bits(formats["b"], 16))
    assert moved[2] == 576 * (2 * wide + bits(formats["c"], 16))
    stem = (
      bits(formats["image"], 3),
      bits(formats["stem.weight"], 3, 9),
      bits(formats["a"], 16),
    )
    alone = best_tiling(nest_of(workload.layers[0]), stem, MEMORY_BITS)
    assert moved[0] == alone.bits


def test_columns_may_come_in_any_order():
  workload = residual()
  table = table_of(workload)
  choice = np.array([[2, 1, 0, 1, 2, 1, 0]])
  sites = workload.sites[::-1]
  assert (
    encode(table, workload, choice)
    == encode(table, workload, choice[:, ::-1], sites)
  ).all()


def test_a_network_of_depthwise_layers_has_a_table():
  """Uniform 16-bit words through 1 MB: everything moves once."""
  workload = network("MobileNetV1-0.75-224")
  form = bitq_format(16, 2, 1)
  table = movement_table(workload, [form], 8 * 2**20)
  moved = [int(table.bits(units[0, 0, 0])) for units in table.units]
  for layer, bits in zip(workload.layers, moved, strict=True):
    least = 16 * (layer.weight_count + 2 * layer.out_count)
    most = least + 16 * layer.in_channels * (
      (layer.in_height + 2) * (layer.in_width + 2)
    )
    if layer.name != "fc":
      assert least < bits <= most


def test_the_paper_grid_is_counted_in_whole_bits():
  workload = residual()
  grid = bitq_grid(8)
  table = movement_table(workload, grid, MEMORY_BITS)
  assert table.units.shape == (5, 40, 40, 40)
  assert table.per_bit == 1  # every pass moves whole tensors
  cheap = grid.index(bitq_format(8, 6, 48))
  for units in table.units[[0, 1]]:
    assert units.min() == units[cheap, cheap, cheap]
  with pytest.raises(ValueError, match="read-only"):
    table.units[0] = 0


def change(table, **fields):
  return dataclasses.replace(table, **fields)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda w, t: movement_table(w, FORMATS, 95), "'stem'.*needs 96 bits"),
    (lambda w, t: movement_table(w, FORMATS, 10**6, others="some"), "'some'"),
    (lambda w, t: movement_table(w, [], 10**6), "no input prices"),
    (
      lambda w, t: movement_table(w, FORMATS * 2, 10**6),
      "6 activation formats of which 3 differ",
    ),
    (lambda w, t: change(t, units=t.units[:2]), "expected int64"),
    (lambda w, t: change(t, units=t.units * 1.0), "units is float64"),
    (lambda w, t: layer_bits(t, w, {}), "no format for 'image'"),
    (
      lambda w, t: layer_bits(
        t, w, dict.fromkeys(w.sites, bitq_format(16, 4, 1))
      ),
      "'image'.*not among the 3 formats",
    ),
    (lambda w, t: encode(t, w, np.zeros((2, 3), int)), r"expected \[P, 7\]"),
    (
      lambda w, t: encode(t, w, np.zeros((2, 1), int), ["a"]),
      "no formats for sites",
    ),
    (
      lambda w, t: encode(t, w, np.zeros((2, 8), int), [*w.sites, "a"]),
      "a site is twice",
    ),
    (lambda w, t: encode(t, w, np.full((2, 7), 2)), "stem.weight.*2 to 2"),
    (lambda w, t: encode(t, w, np.full((2, 7), -1)), "'image'.*-1"),
    (
      lambda w, t: encode(t, network("MobileNetV1-0.75-224"), np.zeros((1, 1))),
      "has other layers",
    ),
  ],
)  # fmt: skip
def test_wrong_input_is_refused(call, message):
  workload = residual()
  with pytest.raises(ValueError, match=message):
    call(workload, table_of(workload))


def test_fractions_of_bits_are_exact():
  table = table_of(residual())
  assert table.bits(1) == Fraction(1, table.per_bit)


def test_units_that_64_bits_do_not_hold_are_refused():
  """Alone each layer would fit; all together they do not."""
  layers = [Layer(name, "conv", 1, 1, 16, 16) for name in "abcd"]
  form, often = [bitq_format(16, 2, 1)], dict(out_moves=2**49)
  for layer in layers:
    movement_table(chain("one", [layer]), form, MEMORY_BITS, **often)
  with pytest.raises(OverflowError, match="the network can move"):
    movement_table(chain("all", layers), form, MEMORY_BITS, **often)
