"""The released code's level costs, against recorded runs of its solver."""

import pytest
from hwsim_bfp_released import (
  LEVELS,
  RELEASED_LOOPS,
  released_bottleneck,
  released_costs,
)
from hwsim_networks import golden

RUNS = golden("bitq_golden.json")["released"]
IDS = [level.tile for level in LEVELS]
FIRST_LAYER = (1, 64, 56, 56, 64, 3, 3)


def tiles_of(run):
  return [
    {d: run["floored_tiles"][f"L{i}T{d}"] for d in RELEASED_LOOPS}
    for i in range(5)
  ]


def costs_of(run):
  return released_costs(
    run["layer_b_f_x_y_c_w_h"],
    run["q_i_w_o"],
    tiles_of(run),
    ["".join(order) for order in run["nest_inner_to_outer_by_level"]],
  )


def recorded(run):
  """Costs by level number; the first entry is the bottleneck's."""
  return dict(
    zip(
      run["bottleneck_order_levels"], run["bottleneck_order_costs"], strict=True
    )
  )


def test_bottlenecks_are_those_of_the_released_solver():
  assert len(RUNS) == 50
  levels = set()
  for run in RUNS:
    (level, expected), *_ = recorded(run).items()
    cost, name = released_bottleneck(run["layer_b_f_x_y_c_w_h"], run["q_i_w_o"])
    assert cost == pytest.approx(expected, rel=1e-5, abs=0), run
    assert name == LEVELS[IDS.index(level)].name
    levels.add(level)
  assert levels == {0, 4}


def test_costs_of_recorded_tiles_are_the_recorded_costs():
  """Records are of tiles before flooring, which can only cost more.

  DRAM traffic does not depend on what was floored; elsewhere most tiles are
  whole numbers within the solver's tolerance.
  """
  close = dict.fromkeys(IDS, 0)
  for run in RUNS:
    expected = recorded(run)
    for number, cost in zip(IDS, costs_of(run), strict=True):
      excess = cost / expected[number] - 1
      assert excess > -1e-12
      close[number] += excess < 1e-7
    assert costs_of(run)[3] == pytest.approx(expected[4], rel=1e-7, abs=0)
  assert close == {0: 33, 1: 42, 2: 34, 4: 50}


def test_dram_cost_of_a_resident_layer_by_hand():
  """59 = 56 + 3 rows of input where there are 58; divided by bandwidth 16."""
  whole = dict(zip(RELEASED_LOOPS, FIRST_LAYER, strict=True))
  for order in ("hcwbfxy", "ybxfcwh"):
    costs = released_costs(FIRST_LAYER, (16,) * 3, [whole] * 5, [order] * 4)
    assert costs[3] == 64 * 59 * 59 + 64 * 64 * 9 + 2 * 64 * 56 * 56 == 661_056


def test_register_cost_by_hand():
  """16 channels x 6 rows at a time, kernel rows slide, outputs stay."""
  cost, level = released_bottleneck(FIRST_LAYER, (16,) * 3)
  blocks = 64 / 16 * 56 * 56 / 6
  inputs = blocks * 64 * 3 * (1 + 1) * (6 + 3)
  weights = blocks * 16 * 64 * 9
  words = inputs + weights + 2 * 64 * 56 * 56
  assert cost == pytest.approx(words * 16 / 8 / 65, rel=1e-12)
  assert level == "L1 to registers"


def test_layers_that_the_released_code_cannot_tile_are_refused():
  with pytest.raises(ValueError, match="12 output channels and 7 output rows"):
    released_bottleneck((1, 12, 7, 7, 64, 3, 3), (16,) * 3)
  with pytest.raises(ValueError, match="64 output channels and 5 output rows"):
    released_bottleneck((1, 64, 7, 5, 64, 3, 3), (16,) * 3)
  with pytest.raises(ValueError, match="and L3 134217728"):
    released_bottleneck((1, 4096, 7, 7, 4096, 1, 1), (16,) * 3)
  with pytest.raises(ValueError, match="got 4 levels of tiles"):
    released_costs(FIRST_LAYER, (16,) * 3, [{}] * 4, ["hcwbfxy"] * 4)
