"""Many targets at once, equal to one at a time; what assumptions are worth."""

import dataclasses

import numpy as np
import pytest
from hwsim_networks import chain

from hwsim.interval import latency
from hwsim.latency_table import total_cycles
from hwsim.pulp import (
  TARGETS,
  XPULP_V2,
  XPULPNN_V1,
  XPULPNN_V1_ISS,
  XPULPNN_V2,
  doubt,
  latency_table,
  many,
  simulate,
  slopes,
)
from hwsim.workload import Layer, Workload

NET = chain(
  "net",
  [
    Layer("conv", "conv", 3, 16, 32, 32, 3, 3, 2, (1,) * 4),
    Layer("dw", "depthwise", 16, 16, 16, 16, 3, 3, 1, (1,) * 4),
    Layer("pw", "conv", 96, 96, 56, 56),  # cut in L3 at 8 bits
    Layer("fc", "linear", 32, 10),
  ],
)


def targets():
  """More than a chunk, of every kernel set, some with equal memories."""
  sizes = [(64_000, 160_000), (48_000, 120_000), (256_000, 0)]
  return [
    dataclasses.replace(
      TARGETS[i % 3],
      name=str(i),
      l1_bytes=sizes[i % 3][0],
      code_reserved_bytes=sizes[i % 3][1],
      tile_cycles=100 + i,
      dma_bytes_per_cycle=4 + i % 5,
      double_buffering=1 + i % 2,
    )
    for i in range(19)
  ]


def test_many_targets_equal_one_at_a_time_in_two_programs():
  given = targets()
  found = many.latency_tables(NET, many.stack(given))
  assert found.fits.all() and found.cycles.shape == (19, 4, 3, 3, 3)
  for i in (0, 1, 2, 16, 18):
    np.testing.assert_array_equal(
      found.cycles[i], latency_table(NET, given[i]).cycles
    )
  assert many._cuts()._cache_size() == many._cycles()._cache_size() == 1


def test_a_layer_that_does_not_fit_is_told_by_target():
  wide = chain("wide", [Layer("c", "conv", 256, 8, 8, 8, 3, 3, 1, (1,) * 4)])
  given = [dataclasses.replace(XPULPNN_V1, l1_bytes=n) for n in (64_000, 10**6)]
  found = many.latency_tables(wide, many.stack(given))
  assert found.fits.tolist() == [[False], [True]]
  assert not found.cycles[0, 0, 2].any()  # at 8-bit inputs
  with pytest.raises(ValueError, match="fits no tile"):
    latency_table(wide, given[0])
  scale = Workload(
    "s", (Layer("s", "scale", 4, 4),), ((-1,),), (("x",),), ("y",)
  )
  with pytest.raises(ValueError, match="'s'.*no scale"):
    many.latency_tables(scale, many.stack(given))


# ---- What is assumed


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_draws_lie_in_their_ranges_and_give_the_target_at_its_own_values(
  target,
):
  constants, values = doubt.draws(target, 300, seed=1)
  given = {each.name: each for each in doubt.assumptions(target)}
  assert values.keys() == given.keys()
  for name, drawn in values.items():
    each = given[name]
    assert each.low <= each.center <= each.high and each.source
    assert each.low <= drawn.min() and drawn.max() <= each.high
    middle = (each.low + each.high) / 2
    width = each.high - each.low
    assert abs(drawn.mean() - middle) < 0.1 * width  # five standard errors

  # Constants that go together keep their ratio; a draw is what it says
  software = values["software, times"]
  np.testing.assert_array_equal(
    constants.layer_start_cycles, np.rint(1_009 * software)
  )
  np.testing.assert_array_equal(constants.tile_cycles, np.rint(389 * software))
  np.testing.assert_array_equal(
    constants.l2_budget_bytes, 512_000 - values["code_reserved_bytes"]
  )

  own = {
    name: np.broadcast_to(each.center, (1,) if each.size == 1 else (1, 9))
    for name, each in given.items()
  }
  same = doubt.stacked(target, own)
  for found, expected in zip(
    [*same[:-1], *same.kernels],
    [*target.constants[:-1], *target.constants.kernels],
    strict=True,
  ):
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-9)


def test_factors_scale_cycles_and_not_counts():
  values = {"error of convolution at each precision, times": np.full(9, 1.02)}
  found = doubt.with_values(XPULPNN_V1, values, rounded=False).kernels.conv
  ratio = np.asarray(found) / np.where(
    XPULPNN_V1.constants.kernels.conv == 0,
    np.nan,
    XPULPNN_V1.constants.kernels.conv,
  )
  counted = [0, 20]  # k_per_iter, pointwise_patches
  np.testing.assert_allclose(ratio[..., counted], 1)
  others = np.delete(ratio, counted, axis=-1)
  np.testing.assert_allclose(others[~np.isnan(others)], 1.02, rtol=1e-6)


def test_stalls_range_over_what_the_other_timings_leave_out():
  """No stalls at all of XpulpNN-mixed are its instructions."""
  values = {"stalls of XpulpNN-mixed, share": 0.0}
  found = doubt.with_values(XPULPNN_V2, values).kernels.conv
  bare = dataclasses.replace(XPULPNN_V2, timing="iss").constants.kernels.conv
  np.testing.assert_allclose(found, bare, atol=1e-9)


def test_additions_take_what_their_two_assumptions_say():
  """8 x 8 x 16 values in one tile: a core has a row of 128 elements."""
  layers = [Layer("sum", "add", 16, 16, 8, 8), Layer("fc", "linear", 16, 10)]
  net = chain("net", layers)
  ends = doubt.ends(XPULPNN_V1)
  wide = ends["additions, times"]
  narrow = ends["additions to less than 8 bits, cycles more an element"]
  own = latency_table(net, XPULPNN_V1).cycles[0]
  at = many.latency_tables(net, many.joined([wide, narrow])).cycles[:, 0]
  np.testing.assert_array_equal(at[[0, 2]], np.stack([own] * 2))

  # 92 + 128 x 15 of 8-bit inputs, 88 + 128 x 24 of narrower ones, a tenth more
  call = np.rint([1.1 * (88 + 128 * 24), 0, 1.1 * (92 + 128 * 15)])
  more = call - [88 + 128 * 24, 0, 92 + 128 * 15]
  found = (at[1] - own)[:, 0, :]
  np.testing.assert_array_equal(found[0], [more[0]] * 3)
  np.testing.assert_array_equal(found[2], [more[2]] * 3)

  # 4 cycles an element of a core, where outputs are narrower than 8 bits
  np.testing.assert_array_equal(
    at[3] - own, np.broadcast_to([512, 512, 0], (3, 3, 3))
  )


def test_a_range_says_at_which_end_the_target_stands():
  ends = {each.name: each.end for each in doubt.assumptions(XPULP_V2)}
  assert ends["code_reserved_bytes"] == "high"
  assert ends["dma_command_cycles"] == ends["additions, times"] == "low"
  assert ends["software, times"] == ends["l3_setup_cycles"] == ""


def test_assumptions_of_other_timings_are_refused():
  with pytest.raises(ValueError, match="times kernels by 'iss'.*'gvsoc'"):
    doubt.assumptions(XPULPNN_V1_ISS)


def test_slopes_equal_differences_between_the_ends():
  """With and without L3; memories have none, though they matter."""
  bits = {"conv": (8, 8, 8), "dw": (4, 4, 8), "pw": (8, 8, 8), "fc": (4, 4, 32)}
  layers = [(layer, bits[layer.name]) for layer in NET.layers]
  found = slopes.network_slopes(layers, XPULP_V2)
  ends = doubt.ends(XPULP_V2)
  everything = many.joined(ends.values())
  cycles = many.latency_tables(NET, everything).cycles.reshape(
    len(ends), 2, 4, 3, 3, 3
  )
  at = [
    tuple((2, 4, 8, 32).index(b) % 3 for b in bits[x.name]) for x, _ in layers
  ]
  totals = sum(cycles[:, :, i, *place] for i, place in enumerate(at))
  swing = dict(zip(ends, totals[:, 1] - totals[:, 0], strict=True))
  central = sum(simulate(x, *b, XPULP_V2).total for x, b in layers)
  for each in doubt.assumptions(XPULP_V2):
    slope = found[each.name].sum() * (each.high - each.low)
    if each.name == "code_reserved_bytes":
      assert slope == 0 and swing[each.name] > 10**6
    elif each.name == "l3_bytes_per_cycle":  # bent: 1 / x
      assert slope == pytest.approx(swing[each.name], rel=0.35)
    else:
      assert slope == pytest.approx(swing[each.name], abs=5e-4 * central)


def test_latency_is_told_with_its_interval():
  bits = {site: 4 for site in NET.free_sites}
  found = latency(NET, bits, XPULP_V2, draws=20, share=0.8, seed=3)
  table = latency_table(NET, XPULP_V2)
  assert found.central == total_cycles(table, NET, bits)
  constants, _ = doubt.draws(XPULP_V2, 20, 3)
  cycles = many.latency_tables(NET, constants).cycles
  each = sorted(
    total_cycles(dataclasses.replace(table, cycles=one), NET, bits)
    for one in cycles
  )
  assert (found.low, found.median, found.high) == (each[1], each[9], each[17])
  own = many.network_cycles(cycles, NET, bits, "site")
  assert own[0] == total_cycles(
    dataclasses.replace(table, cycles=cycles[0]), NET, bits, "site"
  )
