"""Least data movement, against golden optima and every tile and order."""

import itertools
from fractions import Fraction

import compiling
import hwsim_bfp_numpy
import jax
import numpy as np
import pytest
from hwsim_bfp_numpy import compulsory, footprints, tiling_table, volumes
from hwsim_bfp_problems import problems
from hwsim_networks import golden
from hypothesis import given, settings
from hypothesis import strategies as st

from hwsim.bfp import sweep, tiling, walk
from hwsim.bfp.candidates import candidates, critical_sizes
from hwsim.bfp.formats import bitq_grid
from hwsim.bfp.movement import LOOPS, ORDERS, Nest
from hwsim.bfp.nondominated import nondominated
from hwsim.bfp.sweep import least_movement
from hwsim.bfp.tiling import best_tiling, check_units

GOLDEN = golden("bitq_golden.json")
NESTS = {
  row["layer"]: Nest(g=1, **row["shape"]) for row in GOLDEN["single_level"]
}


_SHIPPED = dict(static_argnames="room", compiler_options=compiling.AS_SHIPPED)
_WALK = jax.jit(walk.walk, **_SHIPPED)
_LEAST = jax.jit(sweep.least, **_SHIPPED)


@pytest.fixture
def as_shipped(monkeypatch):
  """Searches of large layers, which without optimization take ten times as
  long as compiling them."""
  monkeypatch.setattr(tiling, "_walk", _WALK)
  monkeypatch.setattr(sweep, "_least", _LEAST)


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


def test_every_golden_optimum_is_equal(as_shipped):
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
def test_search_finds_the_optimum_of_all_tiles(problem):
  found = best_tiling(*problem)
  assert found.bits == by_brute_force(*problem)


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


@settings(max_examples=12, deadline=None)
@given(problems(), st.data())
def test_sweep_equals_numpy_in_every_entry(problem, data):
  nest, price, memory_bits = problem
  step = st.lists(st.fractions(0, 1, max_denominator=16), min_size=1)
  axes = [[p - d * p / 2 for d in data.draw(step)] for p in price]
  swept, unit = least_movement(nest, *axes, memory_bits)
  expected, same_unit = hwsim_bfp_numpy.least_movement(nest, *axes, memory_bits)
  assert swept.dtype == np.int64 and unit == same_unit
  assert (swept == expected).all()


def test_sweep_of_the_paper_grid_equals_numpy(as_shipped):
  """`benchmarks.movement` compares all layers of ResNet-18."""
  nest, grid = NESTS["l2c1"], bitq_grid(16)
  activation, weight = (
    [
      f.element_bits + Fraction(f.exponent_bits, f.block_size * area)
      for f in grid
    ]
    for area in (1, nest.r * nest.s)
  )
  problem = nest, activation, weight, activation, 16 * 8192
  swept, unit = least_movement(*problem)
  expected, same_unit = hwsim_bfp_numpy.least_movement(*problem)
  assert swept.shape == (48, 48, 48) and unit == same_unit
  assert (swept == expected).all()


def test_sweeps_are_mapped_over_layers_prices_and_memory_sizes():
  """One program for three problems, whose loops end at different times."""
  nests = Nest(1, 1, 3, 4, 5, 5, 3, 3), Nest(3, 2, 1, 1, 6, 4, 3, 2, 2)
  axes = np.arange(8, 32, 2).reshape(3, 4), np.arange(9, 21).reshape(3, 4)
  cases = [(nests[0], axes[0], 2000), (nests[1], axes[1], 900)]
  cases.append((nests[0], axes[1], 300))
  with jax.enable_x64(True):
    stacked = jax.tree.map(
      lambda *leaves: np.stack(leaves),
      *((candidates(nest), axis, np.int64(m)) for nest, axis, m in cases),
    )
    mapped = jax.vmap(lambda *case: sweep.least(*case, np.int64(2), 1 << 10))
    found, counts = map(np.asarray, jax.jit(mapped)(*stacked))
  assert (counts < 1 << 10).all() and len(set(counts.tolist())) == 3
  for units, (nest, axis, memory_bits) in zip(found, cases, strict=True):
    whole = axis.astype(object).tolist()
    expected, unit = hwsim_bfp_numpy.least_movement(nest, *whole, memory_bits)
    assert unit == 1 and (units == expected).all()


def test_a_search_with_too_little_room_is_repeated_with_more(monkeypatch):
  nest = Nest(1, 1, 4, 4, 5, 5, 3, 3)
  axes = [[4, 10, 16]] * 3
  expected, _ = hwsim_bfp_numpy.least_movement(nest, *axes, 1_000)
  monkeypatch.setattr(sweep, "KEPT", 64)
  rooms = []
  program = sweep._least

  def counted(*arguments, room):
    rooms.append(room)
    return program(*arguments, room=room)

  monkeypatch.setattr(sweep, "_least", counted)
  assert (least_movement(nest, *axes, 1_000)[0] == expected).all()
  assert rooms == [64, 1024]


def test_a_tie_of_memory_is_decided_exactly():
  """Tiles that need the memory to the last bit fit; with one bit less, not."""
  nest = Nest(1, 1, 3, 4, 5, 5, 3, 3)
  # Whole bits only after multiplying by 432; thirds that no float holds.
  price = [Fraction(9) + Fraction(7, 48), Fraction(9) + Fraction(7, 432), 10]
  moved, held, _, _ = tiling_table(nest)
  cover = (moved == compulsory(nest)).all(1)
  held = held[cover].astype(object) @ np.array(price, object)
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
  nest = Nest(1, 12, 12, 12, 12, 24, 12, 12)
  free = ""
  for i, loop in enumerate(LOOPS):
    tiles = np.full((3, 8), 4)
    tiles[:, 0] = 1
    tiles[:, i] = (2, 3, 6)  # six, four and two trips
    moved = volumes(nest, tiles, ORDERS[index])
    free += loop if loop != "g" and (moved == moved[0]).all() else ""
    kept = candidates(nest).counts[index, i]
    assert (kept == 1) == (loop in free or loop == "g")
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
  # 2^30 multiplications fetch four operands each.
  cube = Nest(1, 1, 2**10, 2**10, 2**5, 2**5, 1, 1)
  check_units(cube, np.array((1, 1, 1)) * (2**31 - 1), 2)
  with pytest.raises(OverflowError, match="64 bits"):
    check_units(cube, np.array((1, 1, 1)) * 2**31, 2)
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
