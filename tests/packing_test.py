"""Packed integers against the bits written out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.deploy import packing


def test_the_first_integer_lies_in_the_lowest_bits():
  assert packing.pack(np.array([1, 2]), 4).tolist() == [0x21]
  assert packing.pack(np.array([1, 2, 3, 0]), 2).tolist() == [0b00111001]
  assert packing.pack(np.array([-1, -8]), 4).tolist() == [0x8F]
  assert packing.pack(np.array([-2, 1, -1, 0]), 2).tolist() == [0b00110110]
  assert packing.pack(np.array([-1, 127]), 8).tolist() == [255, 127]
  # Widths that do not divide a byte go on in the next one
  assert packing.pack(np.array([5, 3, 6]), 3).tolist() == [0b10011101, 1]
  # Rows go on where others end; zeros fill the last byte.
  assert packing.pack(np.array([[3], [5], [7]]), 4).tolist() == [0x53, 7]


@settings(deadline=None)
@given(
  st.sampled_from(packing.BITS),
  st.booleans(),
  st.integers(1, 17),
  st.integers(0, 2**32 - 1),
)
def test_unpacking_gives_back_what_was_packed(bits, signed, count, seed):
  low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
  codes = np.random.default_rng(seed).integers(low, high, count)
  packed = packing.pack(codes, bits)
  assert packed.dtype == np.uint8 and len(packed) == -(-count * bits // 8)
  np.testing.assert_array_equal(
    packing.unpack(packed, bits, count, signed), codes
  )


def test_weights_lie_by_output_channel_then_pixel_then_input_channel():
  weight = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
  found = packing.to_memory("conv", weight, 4)
  expected = [
    weight[y, x, i, o]
    for o in range(5)
    for y in range(2)
    for x in range(3)
    for i in range(4)
  ]
  assert found.tolist() == expected
  linear = packing.to_memory("linear", weight[0, 0], 2)
  assert linear.tolist() == weight[0, 0].T.ravel().tolist()


def test_channels_of_a_depthwise_layer_share_bytes_below_8_bits():
  weight = np.arange(2 * 3 * 8).reshape(2, 3, 1, 8)
  channel = lambda c: [weight[y, x, 0, c] for y in range(2) for x in range(3)]
  alone = packing.to_memory("depthwise", weight, 8)
  assert alone.tolist() == sum((channel(c) for c in range(8)), [])
  for bits, group in ((4, 2), (2, 4)):
    found = packing.to_memory("depthwise", weight, bits)
    last = [channel(c) for c in range(8 - group, 8)]
    expected = [x for pixel in zip(*last, strict=True) for x in pixel]
    assert found[-6 * group :].tolist() == expected


@pytest.mark.parametrize("bits", packing.BITS)
def test_memory_gives_back_the_weights(bits):
  weight = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
  for op, each in (
    ("conv", weight),
    ("depthwise", weight[:, :, :1]),
    ("depthwise", weight[:, :, :1, :5]),
    ("linear", weight[0, 0]),
  ):
    codes = packing.to_memory(op, each, bits)
    found = packing.from_memory(op, codes, bits, each.shape)
    np.testing.assert_array_equal(found, each)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match="from -9 to 0 do not fit 4 bits"):
    packing.pack(np.array([-9, 0]), 4)
  with pytest.raises(ValueError, match="bits is 9"):
    packing.pack(np.array([0]), 9)
