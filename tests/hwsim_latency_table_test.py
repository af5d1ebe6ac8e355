"""Totals, batched scores, files and merging of latency tables."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from hwsim_networks import chain, mobilenet_v1
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim import latency_io
from hwsim.latency_table import (
  BITS,
  LatencyTable,
  encode,
  flat_costs,
  layer_cycles,
  total_cycles,
)
from hwsim.pulp import XPULPNN_V1, get_target, latency_table, simulate
from hwsim.scoring import score
from hwsim.workload import Layer, Workload


@pytest.fixture(scope="module")
def net():
  """A residual net on 8x8 images, two of its layers alike."""
  conv = Layer("a", "conv", 3, 6, 8, 8, 3, 3, 1, (1, 1, 1, 1))
  twin = Layer("b", "depthwise", 6, 6, 8, 8, 3, 3, 1, (1, 1, 1, 1))
  return Workload(
    "small",
    (
      conv,
      twin,
      dataclasses.replace(twin, name="c"),
      Layer("add", "add", 6, 6, 8, 8),
      Layer("pool", "avg_pool", 6, 6, 8, 8, 8, 8),
      Layer("fc", "linear", 6, 10),
    ),
    ((-1,), (0,), (1,), (2, 0), (3,), (4,)),
    (("image",), ("a.out",), ("b.out",), ("c.out", "a.out"), ("add.out",),
     ("add.out",)),
    ("a.out", "b.out", "c.out", "add.out", "add.out", None),
    (("image", 8),),
  )  # fmt: skip


@pytest.fixture(scope="module")
def table(net):
  return latency_table(net, XPULPNN_V1)


def assignments(net, count=50, seed=0):
  random = np.random.default_rng(seed)
  return random.choice(BITS, (count, len(net.free_sites)))


def test_entries_are_the_simulated_layers(net, table):
  for i, layer in enumerate(net.layers):
    for a, in_bits in enumerate(BITS):
      for w, weight_bits in enumerate(BITS):
        for o, out_bits in enumerate(BITS):
          if net.output_sites[i] is None:
            out_bits = 32
          cycles = simulate(layer, in_bits, weight_bits, out_bits, XPULPNN_V1)
          assert table.cycles[i, a, w, o] == cycles.total
  assert table.provenance == ("simulated",) * 6
  assert (table.cycles[3:5] == table.cycles[3:5, :, :1]).all()
  assert (table.cycles[5] == table.cycles[5, :, :, :1]).all()


@pytest.mark.parametrize("output_bits", [2, 4, 8, "site"])
def test_totals_are_lookups_by_hand(net, table, output_bits):
  for row in assignments(net):
    precision = dict(zip(net.free_sites, row.tolist(), strict=True))
    bits = precision | {"image": 8}
    by_hand = []
    for i, layer in enumerate(net.layers):
      into = max(bits[site] for site in net.input_sites[i])
      weight = bits.get(f"{layer.name}.weight", 8)
      out = bits.get(net.output_sites[i], 8)
      out = out if output_bits == "site" else output_bits
      place = [BITS.index(b) for b in (into, weight, out)]
      by_hand.append(int(table.cycles[i][tuple(place)]))
    cycles = layer_cycles(table, net, precision, output_bits)
    assert cycles.dtype == np.int64 and cycles.tolist() == by_hand
    assert total_cycles(table, net, precision, output_bits) == sum(by_hand)


@pytest.mark.parametrize("output_bits", [8, "site"])
def test_batched_scores_equal_one_by_one(net, table, output_bits):
  rows = assignments(net, 200)
  costs = flat_costs(table, net, output_bits)
  codes = encode(net, rows, net.free_sites, output_bits)
  assert codes.dtype == np.uint8 and codes.shape == (200, 6)
  totals = score(costs, codes)
  assert totals.dtype == np.int64
  for row, total in zip(rows, totals, strict=True):
    precision = dict(zip(net.free_sites, row.tolist(), strict=True))
    assert total == total_cycles(table, net, precision, output_bits)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 70), st.data())
def test_scores_are_exact_at_the_extremes(layers, candidates, data):
  """Sums near the end of int64, where float64 would round."""
  top = (2**63 - 1) // layers
  seed = data.draw(st.integers(0, 2**32 - 1))
  random = np.random.default_rng(seed)
  costs = random.integers(top - 1000, top, (layers, 9), endpoint=True)
  codes = random.integers(0, 9, (candidates, layers), dtype=np.uint8)
  expected = [
    sum(int(costs[i, code]) for i, code in enumerate(row)) for row in codes
  ]
  assert score(costs, codes).tolist() == expected


def test_encode_names_what_is_wrong(net):
  rows = assignments(net, 2)
  with pytest.raises(ValueError, match="expected \\[P, 8\\]"):
    encode(net, rows[:, 1:], net.free_sites)
  with pytest.raises(ValueError, match="no bits for sites \\['a.weight'\\]"):
    encode(net, rows[:, 1:], net.free_sites[1:])
  wrong = rows.copy()
  wrong[1, 0] = 6
  with pytest.raises(ValueError, match="'a.weight'.*6 bits, expected one of"):
    encode(net, wrong, net.free_sites)
  with pytest.raises(ValueError, match="'image' is fixed at 8"):
    encode(net, np.full((1, len(net.sites)), 4))
  with pytest.raises(ValueError, match="output bits: 16 bits"):
    encode(net, rows, net.free_sites, output_bits=16)


def test_costs_and_codes_must_belong_together(net, table):
  codes = encode(net, assignments(net), net.free_sites, "site")
  with pytest.raises(ValueError, match="same output_bits"):
    score(flat_costs(table, net), codes)
  with pytest.raises(ValueError, match="expected \\[P, 6\\]"):
    score(flat_costs(table, net), codes[:, 1:])
  with pytest.raises(ValueError, match="other layers than workload"):
    flat_costs(table, chain("other", net.layers[:2]))


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_files_keep_everything(net, table, tmp_path, kind):
  path = tmp_path / f"table.{kind}"
  latency_io.save(table, path)
  again = latency_io.load(path, net)
  np.testing.assert_array_equal(again.cycles, table.cycles)
  assert again.target == table.target == "xpulpnn_v1"
  assert again.provenance == table.provenance
  # Equal layers share rows: conv 27, depthwise 27, add 9, pool 9, linear 9.
  assert len(list(latency_io._read(path))) == 27 + 27 + 9 + 9 + 9
  assert list(tmp_path.iterdir()) == [path]


def edited(table, tmp_path, edit):
  """A saved table whose rows went through `edit`."""
  path = tmp_path / "table.csv"
  latency_io.save(table, path)
  with path.open(newline="") as file:
    rows = list(csv.DictReader(file))
  rows = edit(rows) or rows
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, rows[0])
    writer.writeheader()
    writer.writerows(rows)
  return path


def put(row, **values):
  return lambda rows: rows[row].update(values)


@pytest.mark.parametrize(
  "edit, message",
  [
    (
      lambda rows: rows[:30] + rows[31:],
      "layer 'b' is missing: no row at .*bits ",
    ),
    (lambda rows: [*rows, rows[4]], "line 83: same layer .* line 6"),
    (put(2, latency_cycles="-5"), "line 4: latency_cycles is '-5'"),
    (put(2, latency_cycles="nan"), "line 4: latency_cycles is 'nan'"),
    (put(2, latency_cycles="inf"), "line 4: latency_cycles is 'inf'"),
    (put(2, latency_cycles="12.5"), "line 4: latency_cycles is '12.5'"),
    (put(2, latency_cycles=""), "line 4: no value for \\['latency_cycles'\\]"),
    (put(0, kernel_height="11"), "line 2: wrong geometry: .*kernel height 11"),
    (put(0, op="convolution"), "line 2: wrong geometry: .*'convolution'"),
    (put(0, in_bits="3"), "line 2: in_bits is 3, expected one of"),
    (put(0, weight_bits="-"), "line 2: weight_bits is '-'"),
    (put(7, target="mine"), "line 9: target 'mine', but .*line 2"),
  ],
)
def test_bad_rows_are_refused_with_their_line(
  net, table, tmp_path, edit, message
):
  with pytest.raises(ValueError, match=message):
    latency_io.load(edited(table, tmp_path, edit), net)


def test_other_files_are_refused(net, tmp_path):
  with pytest.raises(ValueError, match="expected a name that ends in .csv"):
    latency_io.load(tmp_path / "table.txt", net)
  path = tmp_path / "table.json"
  path.write_text("{")
  with pytest.raises(ValueError, match="table.json: no JSON"):
    latency_io.load(path, net)
  path.write_text("[3]")
  with pytest.raises(ValueError, match="line 2: expected a row, got 3"):
    latency_io.load(path, net)
  path.write_text(json.dumps([{"op": "conv"}]))
  with pytest.raises(ValueError, match="line 2: no value for"):
    latency_io.load(path, net)


def test_measured_layers_replace_simulated_ones(net, table, tmp_path):
  def measure(rows):
    measured = [row for row in rows if row["op"] == "depthwise"]
    for row in measured:
      row.update(
        latency_cycles=2 * int(row["latency_cycles"]), provenance="measured"
      )
    return measured

  merged = latency_io.merge(table, edited(table, tmp_path, measure))
  factor = np.ones(6, np.int64)
  factor[1:3] = 2  # both depthwise layers have that geometry
  np.testing.assert_array_equal(
    merged.cycles, table.cycles * factor[:, None, None, None]
  )
  assert merged.provenance[:3] == ("simulated", "measured", "measured")
  # A merged table is a table: it survives a file.
  latency_io.save(merged, tmp_path / "merged.json")
  again = latency_io.load(tmp_path / "merged.json", net)
  assert again.provenance == merged.provenance


def test_one_measured_output_width_is_enough(net, table, tmp_path):
  """The published setting: boards are profiled with 8-bit outputs only."""

  def measure(rows):
    measured = [row for row in rows if row["out_bits"] in ("8", "32")]
    for row in measured:
      row.update(
        latency_cycles=3 * int(row["latency_cycles"]), provenance="measured"
      )
    return measured

  path = edited(table, tmp_path, measure)
  with pytest.raises(
    ValueError, match="'a' is missing: no row .*\\(2, 2, 2\\)"
  ):
    latency_io.load(path, net)
  loaded = latency_io.load(path, net, output_bits=8)
  expected = 3 * table.for_output_bits(8)
  for bits in BITS:
    np.testing.assert_array_equal(loaded.for_output_bits(bits), expected)
  assert loaded.provenance == ("measured",) * 6
  merged = latency_io.merge(table, path, output_bits=8)
  np.testing.assert_array_equal(merged.for_output_bits(8), expected)
  np.testing.assert_array_equal(
    merged.cycles[:5, ..., :2], table.cycles[:5, ..., :2]
  )
  assert merged.provenance == ("measured/simulated",) * 5 + ("measured",)
  with pytest.raises(ValueError, match="output_bits is 16, expected"):
    latency_io.load(path, net, output_bits=16)


def test_a_layer_may_be_measured_at_some_precisions(net, table, tmp_path):
  def measure(rows):
    measured = [row for row in rows if row["in_bits"] == "4"][3:]
    for row in measured:
      row.update(latency_cycles=7, provenance="measured")
    return measured

  merged = latency_io.merge(table, edited(table, tmp_path, measure))
  expected = table.cycles.copy()
  expected[:, 1] = 7
  expected[0, 1, 0] = table.cycles[0, 1, 0]  # the three rows left out
  np.testing.assert_array_equal(merged.cycles, expected)
  assert merged.provenance == ("measured/simulated",) * 6
  # At one width of outputs, only rows of that width count.
  path = edited(
    table,
    tmp_path,
    lambda rows: [row for row in rows if row["out_bits"] == "4"],
  )
  with pytest.raises(ValueError, match="layer 'a' has no row at 8 output bits"):
    latency_io.merge(table, path, output_bits=8)


def test_a_board_of_its_own_is_a_target(net, tmp_path):
  """No target is simulated: the file names it, and has every layer."""
  path = tmp_path / "board.csv"
  latency_io.save(latency_io.blank(net, "my board"), path)
  with pytest.raises(ValueError, match="line 2: latency_cycles is '0', .* 1 "):
    latency_io.load(path, net)
  path.write_text(path.read_text().replace(",0,measured", ",12,measured"))
  table = latency_io.load(path, net, output_bits=8)
  assert table.target == "my board" and (table.cycles == 12).all()
  assert table.provenance == ("measured",) * 6
  bits = dict.fromkeys(net.free_sites, 4)
  assert total_cycles(table, net, bits) == 6 * 12


def test_merging_refuses_strangers(net, table, tmp_path):
  path = edited(table, tmp_path, put(0, out_channels="7"))
  with pytest.raises(ValueError, match="line 2: wrong geometry: no layer"):
    latency_io.merge(table, path)


def test_tables_check_themselves(net, table):
  def replaced(**fields):
    return dataclasses.replace(table, **fields)

  with pytest.raises(ValueError, match="float64.*expected int64"):
    replaced(cycles=table.cycles.astype(float))
  with pytest.raises(ValueError, match="'c' has -1 cycles"):
    cycles = table.cycles.copy()
    cycles[2, 0, 0, 0] = -1
    replaced(cycles=cycles)
  with pytest.raises(ValueError, match="'pool' has no tensor for axis W"):
    cycles = table.cycles.copy()
    cycles[4, 0, 1, 0] += 1
    replaced(cycles=cycles)
  with pytest.raises(ValueError, match="'fc' has no tensor for axis O"):
    replaced(cycles=table.cycles + np.arange(3))
  with pytest.raises(ValueError, match="provenance has 1 entries"):
    replaced(provenance=("measured",))
  with pytest.raises(ValueError, match="read-only"):
    table.cycles[0] = 0
  assert isinstance(replaced(target="mine"), LatencyTable)


def test_unknown_targets_and_unfit_layers_are_named():
  with pytest.raises(ValueError, match="'cortex_m4'.*'xpulp_v2', 'xpulpnn_v1'"):
    get_target("cortex_m4")
  wide = Layer("wide", "conv", 512, 512, 14, 14, 3, 3, 1, (1, 1, 1, 1))
  with pytest.raises(ValueError, match="layer 'wide'.*fits no tile.*l1_bytes"):
    latency_table(chain("net", [wide]), XPULPNN_V1)
  with pytest.raises(ValueError, match="layer 'sum'.*352000 bytes of L2"):
    latency_table(
      chain("net", [Layer("sum", "add", 64, 64, 80, 80)]), XPULPNN_V1
    )


def test_published_setting_is_a_view(table):
  assert table.for_output_bits(8).shape == (6, 3, 3)
  assert np.shares_memory(table.for_output_bits(8), table.cycles)
  np.testing.assert_array_equal(table.for_output_bits(2), table.cycles[..., 0])


def test_mobilenet_has_a_whole_table():
  net = mobilenet_v1()
  table = latency_table(net, XPULPNN_V1)
  assert table.cycles.shape == (28, 3, 3, 3) and (table.cycles > 0).all()


def test_merging_refuses_another_target(net, table, tmp_path):
  path = tmp_path / "other.csv"
  latency_io.save(latency_table(net, get_target("xpulp_v2")), path)
  with pytest.raises(
    ValueError, match="target 'xpulp_v2', the table is of 'xpulpnn_v1'"
  ):
    latency_io.merge(table, path)
