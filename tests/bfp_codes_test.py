"""Integers and bytes of block floating point: nothing is lost."""

import bfp_oracle
import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from fbq.quantizers import bfp, bfp_codes, blocks


def normal(shape, seed=0) -> np.ndarray:
  random = np.random.default_rng(seed)
  x = random.standard_normal(shape) * np.exp2(random.integers(-9, 9, shape))
  return x.astype(np.float32)


CASES = [
  # shape, format, axis, over, top
  ((2, 5, 5, 24), bfp.Format(8, 8, 16), -1, None, None),
  ((2, 50), bfp.Format(9, 7, 48), 1, None, None),
  ((3, 3, 20, 6), bfp.Format(4, 3, 8), 2, {0: 0, 1: 0}, None),
  ((7, 6), bfp.Format(2, 1, 0), 0, None, 2),
  ((4, 9), bfp.Format(16, 2, 1), 1, None, -3),
  ((4, 9), bfp.Format(25, 5, 4), 0, {1: 5}, 9),
]


@pytest.mark.parametrize(("shape", "format_", "axis", "over", "top"), CASES)
def test_decoded_tensor_is_the_quantized_one(shape, format_, axis, over, top):
  x = normal(shape)
  arguments = format_, axis, over, top
  encoded = bfp_codes.encode(x, *arguments)
  y = bfp.quantize(x, *arguments)
  bfp_oracle.assert_same_bits(bfp_codes.decode(encoded), y)
  data = bfp_codes.pack(encoded)
  tile = blocks.tile_of(x.ndim, axis, over, format_.block_size)
  bits = bfp_codes.storage_bits(shape, tile, *format_[:2])
  assert len(data) == -(-bits // 8)
  again = bfp_codes.unpack(data, shape, tile, *format_[:2])
  assert again.bias == encoded.bias and again.tile == encoded.tile
  for one, other in (
    (again.codes, encoded.codes),
    (again.exponents, encoded.exponents),
  ):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)
  bfp_oracle.assert_same_bits(bfp_codes.decode(again), y)


def test_stochastic_codes_are_those_of_the_same_key():
  x, key = normal((4, 32)), jax.random.key(3)
  format_ = bfp.Format(4, 8, 16)
  y = bfp.quantize(x, format_, rounding="stochastic", key=key)
  encoded = bfp_codes.encode(x, format_, rounding="stochastic", key=key)
  bfp_oracle.assert_same_bits(bfp_codes.decode(encoded), y)


def test_layout_of_the_bytes():
  """Worked by hand: SE 3 with top 1 holds exponents -6 .. 1."""
  x = np.float32([[3.0, -1.0, 0.25, -0.75]])
  encoded = bfp_codes.encode(x, bfp.Format(4, 3, 2), top=1)
  np.testing.assert_array_equal(encoded.codes, [[6, -2, 2, -6]])
  np.testing.assert_array_equal(encoded.exponents, [[7, 5]])
  assert (encoded.bias, encoded.codes.dtype) == (-6, np.int8)
  stream = "1111111111111010" + "111101" + "0110" + "1010" + "0010" + "1110"
  expected = int(stream + "00", 2).to_bytes(5, "big")
  assert bfp_codes.pack(encoded) == expected


@pytest.mark.parametrize(
  ("total", "exponent_bits", "size"), [(16, 7, 48), (16, 2, 8), (8, 6, 24)]
)
def test_size_is_that_of_equation_6(total, exponent_bits, size):
  """q = (q_b - SE) + SE / BS, BS Kw Ky for kernels, and 16 bits of bias."""
  format_ = bfp.Format(total - exponent_bits, exponent_bits, size)
  count = 3 * 3 * 96 * 10
  for tile, block in (((1, 1, size, 1), size), ((0, 0, size, 1), 9 * size)):
    q = (total - exponent_bits) + exponent_bits / block
    bits = bfp_codes.storage_bits((3, 3, 96, 10), tile, *format_[:2])
    assert bits == count * q + 16


def test_short_blocks_store_a_whole_exponent_and_no_zeros():
  bits = bfp_codes.storage_bits((5, 50), (1, 48), 9, 7)
  assert bits == 16 + 5 * 2 * 7 + 5 * 50 * 9


@hypothesis.given(
  st.integers(2, 25), st.integers(1, 8), st.integers(0, 2**32 - 1)
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_any_codes_survive_packing(bits, exponent_bits, seed):
  random = np.random.default_rng(seed)
  largest = 2 ** (bits - 1) - 1
  codes = random.integers(-largest, largest, (3, 7), endpoint=True)
  encoded = bfp_codes.Encoded(
    codes.astype(bfp_codes.code_type(bits)),
    random.integers(0, 2**exponent_bits, (3, 2)).astype(np.uint8),
    int(random.integers(-254, 128)),
    bits,
    exponent_bits,
    (1, 5),
  )
  data = bfp_codes.pack(encoded)
  again = bfp_codes.unpack(data, (3, 7), (1, 5), bits, exponent_bits)
  np.testing.assert_array_equal(again.codes, encoded.codes)
  np.testing.assert_array_equal(again.exponents, encoded.exponents)
  assert again.bias == encoded.bias


def test_codes_take_the_smallest_type():
  assert [bfp_codes.code_type(b) for b in (2, 8, 9, 16, 17, 25)] == (
    [np.int8] * 2 + [np.int16] * 2 + [np.int32] * 2
  )


def test_bad_input_is_named():
  x = normal((4, 8))
  with pytest.raises(ValueError, match="bits is 1, expected 2 .. 25"):
    bfp_codes.encode(x, bfp.Format(1, 8, 4))
  with pytest.raises(ValueError, match="expected float32"):
    bfp_codes.encode(x.astype(np.float64), bfp.Format(4, 8, 4))
  data = bfp_codes.pack(bfp_codes.encode(x, bfp.Format(4, 8, 4)))
  with pytest.raises(ValueError, match="25 bytes .* expected 26"):
    bfp_codes.unpack(data[:-1], (4, 8), (1, 4), 4, 8)
  x[0, 0] = np.nan
  with pytest.raises(ValueError, match="1 of 32 values are not finite"):
    bfp_codes.encode(x, bfp.Format(4, 8, 4))
