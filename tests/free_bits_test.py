"""The Free Bits pass on random tables and networks, and as published."""

import dataclasses
import itertools

import hwsim_networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import random_table, workloads

from fbq.search import exact
from fbq.search import problem as problem_lib
from fbq.search.free_bits import Raise, free_bits
from hwsim.latency_table import BITS, LatencyTable, total_cycles
from hwsim.pulp import XPULPNN_V1, latency_table
from hwsim.workload import Layer, Workload


@st.composite
def problems(draw, most_free=None):
  """(workload, cycles [L, A, W], assignment); few values make many ties."""
  workload = draw(workloads(most_free))
  most = draw(st.sampled_from([1, 3, 10**6]))
  shape = (len(workload.layers), 3, 3)
  seed = draw(st.integers(0, 2**32 - 1))
  cycles = np.random.default_rng(seed).integers(0, most, shape, endpoint=True)
  for i, layer in enumerate(workload.layers):
    if not layer.has_weights:
      cycles[i] = cycles[i][:, :1]
  given_bits = dict(workload.fixed_bits)
  return (
    workload,
    cycles,
    {
      site: given_bits.get(site) or draw(st.sampled_from(BITS))
      for site in workload.sites
    },
  )


def total(workload, cycles, precision):
  """Cycles by `hwsim`, which shares no code with the pass."""
  table = LatencyTable(
    "random",
    workload.layers,
    tuple(site is not None for site in workload.output_sites),
    np.repeat(cycles[..., None], 3, axis=-1),
    ("simulated",) * len(workload.layers),
  )
  return total_cycles(table, workload, precision)


@settings(max_examples=300, deadline=None)
@given(problems())
def test_pass_saves_what_it_says_and_lowers_nothing(problem):
  workload, cycles, start = problem
  raised, changes = free_bits(workload, cycles, start)
  before, after = (total(workload, cycles, p) for p in (start, raised))
  assert after <= before
  assert before - after == sum(
    c.cycles_before - c.cycles_after for c in changes
  )
  assert raised.keys() == start.keys()
  assert all(raised[site] >= start[site] for site in start)
  assert all(raised[site] == bits for site, bits in workload.fixed_bits)
  # What is reported is what is different, in the order of the layers.
  assert (raised != start) == bool(changes)
  order = [workload.index[change.layer] for change in changes]
  assert order == sorted(set(order))
  told = dict(start)
  for change in changes:
    layer = workload.layers[workload.index[change.layer]]
    assert change.before[0] == start[change.site]
    told[change.site] = change.after[0]
    if layer.has_weights:
      assert change.before[1] == start[f"{layer.name}.weight"]
      told[f"{layer.name}.weight"] = change.after[1]
    else:
      assert change.before[1] is change.after[1] is None
    writes = workload.output_sites[workload.index[change.layer]]
    assert change.before[2] == (start[writes] if writes else None)
    assert change.after[2] == (raised[writes] if writes else None)
  assert told == raised
  if not changes:
    assert after == before
  assert free_bits(workload, cycles, raised) == (raised, [])


@settings(max_examples=150, deadline=None)
@given(problems(most_free=8))
def test_pass_finds_the_least_latency_of_all_assignments_above(problem):
  workload, cycles, start = problem
  raised, _ = free_bits(workload, cycles, start)
  best, level = None, {bits: i for i, bits in enumerate(BITS)}
  optima = []
  choices = [
    [bits for bits in BITS if bits >= start[site]]
    if site in workload.free_sites
    else [start[site]]
    for site in workload.sites
  ]
  for bits in itertools.product(*choices):
    p = dict(zip(workload.sites, bits, strict=True))
    cost = sum(
      cycles[i][level[p[reads[0]]], level[p.get(f"{layer.name}.weight", 8)]]
      for i, (layer, reads) in enumerate(
        zip(workload.layers, workload.input_sites, strict=True)
      )
    )
    if best is None or cost < best:
      best, optima = cost, []
    if cost == best:
      optima.append(p)
  assert total(workload, cycles, raised) == best
  assert raised in optima
  assert_ties(workload, start, raised, optima)


def assert_ties(workload, start, raised, optima):
  """A tensor keeps its bits where that is fastest too, else takes the most."""
  weights = {}  # activation site -> weights of its readers
  for layer, reads in zip(workload.layers, workload.input_sites, strict=True):
    own = [f"{layer.name}.weight"] if layer.has_weights else []
    weights[reads[0]] = weights.get(reads[0], []) + own
  for site, group in weights.items():
    assert raised[site] == expected(site, start, optima)
    peers = [p for p in optima if p[site] == raised[site]]
    for weight in group:
      assert raised[weight] == expected(weight, start, peers)


def expected(site, start, optima):
  bits = {p[site] for p in optima}
  return start[site] if start[site] in bits else max(bits)


def chain_of_two():
  return hwsim_networks.chain(
    "two", [Layer("first", "conv", 1, 1), Layer("second", "linear", 1, 1)]
  )


def test_a_drawn_example():
  #  activations of second: 2 bits     4 bits     8 bits
  #  weights              2  4  8    2  4  8    2  4  8
  cycles = np.array(
    [
      [[0, 0, 0], [0, 0, 0], [50, 60, 50]],  # first reads the 8-bit image
      [[9, 9, 9], [9, 5, 4], [9, 4, 7]],
    ]
  )
  start = {
    "image.out": 8,
    "first.weight": 2,
    "first.out": 2,
    "second.weight": 2,
  }
  raised, changes = free_bits(chain_of_two(), cycles, start)
  # 8-bit weights of first are no faster than 2-bit ones: nothing changes. Of
  # the two ways to 4 cycles the one with more activation bits wins.
  assert raised == start | {"first.out": 8, "second.weight": 4}
  assert changes == [
    Raise("second", "first.out", (2, 2, None), (8, 4, None), 9, 4)
  ]


def test_nothing_changes_where_all_are_as_fast():
  start = {
    "image.out": 8,
    "first.weight": 2,
    "first.out": 4,
    "second.weight": 2,
  }
  assert free_bits(chain_of_two(), np.ones((2, 3, 3), int), start) == (
    start,
    [],
  )


def test_readers_of_one_tensor_decide_together():
  """Each alone would take another precision; the sum decides."""
  layers = tuple(Layer(name, "linear", 1, 1) for name in ("a", "b", "c"))
  sites = (("image.out",), ("a.out",), ("a.out",))
  workload = Workload(
    "fork",
    layers,
    ((-1,), (0,), (0,)),
    sites,
    ("a.out", "b.out", None),
    (("image.out", 8),),
  )
  cycles = np.zeros((3, 3, 3), int)
  cycles[1] = np.array([10, 1, 8])[:, None]  # b alone would take 4 bits
  cycles[2] = np.array([10, 12, 4])[:, None]  # c alone would take 8
  start = dict.fromkeys(workload.sites, 2) | {"image.out": 8}
  raised, changes = free_bits(workload, cycles, start)
  assert raised["a.out"] == 8  # 12 cycles; at 4 bits 13, at 2 bits 20
  assert raised["b.weight"] == raised["c.weight"] == 2  # nothing gained
  assert [c.layer for c in changes] == ["b", "c"]


def test_published_reductions():
  """MobileNetV1-0.75-224 on XPulpNNv1: -32.3 % and -37.1 % of 8/8 (slides).

  Published uniform assignments keep the image at 8 bits and time outputs at 8.
  """
  workload = hwsim_networks.mobilenet_v1()
  table = latency_table(workload, XPULPNN_V1)

  def uniform(bits):
    fixed = dict(workload.fixed_bits)
    return {site: fixed.get(site, bits) for site in workload.sites}

  eight, four = (total_cycles(table, workload, uniform(b)) for b in (8, 4))
  cycles = table.for_output_bits(8)
  raised, changes = free_bits(workload, cycles, uniform(4))
  free = total_cycles(table, workload, raised)
  assert four / eight - 1 == pytest.approx(-0.323, abs=0.05)
  assert free / eight - 1 == pytest.approx(-0.371, abs=0.05)
  # Layer by layer, as the authors look at it (docs/facts/pulp.md 6).
  alone = cycles[1:, 1:, 1:].min(axis=(1, 2)).sum() + cycles[0, 2, 1:].min()
  assert free == alone
  assert changes and all(c.cycles_after < c.cycles_before for c in changes)


def test_a_fixed_weight_and_one_that_gains_nothing_stay():
  net = hwsim_networks.chain(
    "two", [Layer("first", "conv", 1, 1), Layer("second", "linear", 1, 1)]
  )
  faster_with_8 = [[9, 9, 1]] * 3
  start = dict.fromkeys(("first.weight", "second.weight", "first.out"), 2)
  start["image.out"] = 8
  cycles = np.array([faster_with_8, [[5, 5, 5]] * 3])
  raised, _ = free_bits(net, cycles, start)
  assert raised == start | {"first.weight": 8}
  fixed = dataclasses.replace(
    net, fixed_bits=(*net.fixed_bits, ("first.weight", 2))
  )
  assert free_bits(fixed, cycles, start) == (start, [])


# ---- Outputs at the bits of their readers


@st.composite
def coupled(draw, most_free=None):
  """(workload, table by output bits too, assignment)."""
  workload = draw(workloads(most_free))
  seed = draw(st.integers(0, 2**32 - 1))
  table = random_table(workload, seed, draw(st.sampled_from([1, 3, 10**6])))
  bits = np.random.default_rng(seed).choice(BITS, len(workload.sites))
  start = dict(zip(workload.sites, bits.tolist(), strict=True))
  return workload, table, start | dict(workload.fixed_bits)


@settings(max_examples=100, deadline=None)
@given(coupled(most_free=8))
def test_no_tensor_with_its_readers_weights_is_left_to_raise(case):
  """Every such raise of what the pass ends at, tried by `hwsim`'s sum."""
  workload, table, start = case
  raised, changes = free_bits(workload, table.cycles, start)
  before, after = (
    total_cycles(table, workload, p, "site") for p in (start, raised)
  )
  saved = sum(c.cycles_before - c.cycles_after for c in changes)
  assert before - after == saved >= 0
  assert (raised != start) == (saved > 0)
  assert all(raised[site] >= start[site] for site in start)
  assert all(raised[site] == bits for site, bits in workload.fixed_bits)
  for site in {s for reads in workload.input_sites for s in reads}:
    moved = [site] + [
      f"{layer.name}.weight"
      for layer, reads in zip(
        workload.layers, workload.input_sites, strict=True
      )
      if site in reads and layer.has_weights
    ]
    above = [
      [b for b in BITS if b >= raised[s]]
      if s in workload.free_sites
      else [raised[s]]
      for s in moved
    ]
    for bits in itertools.product(*above):
      other = raised | dict(zip(moved, bits, strict=True))
      assert total_cycles(table, workload, other, "site") >= after
  problem = problem_lib.make(workload, {"cycles": table.cycles})
  assert exact.distance(problem, table.cycles, start)[:2] == (before, after)


@settings(max_examples=60, deadline=None)
@given(coupled())
def test_outputs_of_8_bits_are_the_pass_of_one_look(case):
  workload, table, start = case
  seen = table.for_output_bits(8)
  alike = np.repeat(seen[..., None], 3, axis=-1)
  assert free_bits(workload, alike, start) == free_bits(workload, seen, start)


def two_by_output(first, second):
  """Cycles [2, A, W, O] of two layers: by output, by input and output."""
  cycles = np.zeros((2, 3, 3, 3), int)
  cycles[0] = first
  cycles[1] = np.array(second)[:, None, None]
  return cycles


def test_a_raise_must_pay_for_the_layer_that_writes_the_tensor():
  start = dict.fromkeys(chain_of_two().sites, 2) | {"image.out": 8}
  # At 8 bits the reader saves 5 and the writer pays 9, or 4.
  dear = two_by_output([10, 10, 19], [10, 10, 5])
  assert free_bits(chain_of_two(), dear, start) == (start, [])
  cheap = two_by_output([10, 10, 14], [10, 10, 5])
  raised, changes = free_bits(chain_of_two(), cheap, start)
  assert raised == start | {"first.out": 8}
  # The writer is told too: it got slower.
  assert changes == [
    Raise("first", "image.out", (8, 2, 2), (8, 2, 8), 10, 14),
    Raise("second", "first.out", (2, 2, None), (8, 2, None), 10, 5),
  ]


def test_a_second_look_finds_what_the_first_made_worth_while():
  """8-bit b.out makes 8-bit a.out pay, which was looked at before it."""
  net = hwsim_networks.chain(
    "three", [Layer(name, "linear", 1, 1) for name in "abc"]
  )
  cycles = np.full((3, 3, 3, 3), 10)
  cycles[0, :, :, 2] = 12  # a writes 8 bits for 2 cycles more
  cycles[1, 2, :, 2] = 5  # b saves 5 with 8 bits on both sides only
  cycles[2, 2] = 7  # c saves 3 with 8 bits
  start = dict.fromkeys(net.sites, 2) | {"image.out": 8}
  raised, _ = free_bits(net, cycles, start)
  assert raised == start | {"a.out": 8, "b.out": 8}
  # Were c no faster, only both raises together would pay: 30 to 27 cycles.
  cycles[2, 2] = 10
  assert free_bits(net, cycles, start) == (start, [])
  problem = problem_lib.make(net, {"cycles": cycles})
  assert exact.distance(problem, cycles, start) == (30, 30, 27)
