"""Least data movement, against golden optima and every tile and order."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hwsim_bfp_problems import problems
from hwsim_networks import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.bfp.formats import bitq_grid
from hwsim.bfp.movement import (
  LOOPS,
  ORDERS,
  Nest,
  compulsory,
  footprints,
  volumes,
)
from hwsim.bfp.nondominated import nondominated
from hwsim.bfp.sweep import least_movement
from hwsim.bfp.tiling import (
  best_tiling,
  candidates,
  critical_sizes,
  exact_dtype,
  search_tiling,
  tiling_table,
)

GOLDEN = golden("bitq_golden.json")
NESTS = {
  row["layer"]: Nest(g=1, **row["shape"]) for row in GOLDEN["single_level"]
}


def prices(values):
  return [Fraction(value) for value in values]


def by_brute_force(nest, price, memory_bits, out_moves=2):
  """Over all tiles of one group and all eight orders, in exact fractions."""
  sizes = [range(1, 2), *(range(1, size + 1) for size in nest.sizes[1:])]
  tiles = np.array(list(itertools.product(*sizes)))
  exact = np.array(price, object)
  tiles = tiles[footprints(nest, tiles).astype(object) @ exact <= memory_bits]
  least = []
  for order in ORDERS:
    moved = volumes(nest, tiles, order).astype(object) * (1, 1, out_moves)
    least.append((moved @ exact).min())
  return min(least)


def test_every_golden_optimum_is_equal():
  rows = GOLDEN["single_level"]
  assert len(rows) == 157
  for row in rows:
    nest = NESTS[row["layer"]]
    problem = nest, prices(row["q"]), row["MC_KB"] * 8192
    found = best_tiling(*problem)
    assert found.bits == Fraction(row["exact_DM_bits"]), row
    assert found.bits <= row.get("ipopt_floor_DM", found.bits), row


def test_outputs_that_move_once_are_those_of_zigzag():
  """ZigZag tiles by prime factors: at best equal; one layer is."""
  for row in GOLDEN["zigzag"]:
    found = best_tiling(
      NESTS[row["layer"]], prices((16, 16, 16)), row["MC_KB"] * 8192, 1
    )
    assert found.bits == row["exact_oc1"] <= row["zigzag_dram_bits"]
  assert GOLDEN["zigzag"][0]["exact_oc1"] == 2_252_800


@settings(max_examples=40, deadline=None)
@given(problems())
def test_table_finds_the_optimum_of_all_tiles(problem):
  found = best_tiling(*problem)
  assert found.bits == by_brute_force(*problem)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_search_without_a_table_finds_the_same(problem):
  assert search_tiling(*problem).bits == best_tiling(*problem).bits


@settings(max_examples=40, deadline=None)
@given(problems())
def test_a_tiling_is_what_it_says(problem):
  nest, price, memory_bits = problem
  found = best_tiling(*problem)
  tile = np.array(found.tile)
  moved = volumes(nest, tile, found.order).tolist()
  assert list(found.moved) == moved
  assert found.bits == sum(
    n * p for n, p in zip((*moved[:2], 2 * moved[2]), price, strict=True)
  )
  held = footprints(nest, tile).tolist()
  assert found.held_bits == sum(n * p for n, p in zip(held, price, strict=True))
  assert found.held_bits <= memory_bits


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(0, 3), st.fractions(1, 2, max_denominator=8))
def test_movement_grows_with_prices_and_falls_with_memory(problem, t, factor):
  nest, price, memory_bits = problem
  before = best_tiling(*problem).bits
  assert best_tiling(nest, price, 2 * memory_bits).bits <= before
  if t < 3:
    price = [p * factor if u == t else p for u, p in enumerate(price)]
    room = sum(price) <= memory_bits
    assert not room or best_tiling(nest, price, memory_bits).bits >= before


@settings(max_examples=30, deadline=None)
@given(problems(), st.data())
def test_sweep_equals_search_one_by_one(problem, data):
  nest, price, memory_bits = problem
  step = st.lists(st.fractions(0, 1, max_denominator=16), min_size=1)
  axes = [[p - d * p / 2 for d in data.draw(step)] for p in price]
  swept, unit = least_movement(nest, *axes, memory_bits)
  assert swept.shape == tuple(map(len, axes))
  for place in itertools.islice(np.ndindex(swept.shape), 50):
    one = [axis[i] for axis, i in zip(axes, place, strict=True)]
    assert (
      Fraction(int(swept[place]), unit)
      == best_tiling(nest, one, memory_bits).bits
    )


@pytest.mark.parametrize("kilobytes", [16, 32, 128])
@pytest.mark.parametrize("name", ["l2c1", "l4ds"])
def test_sweep_of_the_paper_grid_is_exact(name, kilobytes):
  nest, grid = NESTS[name], bitq_grid(16)
  share = lambda f, area: Fraction(f.exponent_bits, f.block_size * area)
  activation = [f.element_bits + share(f, 1) for f in grid]
  weight = [f.element_bits + share(f, nest.r * nest.s) for f in grid]
  memory_bits = kilobytes * 8192
  swept, unit = least_movement(
    nest, activation, weight, activation, memory_bits
  )
  random = np.random.default_rng(0)
  for i, w, o in random.integers(0, len(grid), (40, 3)):
    one = (activation[i], weight[w], activation[o])
    assert (
      Fraction(int(swept[i, w, o]), unit)
      == best_tiling(nest, one, memory_bits).bits
    )


def test_a_tie_of_memory_is_decided_exactly():
  """Tiles that need the memory to the last bit fit; with one bit less, not."""
  nest = Nest(1, 1, 3, 4, 5, 5, 3, 3)
  # Whole bits only after multiplying by 432; thirds that no float holds.
  price = [Fraction(9) + Fraction(7, 48), Fraction(9) + Fraction(7, 432), 10]
  table = tiling_table(nest)
  cover = (table.moved == compulsory(nest)).all(1)
  held = table.held[cover].astype(object) @ np.array(price, object)
  scaled_up = [p * 432 for p in price]
  memory_bits = int(min(held) * 432)
  assert memory_bits == min(held) * 432
  fits = best_tiling(nest, scaled_up, memory_bits)
  assert fits.moved == tuple(compulsory(nest))
  assert fits.held_bits == memory_bits
  assert best_tiling(nest, scaled_up, memory_bits - 1).bits > fits.bits
  axes = [[p + 1, p, p - 1] for p in scaled_up]
  for less in (0, 1):
    swept, _ = least_movement(nest, *axes, memory_bits - less)
    assert (swept[1, 1, 1] == fits.bits) == (less == 0)


@pytest.mark.parametrize(
  "nest, price, memory_bits, bits",
  [
    (Nest(1, 1, 1, 6, 5, 3, 6, 4, stride=2), (4, 5, 11), 492, 4410),
    (Nest(1, 1, 1, 2, 2, 5, 7, 5, stride=3), (11, 7, 9), 672, 5698),
    (Nest(1, 1, 3, 6, 6, 2, 5, 5, stride=2), (1, 9, 5), 488, 5130),
  ],
)
def test_kernel_tiles_are_not_the_smallest_for_their_trips(
  nest, price, memory_bits, bits
):
  """At a stride: 4 and 2 kernel rows read less than 3 and 3 with gaps.

  The smallest tile for every trip count alone finds 2 to 15 % more here.
  """
  assert by_brute_force(nest, prices(price), memory_bits) == bits
  assert best_tiling(nest, prices(price), memory_bits).bits == bits


@pytest.mark.parametrize("index", range(len(ORDERS)))
def test_loops_are_free_whose_trips_change_no_volume(index):
  nest = Nest(1, 12, 12, 12, 12, 12, 12, 12)
  free = ""
  for i, loop in enumerate(LOOPS):
    tiles = np.full((3, 8), 4)
    tiles[:, 0] = 1
    tiles[:, i] = (2, 3, 6)  # six, four and two trips
    moved = volumes(nest, tiles, ORDERS[index])
    free += loop if loop != "g" and (moved == moved[0]).all() else ""
    kept = candidates(nest, index)[:, i]
    assert (len(set(kept)) == 1) == (loop in free or loop == "g")
  assert free


def test_depthwise_layer_is_its_channels_one_by_one():
  depthwise = Nest(64, 1, 1, 1, 28, 28, 3, 3, 2)
  one = depthwise._replace(g=1)
  for memory_bits in (400, 4_000, 40_000):
    found = best_tiling(depthwise, prices((10, 12, 9)), memory_bits)
    alone = best_tiling(one, prices((10, 12, 9)), memory_bits)
    assert found.bits == 64 * alone.bits


def test_linear_layer_moves_its_weights_once():
  nest = Nest(1, 1, 1000, 512, 1, 1, 1, 1)
  found = best_tiling(nest, prices((16, 16, 16)), 8192)
  assert found.moved[1] == 512_000
  assert found.bits < Fraction("1.005") * 16 * (512_000 + 512 + 2000)


@settings(max_examples=60, deadline=None)
@given(
  st.integers(1, 6), st.integers(1, 700), st.integers(1, 9), st.integers(0, 99)
)
def test_nondominated_rows_are_those_of_the_definition(width, count, top, seed):
  random = np.random.default_rng(seed)
  rows = random.integers(0, top, (count, width))
  below = (rows[None] <= rows[:, None]).all(-1)
  equal = (rows[None] == rows[:, None]).all(-1)
  earlier = np.arange(count)[None] < np.arange(count)[:, None]
  expected = ~((below & ~equal) | (equal & earlier)).any(1)
  assert nondominated(rows).tolist() == np.flatnonzero(expected).tolist()


def test_nondominated_rows_of_many_blocks():
  """A shell of a sphere in six dimensions survives, what it covers does not."""
  random = np.random.default_rng(1)
  shell = random.dirichlet(np.ones(6), 5000)
  shell = (shell * 10**9).astype(np.int64)
  shell[:, 0] += 10**9 - shell.sum(1)
  inside = shell[random.integers(0, 5000, 7000)]
  inside = inside + random.integers(1, 10**6, inside.shape)
  rows = np.concatenate((inside, shell))
  order = random.permutation(len(rows))
  expected = np.sort(np.flatnonzero(order >= len(inside)))
  assert nondominated(rows[order]).tolist() == expected.tolist()


def test_critical_sizes_are_smallest_for_their_trips():
  for size in range(1, 40):
    by_trips = {-(-size // tile): tile for tile in range(size, 0, -1)}
    assert critical_sizes(size).tolist() == sorted(by_trips.values())


def test_memory_too_small_says_how_much_is_needed():
  nest = NESTS["l4ds"]
  price = [Fraction(19, 2), Fraction(73, 8), Fraction(37, 4)]
  with pytest.raises(ValueError, match="27 bits holds no tile.*needs 28 bits"):
    best_tiling(nest, price, 27)
  best_tiling(nest, price, 28)
  with pytest.raises(ValueError, match="holds no tile.*needs 28 bits"):
    least_movement(nest, price[:1], price[1:2], [1, price[2]], 27)


def test_no_prices_are_refused():
  with pytest.raises(ValueError, match="no weight prices"):
    least_movement(NESTS["l4ds"], [1], [], [1], 1000)
  with pytest.raises(ValueError, match="positive multiple"):
    best_tiling(NESTS["l4ds"], [1, 0, 1], 1000)


def test_numbers_past_53_bits_stay_exact_and_past_63_are_refused():
  rows = np.array([[1 << 30, 1, 1]])
  one = np.array((1, 1, 1))
  assert exact_dtype(rows, rows, one << 22) is np.float64
  assert exact_dtype(rows, rows, one << 23) is np.int64
  with pytest.raises(OverflowError, match="64 bits"):
    exact_dtype(rows, rows, one << 33)
  nest = Nest(1, 1, 3, 4, 5, 5, 3, 3)
  small = [Fraction(9), Fraction(8), Fraction(7)]
  fine = [p + Fraction(1, 10**13) for p in small]
  assert int(best_tiling(nest, fine, 2_000).bits) == int(
    best_tiling(nest, small, 2_000).bits
  )
  swept, unit = least_movement(nest, *([p] for p in fine), 2_000)
  assert (
    Fraction(int(swept[0, 0, 0]), unit) == best_tiling(nest, fine, 2_000).bits
  )
