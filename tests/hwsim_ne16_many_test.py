"""NE16 on many targets: equal to one at a time; what assumptions are worth."""

import dataclasses
import json

import numpy as np
import pytest
from hwsim_networks import chain

from hwsim import ne16, pulp
from hwsim.interval import latency
from hwsim.latency_table import total_cycles
from hwsim.ne16 import GAP9_NE16, doubt, many
from hwsim.workload import Layer

SAME = (1, 1, 1, 1)
NET = chain(
  "net",
  [
    Layer("c", "conv", 3, 32, 40, 40, 3, 3, 2, SAME),
    Layer("d", "depthwise", 32, 32, 20, 20, 3, 3, 1, SAME),
    Layer("p", "conv", 32, 100, 20, 20),
    Layer("big", "conv", 512, 512, 7, 7, 3, 3, 1, SAME),  # weights from L3
    Layer("pool", "avg_pool", 512, 512, 7, 7, 7, 7),
    Layer("fc", "linear", 512, 10),
  ],
)


def targets():
  """More than a chunk of the cores', which cut layers in many ways."""
  return [
    dataclasses.replace(
      GAP9_NE16,
      name=str(i),
      engine="analytic" if i % 5 == 4 else "state machine",
      norm_bits=(8, 16, 32)[i % 3],
      l1_bytes=(128_000, 64_000, 40_000, 90_000)[i % 4],
      l2_bytes=(1_500_000, 1_000_000)[i % 2],
      dma_bytes_per_cycle=4 + i % 5,
      dma_command_cycles=i,
      tile_cycles=100 * i,
      job_setup_cycles=50 * i,
    )
    for i in range(19)
  ]


def test_many_targets_equal_one_at_a_time():
  given = targets()
  found = many.latency_tables(NET, many.stack(given))
  assert found.cycles.shape == (19, 6, 1, 7, 1)
  runs = 0
  for i, target in enumerate(given):
    try:
      table = ne16.latency_table(NET, target)
    except ValueError as error:
      [name] = [x.name for x in NET.layers if f"{x.name!r}" in str(error)]
      assert not found.fits[i, [x.name for x in NET.layers].index(name)]
      continue
    assert found.fits[i].all()
    np.testing.assert_array_equal(found.cycles[i], table.cycles)
    runs += 1
  assert 0 < runs < len(given)


def test_what_cannot_run_is_told_by_name():
  from hwsim.workload import Workload

  scale = Workload(
    "s", (Layer("s", "scale", 4, 4),), ((-1,),), (("x",),), ("y",)
  )
  with pytest.raises(ValueError, match="'s'.*no scale"):
    many.latency_tables(scale, many.stack([GAP9_NE16]))


# ---- What is assumed


def test_draws_lie_in_their_ranges_and_give_the_target_at_its_own_values():
  constants, values = doubt.draws(GAP9_NE16, 200, seed=1)
  given = {each.name: each for each in doubt.assumptions(GAP9_NE16)}
  assert values.keys() == given.keys()
  for name, drawn in values.items():
    each = given[name]
    assert each.low <= each.center <= each.high and each.source
    assert each.low <= drawn.min() and drawn.max() <= each.high
  np.testing.assert_array_equal(constants.tile_cycles, values["tile_cycles"])
  np.testing.assert_array_equal(
    constants.cores.tile_cycles, values["tile_cycles"]
  )

  own = {
    name: np.full((1, each.size) if each.size > 1 else 1, each.center)
    for name, each in given.items()
  }
  for found, expected in zip(
    many.latency_tables(NET, doubt.stacked(GAP9_NE16, own)),
    many.latency_tables(NET, many.stack([GAP9_NE16])),
    strict=True,
  ):
    np.testing.assert_array_equal(found, expected)


def at_ends(name, workload):
  """Cycles [2, L, W] at the low and the high end of one assumption."""
  ends = doubt.ends(GAP9_NE16)[name]
  return many.latency_tables(workload, ends).cycles[:, :, 0, :, 0]


def test_each_assumption_moves_what_it_is_about():
  """One tile, counted by hand in hwsim_ne16_test: compute 218 at 5 bits."""
  layer = Layer("l", "conv", 16, 32, 3, 3, 3, 3, 1, SAME)
  one = chain("one", [layer, Layer("pool", "avg_pool", 32, 32, 3, 3, 3, 3)])
  own = ne16.latency_table(one, GAP9_NE16).cycles[:, 0, :, 0]
  at_5 = own[0, 3]
  assert at_5 == 1400 + 217 + 30 + 392 + 48

  # From a register file that the job hides to one that it does not
  low, high = at_ends("job_setup_cycles", one)[:, 0, 3]
  assert (low, high) == (at_5, at_5 - 217 + 468)
  low, high = at_ends("jobs of each mode, times", one)[:, 0, 3]
  assert (low, high) == (at_5, at_5 - 217 + round(1.26 * 217))

  # Input and output, 30 and 48 cycles with their commands, stay in L1
  low, high = at_ends("input and output kept in L1, share", one)[:, 0, 3]
  assert (low, high) == (at_5, at_5 - 78)
  low, high = at_ends("dma_command_cycles", one)[:, 0, 3]
  assert (low, high) == (at_5 - 3 * 9, at_5 + 3 * 358)

  # The pool runs on the cores, the job at stride 1
  pool = pulp.simulate(one.layers[1], 8, 8, 32, GAP9_NE16.cores).total
  found = at_ends("what the cores run, times", one)
  assert found[:, 1, 0].tolist() == [round(pool / 2), round(1.1 * pool)]
  np.testing.assert_array_equal(found[:, 0], [own[0]] * 2)
  assert (at_ends("jobs at stride 2, times", one) == own).all()


def test_jobs_at_stride_2_take_down_to_half():
  layer = Layer("l", "conv", 16, 32, 6, 6, 3, 3, 2, SAME)
  two = chain("two", [layer, Layer("fc", "linear", 288, 10)])
  own = ne16.simulate(layer, 8, 8, 8, GAP9_NE16)
  low, high = at_ends("jobs at stride 2, times", two)[:, 0, 6]
  assert high == own.total
  assert low == own.total - own.compute + round(own.compute / 2)


def test_linear_jobs_have_a_range_of_their_own():
  layer = Layer("fc", "linear", 288, 10)
  net = chain("linear", [layer])
  own = ne16.simulate(layer, 8, 8, 32, GAP9_NE16)
  low, high = at_ends("jobs of linear layers, times", net)[:, 0, 6]
  assert low == own.total
  assert high == own.total - own.compute + round(3.5 * own.compute)
  others = at_ends("jobs of each mode, times", net)[:, 0, 6]
  assert others.tolist() == [own.total] * 2


@pytest.mark.parametrize("size", [14_000, 28_000, 64_000, 128_000])
def test_no_draw_has_more_l1_than_there_is(size):
  target = dataclasses.replace(GAP9_NE16, l1_bytes=size)
  given = {each.name: each for each in doubt.assumptions(target)}
  each = given["l1_budget_bytes"]
  assert 0 < each.low <= target.l1_budget_bytes <= each.high < size
  if size == 128_000:
    assert (each.low, each.high) == (90_000, 119_808)


def test_the_analytic_engine_has_no_ranges():
  analytic = dataclasses.replace(GAP9_NE16, engine="analytic")
  with pytest.raises(ValueError, match="'analytic' engine, expected 'state"):
    doubt.assumptions(analytic)


def test_latency_is_told_with_its_interval():
  bits = {site: 4 if site.endswith(".weight") else 8 for site in NET.free_sites}
  found = latency(NET, bits, GAP9_NE16, draws=20, share=0.8, seed=3)
  table = ne16.latency_table(NET, GAP9_NE16)
  assert found.central == total_cycles(table, NET, bits)
  constants, _ = doubt.draws(GAP9_NE16, 20, 3)
  each = sorted(
    total_cycles(dataclasses.replace(table, cycles=one), NET, bits)
    for one in many.latency_tables(NET, constants).cycles
  )
  assert (found.low, found.median, found.high) == (each[1], each[9], each[17])
  json.dumps(found._asdict())
