"""Packed integers against the bits written out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbq.deploy import packing


def test_the_first_integer_lies_in_the_lowest_bits():
  assert packing.pack(np.array([1, 2]), 4).tolist() == [0x21]
  assert packing.pack(np.array([1, 2, 3, 0]), 2).tolist() == [0b00111001]
  assert packing.pack(np.array([-1, -8]), 4).tolist() == [0x8F]
  assert packing.pack(np.array([-2, 1, -1, 0]), 2).tolist() == [0b00110110]
  assert packing.pack(np.array([-1, 127]), 8).tolist() == [255, 127]
  # A row that does not fill its byte is filled up.
  assert packing.pack(np.array([[3], [5]]), 4).tolist() == [[3], [5]]


@given(
  st.sampled_from(packing.BITS),
  st.booleans(),
  st.integers(1, 3),
  st.integers(1, 17),
  st.integers(0, 2**32 - 1),
)
def test_unpacking_gives_back_what_was_packed(bits, signed, rows, count, seed):
  low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
  codes = np.random.default_rng(seed).integers(low, high, (rows, count))
  packed = packing.pack(codes, bits)
  assert packed.dtype == np.uint8
  assert packed.shape == (rows, -(-count * bits // 8))
  np.testing.assert_array_equal(
    packing.unpack(packed, bits, count, signed), codes
  )


def test_weights_lie_by_output_channel_then_pixel_then_input_channel():
  weight = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
  rows = packing.weights_in_memory("conv", weight)
  assert rows.shape == (5, 24)
  assert rows[1, :5].tolist() == [weight[0, 0, i, 1] for i in range(4)] + [
    weight[0, 1, 0, 1]
  ]
  depthwise = packing.weights_in_memory("depthwise", weight[:, :, :1])
  assert depthwise[2].tolist() == weight[:, :, 0, 2].ravel().tolist()
  linear = packing.weights_in_memory("linear", weight[0, 0])
  assert linear[3].tolist() == weight[0, 0, :, 3].tolist()


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="from -9 to 0 do not fit 4 bits"):
    packing.pack(np.array([-9, 0]), 4)
  with pytest.raises(ValueError, match="bits is 3"):
    packing.pack(np.array([0]), 3)
