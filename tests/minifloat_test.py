"""Block minifloat against the formulas of the authors' code in float64."""

import functools
import math

import bfp_oracle
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_SHIPPED

from fbq.quantizers import bfp, minifloat
from fbq.train.steps import compile_once

FORMATS = [(1, 6), (2, 5), (4, 3), (5, 2), (6, 1), (7, 8), (8, 22), (3, 1)]
SHAPE = (6, 40)
TILE = (2, 16)


def floor_log2(x):
  """Exact, of positive float64."""
  return np.frexp(x)[1] - 1


def oracle(x, exponent_bits, mantissa_bits, tile, noise=None):
  """docs/facts/bitq.md 1.2 line by line; nearest, ties away without `noise`."""
  noise = np.float64(0.5 if noise is None else noise)
  x = bfp_oracle.flushed(x)
  largest = bfp_oracle.largest_of_blocks(np.abs(x), tile)
  shared = floor_log2(np.float64(largest + np.float32(1e-28)))  # FP32 sum
  x = x.astype(np.float64)
  emax = 2**exponent_bits - 1 - 2 ** (exponent_bits - 1)
  emin = -(2 ** (exponent_bits - 1))
  i = np.abs(np.ldexp(x, emax - shared))
  e = np.clip(floor_log2(np.where(i > 0, i, 1e-300)), emin + 1, emax)
  normal = i >= math.ldexp(1.0, emin + 1)
  f = np.ldexp(i, -e) - normal
  f = np.clip(np.floor(f * 2**mantissa_bits + noise), 0, 2**mantissa_bits)
  k = np.ldexp(f / 2**mantissa_bits + normal, e)
  k = np.minimum(k, 2.0**emax * (2 - 2.0**-mantissa_bits))
  return np.float32(np.sign(x) * np.ldexp(k, shared - emax))


@functools.partial(compile_once, compiler_options=AS_SHIPPED)
def compiled(x, format_):
  return minifloat.quantize(x, format_, TILE, "nearest")


def as_data(format_):
  return minifloat.Minifloat(*map(jnp.int32, format_))


def apply(x, format_):
  return np.asarray(compiled(x, as_data(format_)))


def tensor() -> np.ndarray:
  """Blocks of all kinds: ordinary, wide, powers of two, ties, zeros, tiny."""
  random = np.random.default_rng(3)
  x = random.standard_normal(SHAPE).astype(np.float32)
  x[:, 16:32] *= np.exp2(random.integers(-20, 21, (6, 16)))
  x[:2, 32:] = np.sign(x[:2, 32:]) * np.exp2(random.integers(-9, 9, (2, 8)))
  x[2:4, :16] = (random.integers(-64, 64, (2, 16)) + 0.5) / 32
  x[2:4, 32:] = 0
  x[4:, 32:] *= 1e-28
  x[4:, :16] *= np.float32(2.0**-90)
  x[5, 3:6] = 1e-40, -0.0, 2.0**-126
  return x


@pytest.mark.parametrize("format_", FORMATS)
def test_nearest_is_exact(format_):
  x = tensor()
  bfp_oracle.assert_same_bits(apply(x, format_), oracle(x, *format_, TILE))


@pytest.mark.parametrize("format_", [(2, 5), (4, 3)])
def test_stochastic_is_that_of_the_authors_for_the_same_noise(format_):
  """Up where U < fraction; theirs where U >= 1 - fraction."""
  x = tensor()
  key = jax.random.key(4)
  y = minifloat.quantize(x, minifloat.Minifloat(*format_), TILE, key=key)
  noise = np.asarray(jax.random.uniform(key, x.shape))
  # 1 - U is in (0, 1]; a little less rounds as they do at U = fraction.
  theirs = oracle(x, *format_, TILE, np.nextafter(1.0 - np.float64(noise), 0))
  bfp_oracle.assert_same_bits(y, theirs)


def test_stochastic_is_unbiased():
  x = np.tile(np.float32([1.0, 0.71, -0.33, 0.05]), (4000, 1))
  format_ = minifloat.Minifloat(2, 2)
  y = minifloat.quantize(x, format_, (1, 0), key=jax.random.key(0))
  error = np.mean(np.asarray(y) - x, axis=0)
  assert np.abs(error).max() < 4.5 * 0.125 * 0.5 / np.sqrt(len(x))


@pytest.mark.parametrize(
  ("format_", "expected"),
  [((2, 5), 43.0), ((4, 3), 31.4), ((6, 1), 19.3), ((7, 8), 61.6)],
)
def test_signal_to_noise_of_gaussian(format_, expected):
  """docs/facts/bitq.md 4.1: N(0, 1), blocks of 32."""
  x = np.random.default_rng(1).standard_normal((7680, 32)).astype(np.float32)
  y = minifloat.quantize(x, as_data(format_), (1, 32), "nearest")
  noise = np.mean((np.float64(y) - x) ** 2)
  found = 10 * np.log10(np.mean(np.float64(x) ** 2) / noise)
  assert abs(found - expected) < 0.1


def test_one_exponent_bit_is_block_floating_point():
  x = tensor()
  x[np.abs(x) < 1e-20] = 0  # 1e-28 is the floor here
  zero = bfp_oracle.largest_of_blocks(np.abs(x), TILE) == 0
  for mantissa_bits in (1, 4, 7):
    y = apply(x, (1, mantissa_bits))
    expected = bfp_oracle.by_formula(x, mantissa_bits + 2, TILE, "nearest")
    bfp_oracle.assert_same_bits(y, np.where(zero, np.float32(0), expected))


elements = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)
TENSORS = hnp.arrays(np.float32, SHAPE, elements=elements)
settings = hypothesis.settings(max_examples=25, deadline=None)


@hypothesis.given(TENSORS, st.sampled_from(FORMATS))
@settings
def test_definition_idempotence_and_number_of_values(x, format_):
  y = apply(x, format_)
  bfp_oracle.assert_same_bits(y, oracle(x, *format_, TILE))
  bfp_oracle.assert_same_bits(apply(y, format_), y)
  for block in bfp_oracle.blocks_of(SHAPE, TILE):
    assert len(np.unique(y[block])) <= 2 ** (1 + sum(format_))


@hypothesis.given(TENSORS, st.sampled_from(FORMATS), st.integers(-30, 60))
@settings
def test_scaled_with_powers_of_two(x, format_, shift):
  """Above the authors' floor of 1e-28, and where all numbers are normal."""
  x = np.where(np.abs(x) < 2.0**-30, np.float32(0), x)
  x[bfp_oracle.largest_of_blocks(np.abs(x), TILE) == 0] = 1
  factor = np.float32(2.0**shift)
  scaled = apply(x * factor, format_)
  bfp_oracle.assert_same_bits(scaled, apply(x, format_) * factor)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_block_with_a_value_that_is_not_finite_is_nan(bad):
  x = np.ones(SHAPE, np.float32)
  x[3, 20] = bad
  y = apply(x, (2, 5)).copy()
  assert np.isnan(y[2:4, 16:32]).all()
  y[2:4, 16:32] = 1
  np.testing.assert_array_equal(y, 1)


def test_gradient_passes_to_all():
  g = jnp.asarray(tensor()[:, ::-1])
  quantize = lambda x: minifloat.quantize(x, as_data((2, 3)), TILE, "nearest")
  (dx,) = jax.vjp(quantize, jnp.asarray(tensor()))[1](g)
  np.testing.assert_array_equal(dx, g)


@pytest.mark.parametrize(
  ("arguments", "match"),
  [
    (dict(format_=(0, 5)), "exponent_bits is 0, expected 1 .. 8"),
    (dict(format_=(2, 0)), "mantissa_bits is 0, expected 1 .. 22"),
    (dict(format_=(2, 5.0)), "mantissa_bits is 5.0"),
    (dict(rounding="up"), "rounding is 'up'"),
    (dict(rounding="stochastic"), "needs a key"),
    (dict(tile=(2,)), "expected one size for each axis"),
    (dict(x=jnp.ones((2, 2), jnp.bfloat16)), "x is bfloat16"),
  ],
)
def test_bad_arguments_are_named(arguments, match):
  good = dict(
    x=jnp.ones((2, 2)), format_=(2, 5), tile=(2, 2), rounding="nearest"
  )
  arguments = good | arguments
  arguments["format_"] = minifloat.Minifloat(*arguments["format_"])
  with pytest.raises(ValueError, match=match):
    minifloat.quantize(**arguments)


@pytest.mark.parametrize("format_", [(0, 5), (9, 5), (2, 0), (2, 23)])
def test_bad_formats_that_are_traced_give_nan(format_):
  assert np.isnan(apply(tensor(), format_)).all()


def test_bfp_agrees_on_the_largest_exponent():
  """Both cut the exponent out of the same bits."""
  x = tensor()
  assert int(bfp.top_exponent(x)) == floor_log2(np.float64(np.abs(x).max()))
