"""Affine and symmetric grids against the whitepaper's formulas, spelt out."""

import functools
import math

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_SHIPPED
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from fbq.quantizers import affine, uniform

BITS = st.sampled_from([1, 2, 3, 4, 8, 12])
vectors = hnp.arrays(
  np.float32,
  16,
  elements=st.floats(-9, 9, width=32, allow_subnormal=False),
)


def oracle_levels(low, high, bits, form):
  """Every number of the grid, in float64, lowest first."""
  low, high, count = min(low, 0.0), max(high, 0.0), 2**bits
  if form == "affine":
    step = (high - low) / (count - 1)
    zero = min(max(round(-low / step), 0), count - 1)
    return [(k - zero) * step for k in range(count)]
  if form == "unsigned":
    return [k * high / (count - 1) for k in range(count)]
  largest, half = max(-low, high), count // 2
  if form == "symmetric":
    return [k * largest / half for k in range(-half, half)]
  return [k * largest / max(half - 1, 1) for k in range(1 - half, half)]


RANGES = st.tuples(st.floats(-8, 8, width=32), st.floats(-8, 8, width=32)).map(
  sorted
)


@functools.partial(jax.jit, static_argnames="form", compiler_options=AS_SHIPPED)
def everything(x, low, high, bits, form):
  grid = affine.grid(low, high, bits, form)
  zero = affine.quantize(jnp.zeros_like(grid.step), grid)
  return affine.quantize(x, grid), affine.codes(x, grid), zero, grid


@settings(max_examples=120, deadline=None)
@given(x=vectors, range_=RANGES, bits=BITS, form=st.sampled_from(affine.FORMS))
def test_rounds_to_the_nearest_number_of_the_grid(x, range_, bits, form):
  low, high = range_
  if (max(high, 0) if form == "unsigned" else max(high, -low)) < 0.01:
    return
  y, codes, zero, grid = everything(x, low, high, np.int32(bits), form)
  levels = oracle_levels(low, high, bits, form)
  y, codes = np.asarray(y), np.asarray(codes)
  for value, got in zip(x.tolist(), y.tolist(), strict=True):
    assert min(abs(got - v) for v in levels) < 1e-5
    # Nearest up to float32; zero-points round x / step and not x.
    nearest = min(abs(value - v) for v in levels)
    assert abs(value - got) <= nearest + 1e-5
  assert len(np.unique(codes)) <= len(levels) <= 2**bits
  assert codes.min() >= grid.low and codes.max() <= grid.high
  shifted = codes.astype(np.float32) - np.asarray(grid.zero_point)
  numbers = shifted * np.asarray(grid.step)
  np.testing.assert_array_equal(numbers, y)
  assert (np.diff(y[np.argsort(x)]) >= 0).all()
  assert zero == 0.0
  again, *_ = everything(y, low, high, np.int32(bits), form)
  np.testing.assert_array_equal(again, y)


@pytest.mark.parametrize(
  "form, low, high, codes",
  [
    # -1 .. 2 in steps of 0.2: zero-point 5.
    ("affine", -1.0, 2.0, [0, 5, 6, 15]),
    # Only positive numbers: the range is relaxed to 0 .. 2.
    ("affine", 1.0, 2.0, [0, 0, 1, 15]),
    ("symmetric", -1.0, 2.0, [-8, 0, 1, 7]),
    ("restricted", -1.0, 2.0, [-7, 0, 1, 7]),
    ("unsigned", -1.0, 2.0, [0, 0, 1, 15]),
  ],
)
def test_codes_by_hand_at_4_bits(form, low, high, codes):
  x = np.resize(np.float32([-9.0, 0.0, 0.2, 9.0]), 16)
  _, found, *_ = everything(x, low, high, np.int32(4), form)
  np.testing.assert_array_equal(found[:4], codes)


def test_symmetric_and_unsigned_are_those_of_uniform():
  x = jax.random.normal(jax.random.key(0), (200,))
  for bits in (2, 8):
    for form, signed in (("symmetric", True), ("unsigned", False)):
      grid = affine.grid(-1.3, 1.3, jnp.int32(bits), form)
      args = x, jnp.float32(1.3), jnp.int32(bits), signed
      np.testing.assert_array_equal(affine.codes(x, grid), uniform.codes(*args))
      np.testing.assert_allclose(
        affine.quantize(x, grid), uniform.quantize(*args), rtol=3e-7
      )


def test_channels_have_their_own_grids():
  x = jax.random.normal(jax.random.key(1), (3, 3, 2, 4)) * jnp.float32(
    [0.1, 1, 10, 0]
  )
  x, bits = np.asarray(x), np.int32(4)
  low, high = x.min((0, 1, 2)), x.max((0, 1, 2))
  together, *_ = everything(x, low, high, bits, "affine")
  for c in range(4):
    alone, *_ = everything(x[..., c], low[c], high[c], bits, "affine")
    np.testing.assert_array_equal(together[..., c], alone)
    assert len(np.unique(together[..., c])) <= 16
  layer, *_ = everything(x, x.min(), x.max(), bits, "affine")
  assert len(np.unique(layer)) <= 16
  # Channels of small numbers are lost without a range of their own.
  error = lambda y: np.abs(y - x)[..., 0].max()
  assert error(layer) > 10 * error(together)


@pytest.mark.parametrize("form", affine.FORMS)
def test_a_range_of_zero_gives_zeros(form):
  x = np.repeat(np.float32([0, 1]), 8)
  y, *_ = everything(x, 0.0, 0.0, np.int32(8), form)
  np.testing.assert_array_equal(y[:8], 0.0)
  assert np.isfinite(y).all()


@pytest.mark.parametrize(
  "form, passes",
  [
    ("affine", [0, 1, 1, 1, 1, 0]),
    ("restricted", [1, 1, 1, 1, 1, 0]),
    ("symmetric", [1, 1, 1, 1, 0, 0]),  # the highest code is 7/8 of the range
    ("unsigned", [0, 0, 1, 1, 1, 0]),
  ],
)
def test_gradient_passes_inside_the_range(form, passes):
  """Ends count as inside: the largest weight has set them."""
  grid = affine.grid(-1.5, 2.0, jnp.int32(4), form)
  x = jnp.float32([-1.6, -1.5, 0.0, 1.7, 2.0, 2.1])
  g = jnp.arange(1.0, 7.0)
  _, vjp = jax.vjp(lambda v: affine.quantize(v, grid), x)
  np.testing.assert_array_equal(vjp(g)[0], g * jnp.float32(passes))


def test_no_gradient_for_the_grid():
  x = jnp.linspace(-2.0, 2.0, 9)

  def total(low):
    return affine.quantize(x, affine.grid(low, 1.0, 4, "affine")).sum()

  assert jax.grad(total)(jnp.float32(-1.0)) == 0.0


def test_stochastic_rounding_is_right_in_the_mean():
  grid = affine.grid(-1.0, 2.0, jnp.int32(4), "affine")
  x = jnp.full(20_000, 0.2 * 3.3)
  key = jax.random.key(3)
  y = affine.quantize(x, grid, "stochastic", key)
  codes = affine.codes(x, grid, "stochastic", key)
  assert set(np.unique(codes)) == {8, 9}  # zero-point 5
  deviation = 0.2 * math.sqrt(0.3 * 0.7 / len(x))
  assert abs(float(y.mean()) - 0.66) < 4 * deviation
  np.testing.assert_array_equal(affine.dequantize(codes, grid), y)
  other = affine.quantize(x, grid, "stochastic", jax.random.key(4))
  assert (np.asarray(other) != np.asarray(y)).any()
  # Numbers of the grid stay, and ends are clipped.
  ends = affine.quantize(jnp.float32([-5, 0, 5]), grid, "stochastic", key)
  np.testing.assert_allclose(ends, [-1, 0, 2], rtol=1e-6)


def test_stochastic_rounding_has_the_same_gradient():
  grid = affine.grid(-1.0, 2.0, jnp.int32(4), "affine")
  x = jnp.float32([-1.6, -0.5, 1.9, 2.1])
  grad = jax.grad(
    lambda v: affine.quantize(v, grid, "stochastic", jax.random.key(0)).sum()
  )(x)
  np.testing.assert_array_equal(grad, [0, 1, 1, 0])


def test_mistakes_are_refused():
  with pytest.raises(ValueError, match="form is 'assymetric', expected one of"):
    affine.grid(-1.0, 1.0, 4, "assymetric")
  grid = affine.grid(-1.0, 1.0, 4, "affine")
  with pytest.raises(ValueError, match="stochastic rounding needs a key"):
    affine.quantize(jnp.zeros(2), grid, "stochastic")
