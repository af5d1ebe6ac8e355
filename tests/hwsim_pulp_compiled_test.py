"""The compiled simulator: equal to its referee, mapped, derived."""

import dataclasses
import functools

import jax
import numpy as np
import pulp_comparison
import pytest
from hwsim_networks import mobilenet_v1

from hwsim.pulp import TARGETS, XPULP_V2, XPULPNN_V1, geometry, layer_cycles
from hwsim.pulp.coefficients import CONV_COLUMNS, DEPTHWISE_COLUMNS
from hwsim.pulp.geometry import Bits, Geometry
from hwsim.pulp.table import _compiled
from hwsim.workload import Layer

PW = Layer("pw", "conv", 96, 96, 56, 56)  # cut in L3 at 8 bits
DW = Layer("dw", "depthwise", 48, 48, 28, 28, 3, 3, 1, (1, 1, 1, 1))


def test_random_layers_equal_the_referee():
  """`python tests/pulp_comparison.py` does so for 10,000 and all networks."""
  entries = pulp_comparison.random_entries(60, seed=3)
  assert not pulp_comparison.differences(entries)


def test_a_network_equals_the_referee_and_is_compiled_once():
  entries = pulp_comparison.network_entries(mobilenet_v1())
  assert len(entries) == 1566
  random = np.random.default_rng(0)
  some = [entries[i] for i in random.choice(len(entries), 100, replace=False)]
  assert not pulp_comparison.differences(some)
  assert _compiled()._cache_size() == 1


def numbers(layer, bits):
  sizes = geometry.of_layer(layer)
  return Geometry(*map(np.float64, sizes)), Bits(*map(np.float64, bits))


def test_mapped_over_layers_precisions_and_targets():
  """The whole grid in one program equals one by one."""
  layers = [numbers(layer, (8, 8, 8))[0] for layer in (PW, DW)]
  bits = [numbers(PW, width)[1] for width in ((8, 8, 8), (2, 4, 8))]
  targets = [target.constants for target in TARGETS]

  def stack(trees):
    return jax.tree.map(lambda *values: np.stack(values), *trees)

  def total(layer, bits, target):
    return layer_cycles(layer, bits, target)[0].total

  over_targets = jax.vmap(total, in_axes=(None, None, 0))
  over_bits = jax.vmap(over_targets, in_axes=(None, 0, None))
  grid = jax.jit(jax.vmap(over_bits, in_axes=(0, None, None)))
  with jax.enable_x64(True):
    found = np.asarray(grid(stack(layers), stack(bits), stack(targets)))
  for i, layer in enumerate((PW, DW)):
    for j, widths in enumerate(((8, 8, 8), (2, 4, 8))):
      for k, target in enumerate(TARGETS):
        entry = pulp_comparison.Entry(layer, widths, target)
        alone = pulp_comparison.cycles(pulp_comparison.simulate, entry)
        assert found[i, j, k] == alone[0]


CONTINUOUS = (
  *("dma_bytes_per_cycle", "dma_command_cycles", "tile_cycles"),
  *("layer_start_cycles", "l3_bytes_per_cycle", "l3_setup_cycles"),
)


@functools.cache
def unrounded():
  """Total cycles with derivatives, and their gradient."""

  def total(target, sizes, widths):
    return layer_cycles(sizes, widths, target, rounded=False)[0].total

  return jax.jit(jax.value_and_grad(total))


@pytest.mark.parametrize(
  "layer, coefficients, costs",
  [(PW, "conv", CONV_COLUMNS), (DW, "depthwise", DEPTHWISE_COLUMNS)],
  ids=["cut in L3", "in L2"],
)
def test_gradients_equal_finite_differences(layer, coefficients, costs):
  target, inputs = XPULP_V2.constants, numbers(layer, (8, 8, 8))
  with jax.enable_x64(True):
    total, slopes = unrounded()(target, *inputs)

    def difference(changed, step):
      ends = [float(unrounded()(changed(s), *inputs)[0]) for s in (-step, step)]
      return (ends[1] - ends[0]) / (2 * step)

    for name in CONTINUOUS:
      value = getattr(target, name)
      slope = difference(
        lambda by, name=name, value=value: target._replace(
          **{name: value + by}
        ),
        1e-6 * float(value),
      )
      assert float(getattr(slopes, name)) == pytest.approx(
        slope, rel=1e-4, abs=1e-3
      ), name

    # Every coefficient of the kernel that is used, and no other
    table = getattr(target.kernels, coefficients)
    of_table = np.asarray(getattr(slopes.kernels, coefficients))
    for column, name in enumerate(costs):
      if name in ("k_per_iter", "channels_per_group"):
        continue  # whole numbers, rounded away

      def changed(by, column=column):
        other = table.copy()
        other[2, 2, 2, column] += by
        kernels = target.kernels._replace(**{coefficients: other})
        return target._replace(kernels=kernels)

      assert of_table[2, 2, 2, column] == pytest.approx(
        difference(changed, 1e-4), rel=1e-4, abs=1e-2
      ), name
    assert not of_table[:2].any() and of_table[2, 2, 2].any()

  # Whole cycles are near: transfers are rounded up, kernels either way
  exact = pulp_comparison.simulate(layer, 8, 8, 8, XPULP_V2).total
  assert float(total) == pytest.approx(exact, rel=0.01)


def test_float32_is_refused():
  with pytest.raises(ValueError, match="jax.enable_x64"):
    layer_cycles(*numbers(PW, (8, 8, 8)), XPULP_V2.constants)


def test_a_larger_l1_than_dorys_objective_counts_is_refused():
  with pytest.raises(ValueError, match="l1_budget_bytes is 2971000.*1900000"):
    dataclasses.replace(XPULPNN_V1, l1_bytes=3_000_000)
