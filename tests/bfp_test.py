"""Block floating point against exact arithmetic, and its definition."""

import functools

import bfp_oracle
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_SHIPPED

from fbq.quantizers import bfp, blocks
from fbq.train.steps import compile_once

SIZES = (*bfp.BLOCK_SIZES, 0)
DETERMINISTIC = ("nearest", "even", "floor")
WIDTH = 50  # no block size but 1 and 2 divides it
FLOAT = np.finfo(np.float32)


def rows(bits: int) -> np.ndarray:
  """[12, 50]: every kind of block."""
  random = np.random.default_rng(bits)
  normal = random.standard_normal((12, WIDTH)).astype(np.float32)
  signs = np.sign(normal)
  x = normal.copy()
  x[0] *= np.exp2(random.integers(-30, 31, WIDTH))
  x[1] *= np.float32(2.0**-30)
  x[2] = signs[2] * np.exp2(random.integers(-20, 21, WIDTH))  # powers of two
  step = 2.0 ** -(bits - 2)
  ties = (random.integers(0, 2 ** (bits - 1), WIDTH) + 0.5) * step
  x[3], x[4] = signs[3] * ties, signs[4] * ties * 2.0**-100
  # One unit in the last place to either side of a tie.
  x[5] = np.nextafter(np.float32(ties), np.float32(3) * signs[5])
  x[6] = 0
  x[6, 25:] = -0.0
  x[7] = normal[7] * FLOAT.smallest_subnormal * 2**22  # subnormal
  x[8, ::3] = FLOAT.tiny * 2.0 ** random.integers(0, 20, WIDTH)[::3]
  x[8, 1::3] = normal[8, 1::3] * FLOAT.tiny
  x[8, 2::3] = x[7, 2::3]
  x[9] *= FLOAT.tiny * 4
  x[10] = np.float32(signs[10] * FLOAT.max)
  x[10, 1::2] = normal[10, 1::2] * 2.0**125
  x[11, :] = 2.0 ** -(bits - 2) * (0.5 - 2.0**-25)  # rounds up if 0.5 is added
  x[11, ::9] = 1.0
  return x


@functools.cache
def compiled(axis: int, mode: str, shape=(3, 4, WIDTH)):
  """One function for all formats, which is compiled once for a `shape`."""
  del shape

  def quantize(x, format_, top):
    return bfp.quantize(x, format_, axis, None, top, mode, sizes=SIZES)

  return compile_once(quantize, compiler_options=AS_SHIPPED)


def as_data(bits, exponent_bits, block_size) -> bfp.Format:
  return bfp.Format(*map(np.int32, (bits, exponent_bits, block_size)))


@pytest.mark.parametrize(
  ("axis", "mode"),
  [(0, "nearest"), (1, "nearest"), (2, "nearest"), (2, "even"), (2, "floor")],
)
def test_grid_of_formats_is_exact(axis, mode):
  """The formats and inputs of docs/facts/bitq.md 4.2, from one compilation."""
  for bits in range(2, 17):
    x = np.moveaxis(rows(bits).reshape(3, 4, WIDTH), 2, axis).copy()
    for size in SIZES:
      tile = blocks.tile_of(3, axis, None, size)
      expected = bfp_oracle.by_formula(x, bits, tile, mode)
      y = compiled(axis, mode, x.shape)(x, as_data(bits, 8, size), jnp.int32(0))
      bfp_oracle.assert_same_bits(y, expected)
      if bits in (2, 5, 16):
        again = bfp_oracle.by_integers(x, bits, tile, mode)
        bfp_oracle.assert_same_bits(again, expected)


@pytest.mark.parametrize("mode", DETERMINISTIC)
def test_few_exponent_bits_are_exact(mode):
  """Blocks above, within and below the range, and the ends of FP32's own."""
  for exponent_bits in range(1, 9):
    x = rows(exponent_bits + 4).reshape(3, 4, WIDTH)
    for top in (-126, -30, 0, 1, 5, 126, 127):
      for bits, size in ((2, 16), (9, 8), (16, 0)):
        tile = blocks.tile_of(3, 2, None, size)
        arguments = x, bits, tile, mode, exponent_bits, top
        expected = bfp_oracle.by_formula(*arguments)
        y = compiled(2, mode, x.shape)(
          x, as_data(bits, exponent_bits, size), jnp.int32(top)
        )
        bfp_oracle.assert_same_bits(y, expected)
        again = bfp_oracle.by_integers(*arguments)
        bfp_oracle.assert_same_bits(again, expected)


@pytest.mark.parametrize("size", [4, 5, 24, 48, 0, 64])
@pytest.mark.parametrize("axis", [1, -1])
def test_block_size_fixed_is_as_exact(axis, size):
  x = np.moveaxis(rows(7).reshape(3, 4, WIDTH), 2, axis).copy()
  tile = blocks.tile_of(3, axis, None, size)
  expected = bfp_oracle.by_formula(x, 7, tile, "nearest")
  y = jax.jit(lambda x: bfp.quantize(x, bfp.Format(7, 8, size), axis))(x)
  bfp_oracle.assert_same_bits(y, expected)


@pytest.mark.parametrize("over", [{0: 0, 1: 0}, {0: 2, -1: 3}])
def test_blocks_extend_over_other_axes(over):
  """Kernels of eq. 6, and the boxes of FlexBlock."""
  x = np.random.default_rng(0).standard_normal((3, 3, 20, 7)).astype(np.float32)
  tile = tuple({a % 4: s for a, s in over.items()}.get(a, 1) for a in range(4))
  tile = (*tile[:2], 8, tile[3])
  for format_ in (bfp.Format(6, 8, 8), as_data(6, 8, 8)):
    y = bfp.quantize(jnp.asarray(x), format_, 2, over, sizes=(8, 16))
    bfp_oracle.assert_same_bits(y, bfp_oracle.by_formula(x, 6, tile, "nearest"))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("size", [8, 16])
def test_block_with_a_value_that_is_not_finite_is_nan(bad, size):
  x = np.ones((2, 48), np.float32)
  x[1, 20] = bad
  first = 20 // size * size
  for exponent_bits, top in ((8, None), (3, 0), (3, None)):
    format_ = bfp.Format(4, exponent_bits, size)
    y = np.array(bfp.quantize(x, format_, top=top))
    assert np.isnan(y[1, first : first + size]).all()
    y[1, first : first + size] = 1
    np.testing.assert_array_equal(y, 1)


def test_top_is_that_of_the_tensor_by_default():
  x = rows(6)[:5]
  y = bfp.quantize(x, bfp.Format(6, 3, 16))
  top = int(bfp.top_exponent(x))
  assert top == np.frexp(np.abs(x).max())[1] - 1
  expected = bfp_oracle.by_formula(x, 6, (1, 16), "nearest", 3, top)
  bfp_oracle.assert_same_bits(y, expected)


def test_top_exponent_at_the_ends():
  top = lambda *values: int(bfp.top_exponent(jnp.float32(values)))
  assert top(0.0, -0.0) == top(1e-40) == top() == -126
  assert top(-1.0, 0.5) == 0
  assert top(FLOAT.max) == top(np.nan) == top(1.0, -np.inf) == 127


@pytest.mark.parametrize(
  ("bits", "expected"),
  [(2, 5.4), (3, 11.5), (4, 17.5), (5, 23.6), (6, 29.6), (8, 41.6), (9, 47.7)]
  + [(14, 77.8)],
)
def test_signal_to_noise_of_gaussian(bits, expected):
  """docs/facts/bitq.md 4.1: N(0, 1), blocks of 32."""
  x = np.random.default_rng(1).standard_normal((7680, 32)).astype(np.float32)
  y = compiled(1, "nearest", x.shape)(x, as_data(bits, 8, 32), jnp.int32(0))
  noise = np.mean((np.float64(y) - x) ** 2)
  found = 10 * np.log10(np.mean(np.float64(x) ** 2) / noise)
  assert abs(found - expected) < 0.1


SHAPE = (3, 26)
FORMATS = st.tuples(
  st.integers(2, 16), st.integers(1, 8), st.sampled_from(SIZES)
)
MODERATE = st.integers(-2000, 2000).map(lambda v: v / 16) | st.floats(
  2.0**-20, 2.0**20, width=32
)
TENSORS = hnp.arrays(np.float32, SHAPE, elements=MODERATE)
MODES = st.sampled_from(DETERMINISTIC)
TOPS = st.integers(-12, 12)
settings = hypothesis.settings(max_examples=25, deadline=None)


def apply(mode, x, format_, top):
  return np.asarray(
    compiled(1, mode, x.shape)(x, as_data(*format_), jnp.int32(top))
  )


@hypothesis.given(TENSORS, FORMATS, MODES, TOPS)
@settings
def test_idempotent(x, format_, mode, top):
  y = apply(mode, x, format_, top)
  bfp_oracle.assert_same_bits(apply(mode, y, format_, top), y)


@hypothesis.given(TENSORS, FORMATS, MODES, TOPS, st.integers(-60, 60))
@settings
def test_scaled_with_powers_of_two(x, format_, mode, top, shift):
  factor = np.float32(2.0**shift)
  scaled = apply(mode, x * factor, format_, top + shift)
  bfp_oracle.assert_same_bits(scaled, apply(mode, x, format_, top) * factor)


@hypothesis.given(TENSORS, FORMATS, MODES, TOPS)
@settings
def test_no_more_codes_than_bits_allow(x, format_, mode, top):
  """Every block is integers of X bits times one power of two of SE bits."""
  bits, exponent_bits, size = format_
  y = np.float64(apply(mode, x, format_, top))
  lowest, highest = bfp_oracle.exponent_range(exponent_bits, top)
  for block in bfp_oracle.blocks_of(SHAPE, (1, size)):
    largest = np.abs(y[block]).max()
    exponent = max(np.frexp(largest)[1] - 1 if largest else lowest, lowest)
    assert exponent <= highest
    codes = y[block] / 2.0 ** (exponent - (bits - 2))
    np.testing.assert_array_equal(codes, np.rint(codes))
    assert np.abs(codes).max() <= 2 ** (bits - 1) - 1


@hypothesis.given(TENSORS, FORMATS, MODES, TOPS, st.integers(0, 2))
@settings
def test_samples_do_not_depend_on_each_other(x, format_, mode, top, changed):
  y = apply(mode, x, format_, top)
  other = x.copy()
  other[changed] = other[changed, ::-1] * 1000
  rest = np.arange(3) != changed
  bfp_oracle.assert_same_bits(apply(mode, other, format_, top)[rest], y[rest])


def test_error_is_at_most_one_step():
  x = np.random.default_rng(2).standard_normal((64, 32)).astype(np.float32)
  largest = np.abs(x).max(axis=1, keepdims=True)
  step = 2.0 ** (np.floor(np.log2(largest)) - 4)
  for mode, most in (("nearest", 0.5), ("even", 0.5), ("floor", 1.0)):
    error = np.abs(bfp.quantize(x, bfp.Format(6, 8, 32), rounding=mode) - x)
    clipped = largest >= 31.5 * step
    assert (error <= np.where(clipped, 1.0, most) * step).all()


def test_gradient_stops_where_the_range_ends_only():
  x = jnp.float32([[0.3, -1.99, 1.99, 2.0, -5.0, 1e-9, 0.0, 1.0]])
  g = jnp.arange(1.0, 9.0)[None]

  def gradient(format_, top):
    quantize = lambda x: bfp.quantize(x, format_, top=top, sizes=(4,))
    return jax.vjp(quantize, x)[1](g)[0]

  clipped = g * (jnp.abs(x) < 2)
  for size in (4, jnp.int32(4)):
    few = bfp.Format(4, 2, size)
    np.testing.assert_array_equal(gradient(few, 0), clipped)
    np.testing.assert_array_equal(gradient(few, 2), g)
    np.testing.assert_array_equal(gradient(few, None), g)
    np.testing.assert_array_equal(gradient(bfp.Format(4, 8, size), 0), g)


def test_stochastic_rounding_is_unbiased_and_stays_on_the_grid():
  x = np.linspace(-1.75, 1.75, 15, dtype=np.float32)[None]  # largest 1.75
  format_ = bfp.Format(3, 8, 0)  # step 0.5, largest 1.5
  count = 4000

  def draw(seed, rows=1):
    copies = np.tile(x, (rows, 1))
    key = jax.random.key(seed)
    return np.asarray(
      bfp.quantize(copies, format_, rounding="stochastic", key=key)
    )

  y = draw(0, count)
  below = np.floor(x / 0.5) * 0.5
  is_next = (y == below) | (y == below + 0.5)
  assert (is_next | ((np.abs(x) > 1.5) & (np.abs(y) == 1.5))).all()
  inside = np.abs(x[0]) <= 1.5
  deviation = 0.25 / np.sqrt(count)  # of a mean, at most
  assert np.abs((y.mean(axis=0) - x[0])[inside]).max() < 4.5 * deviation
  np.testing.assert_array_equal(draw(5, 9), draw(5, 9))
  assert (draw(5, 9) != draw(6, 9)).any()


@pytest.mark.parametrize(
  ("format_", "match"),
  [
    ((1, 8, 16), "bits is 1, expected 2 .. 25"),
    ((26, 8, 16), "bits is 26, expected 2 .. 25"),
    ((8.0, 8, 16), "bits is 8.0"),
    ((8, 0, 16), "exponent_bits is 0, expected 1 .. 8"),
    ((8, 9, 16), "exponent_bits is 9, expected 1 .. 8"),
    ((8, 8, -1), "block_size is -1, expected at least 1"),
    ((8, 8, np.array(12)), "block_size is 12, expected one of"),
  ],
)
def test_bad_formats_are_named(format_, match):
  with pytest.raises(ValueError, match=match):
    bfp.quantize(jnp.ones(4), bfp.Format(*format_))


@pytest.mark.parametrize(
  "format_", [(1, 8, 16), (26, 8, 16), (8, 0, 16), (8, 9, 16), (8, 8, 12)]
)
def test_bad_formats_that_are_traced_give_nan(format_):
  x = rows(4)[:3].reshape(3, 1, WIDTH).repeat(4, 1)
  y = compiled(2, "nearest", x.shape)(x, as_data(*format_), jnp.int32(3))
  assert np.isnan(y).all()


def test_few_exponent_bits_are_as_good_as_8_within_their_range():
  """microxcaling's scale of 5 bits: exponents -15 .. 15."""
  random = np.random.default_rng(6)
  x = random.uniform(1, 2, (3, 4, WIDTH)) * np.exp2(
    random.integers(-15, 16, (3, 4, WIDTH))
  )
  x = x.astype(np.float32)
  few = compiled(2, "nearest")(x, as_data(5, 5, 8), jnp.int32(15))
  all_ = compiled(2, "nearest")(x, as_data(5, 8, 8), jnp.int32(15))
  bfp_oracle.assert_same_bits(few, all_)


@pytest.mark.parametrize(
  ("arguments", "match"),
  [
    (dict(rounding="up"), "rounding is 'up', expected one of"),
    (dict(rounding="stochastic"), "needs a key"),
    (dict(key=jax.random.key(0)), "which draws nothing"),
    (dict(axis=2), "axis is 2 and over {} for 2 axes"),
    (dict(axis=1, over={-1: 0}), "axis is 1 and over {-1: 0} for 2 axes"),
    (dict(over={0: -3}), "expected one size for each axis"),
  ],
)
def test_bad_arguments_are_named(arguments, match):
  with pytest.raises(ValueError, match=match):
    bfp.quantize(jnp.ones((2, 4)), bfp.Format(8, 8, 2), **arguments)


@pytest.mark.parametrize("x", [jnp.ones(4, jnp.bfloat16), jnp.float32(1)])
def test_bad_tensors_are_named(x):
  with pytest.raises(ValueError, match="expected float32"):
    bfp.quantize(x, bfp.Format(8, 8, 2))


def test_tensor_without_elements():
  y = bfp.quantize(jnp.ones((0, 8)), bfp.Format(8, 4, 2))
  assert y.shape == (0, 8)
