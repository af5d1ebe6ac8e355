"""Volumes of tiled loop nests, against a walk over the tiles."""

import itertools

import jax
import numpy as np
import pytest
from hwsim_bfp_numpy import compulsory, footprints, volumes
from hwsim_bfp_referee import walk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hwsim.bfp import movement
from hwsim.bfp.movement import LOOPS, ORDERS, Nest, loops_inside, nest_of
from hwsim.workload import Layer


@st.composite
def tiled(draw, groups=2):
  """A small nest, one tile of it, and a loop order."""
  sizes = [draw(st.integers(1, groups)), draw(st.integers(1, 2))]
  sizes += [draw(st.integers(1, 4)) for _ in "kchw"]
  sizes += [draw(st.integers(1, 3)) for _ in "rs"]
  nest = Nest(*sizes, stride=draw(st.integers(1, 3)))
  tile = np.array([draw(st.integers(1, size)) for size in sizes])
  return nest, tile, "".join(draw(st.permutations(LOOPS)))


@settings(max_examples=200, deadline=None)
@given(tiled())
def test_traced_counts_are_those_of_numpy(case):
  """Bit sets of loops against the walk letter by letter, in any order."""
  nest, tile, order = case
  sizes = np.array(nest.sizes)
  with jax.enable_x64(True):
    moved = movement.volumes(
      sizes, np.array(nest.stride), tile, -(-sizes // tile), loops_inside(order)
    )
    held = movement.footprints(tile, np.array(nest.stride))
  assert list(map(int, moved)) == volumes(nest, tile, order).tolist()
  assert list(map(int, held)) == footprints(nest, tile).tolist()


GAPS = (  # one kernel row at a time at stride 2: sliding over them fills gaps
  Nest(1, 1, 1, 1, 4, 1, 3, 1, stride=2),
  np.array([1, 1, 1, 1, 2, 1, 1, 1]),
  "rgnkchws",
)


@settings(max_examples=300, deadline=None)
@given(tiled())
@example(GAPS)
def test_volumes_of_any_order_and_tile_are_those_of_a_walk(case):
  nest, tile, order = case
  inputs, weights, outputs = volumes(nest, tile, order)
  walked = walk(nest, tile, order)
  assert (weights, outputs) == walked[1:]
  assert inputs >= walked[0]


@settings(max_examples=100, deadline=None)
@given(tiled())
def test_footprints_are_elements_of_the_first_tile(case):
  nest, tile, order = case
  sizes = dict(zip(("g", *LOOPS[1:]), tile.tolist(), strict=True))
  assert tuple(footprints(nest, tile)) == walk(
    Nest(**sizes, stride=nest.stride), tile, order
  )


@settings(max_examples=60, deadline=None)
@given(tiled())
def test_input_is_exact_unless_a_loop_starts_again(case):
  """With one loop tiled nothing that was dropped is met again."""
  nest, tile, order = case
  for i in range(len(LOOPS)):
    alone = np.array(nest.sizes)
    alone[i] = tile[i]
    if LOOPS[i] in "rs" and tile[i] < nest.stride:
      continue
    assert tuple(volumes(nest, alone, order)) == walk(nest, alone, order)


def test_whole_layer_moves_once_in_any_order():
  nest = Nest(2, 1, 3, 4, 5, 6, 3, 2, stride=2)
  whole = np.array(nest.sizes)
  expected = [2 * 4 * 11 * 12, 2 * 3 * 4 * 3 * 2, 2 * 3 * 5 * 6]
  assert compulsory(nest).tolist() == expected
  for order in ORDERS:
    assert volumes(nest, whole, order).tolist() == expected


def sampled_tiles(nest, count, seed):
  """Random tiles and the corners, where loops vanish: int64[T, 8]."""
  random = np.random.default_rng(seed)
  sizes = np.array(nest.sizes)
  tiles = random.integers(1, sizes + 1, (count, 8))
  whole = random.random((count, 8)) < 0.3
  return np.where(whole, sizes, tiles)


@pytest.mark.parametrize(
  "nest, loops",
  [
    (Nest(1, 2, 4, 3, 5, 4, 3, 3), "nkchwrs"),
    (Nest(1, 2, 3, 4, 5, 6, 3, 3, stride=2), "nkchwrs"),
    (Nest(1, 1, 4, 4, 6, 5, 4, 3, stride=3), "nkchwrs"),
    (Nest(5, 2, 1, 1, 5, 6, 3, 3), "gnhwrs"),
    (Nest(4, 1, 1, 1, 5, 4, 3, 2, stride=2), "gnhwrs"),
  ],
  ids=["conv", "stride 2", "stride 3", "depthwise", "depthwise stride 2"],
)
def test_eight_orders_are_below_every_order(nest, loops):
  """All 5,040 orders of a convolution, 720 of a depthwise one.

  A tile of a group is held against one group at a time.
  """
  tiles = sampled_tiles(nest, 12, seed=nest.stride)
  single = tiles.copy()
  single[:, 0] = 1
  best = np.stack([volumes(nest, single, order) for order in ORDERS])
  rest = "".join(sorted(set(LOOPS) - set(loops)))
  for order in itertools.permutations(loops):
    moved = volumes(nest, tiles, "".join(order) + rest)
    assert (best <= moved).all(-1).any(0).all(), order


@settings(max_examples=25, deadline=None)
@given(tiled(groups=3), st.lists(st.permutations(LOOPS), min_size=20))
def test_eight_orders_are_below_random_orders(case, orders):
  nest, tile, _ = case
  single = tile.copy()
  single[0] = 1
  best = np.stack([volumes(nest, single, order) for order in ORDERS])
  for order in orders:
    moved = volumes(nest, tile, "".join(order))
    assert (best <= moved).all(-1).any(), order


@pytest.mark.parametrize("dropped", range(len(ORDERS)))
def test_no_order_could_be_left_out(dropped):
  """Each of the eight alone is best somewhere, so the test above can fail."""
  random = np.random.default_rng(dropped)
  for _ in range(20):
    nest = Nest(1, 2, 6, 6, 8, 8, 3, 3, stride=int(random.integers(1, 3)))
    tiles = random.integers(1, nest.sizes, (64, 8), endpoint=True)
    moved = [volumes(nest, tiles, order) for order in ORDERS]
    others = np.stack([m for i, m in enumerate(moved) if i != dropped])
    if not (others <= moved[dropped]).all(-1).any(0).all():
      return
  pytest.fail(f"{ORDERS[dropped]} is never needed")


def test_layers_become_nests():
  conv = Layer("c", "conv", 3, 8, 9, 11, 3, 5, 2, (1, 1, 2, 2))
  assert nest_of(conv) == Nest(1, 1, 8, 3, 5, 6, 3, 5, 2)
  depthwise = Layer("d", "depthwise", 8, 8, 9, 9, 3, 3, 1, (1, 1, 1, 1))
  assert nest_of(depthwise, batch=4) == Nest(8, 4, 1, 1, 9, 9, 3, 3)
  assert nest_of(Layer("l", "linear", 7, 5)) == Nest(1, 1, 5, 7, 1, 1, 1, 1)
  for layer in (conv, depthwise):
    sizes = compulsory(nest_of(layer))
    assert sizes[1:].tolist() == [layer.weight_count, layer.out_count]


def test_layers_without_weights_have_no_nest():
  with pytest.raises(ValueError, match="'a': add is not a nest"):
    nest_of(Layer("a", "add", 4, 4, 2, 2))


def test_published_halo_is_58_rows_where_the_released_code_has_59():
  nest = nest_of(Layer("l1", "conv", 64, 64, 56, 56, 3, 3, 1, (1, 1, 1, 1)))
  assert compulsory(nest).tolist() == [64 * 58 * 58, 64 * 64 * 9, 64 * 56 * 56]
