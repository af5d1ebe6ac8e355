"""Block floating point in exact arithmetic, twice.

`by_formula` computes the formula of docs/facts/bitq.md 4.1 in float64, where
every operation on float32 inputs is exact or far from a tie; `by_integers`
shifts the 24-bit significands of the inputs, as hardware would.
"""

import itertools

import numpy as np


def blocks_of(shape, tile):
  """Index of every block, `tile` as in `fbq.quantizers.blocks`."""
  cuts = []
  for size, t in zip(shape, tile, strict=True):
    t = t or max(size, 1)
    cuts.append([slice(i, i + t) for i in range(0, size, t)])
  return itertools.product(*cuts)


def exponent_range(exponent_bits, top):
  """Lowest and highest exponent that the bits hold."""
  top = 127 if exponent_bits == 8 else top
  return max(top - 2**exponent_bits + 1, -126), top


def flushed(x):
  """`x` with 0 for subnormals, as XLA computes."""
  return np.where(np.abs(x) < np.float32(2.0**-126), np.float32(0), x)


def largest_of_blocks(values, tile):
  """The largest of its block for each element."""
  for axis, size in enumerate(values.shape):
    starts = np.arange(0, size, tile[axis] or size)
    counts = np.diff([*starts, size])
    values = np.maximum.reduceat(values, starts, axis).repeat(counts, axis)
  return values


def by_formula(x, bits, tile, mode, exponent_bits=8, top=127):
  x = flushed(x).astype(np.float64)
  largest = largest_of_blocks(np.abs(x), tile)
  lowest, highest = exponent_range(exponent_bits, top)
  exponent = np.where(largest > 0, np.frexp(largest)[1] - 1, lowest)
  step = np.ldexp(1.0, np.clip(exponent, lowest, highest) - (bits - 2))
  magnitude = np.abs(x) / step
  rounded = {
    "nearest": lambda m: np.floor(m + 0.5),
    "even": np.rint,
    "floor": np.floor,
  }[mode](magnitude)
  y = np.sign(x) * np.minimum(rounded, 2 ** (bits - 1) - 1) * step
  return np.where(np.isfinite(largest), y, np.nan).astype(np.float32)


def by_integers(x, bits, tile, mode, exponent_bits=8, top=127):
  """For finite `x`."""
  words = x.astype(np.float32).view(np.uint32).astype(np.int64)
  fields = words >> 23 & 255
  significands = np.where(fields > 0, words & 0x7FFFFF | 0x800000, 0)
  lowest, highest = (e + 127 for e in exponent_range(exponent_bits, top))
  shared = np.clip(largest_of_blocks(fields, tile), lowest, highest)
  # A significand has its leading one at bit 23, a code at bit X - 2. Two bits
  # more, so that half a unit is an integer at any shift.
  shift = (shared - fields) + 23 - (bits - 2)
  value = significands << 2 << np.clip(-shift, 0, 30)
  unit = np.int64(1) << (np.clip(shift, 0, 40) + 2)
  whole, rest = value // unit, value % unit
  up = {
    "nearest": 2 * rest >= unit,
    "even": (2 * rest > unit) | ((2 * rest == unit) & (whole % 2 == 1)),
    "floor": np.zeros(rest.shape, bool),
  }[mode]
  code = np.minimum(whole + up, 2 ** (bits - 1) - 1)
  code = np.where(words >> 31, -code, code)
  return np.ldexp(np.float64(code), shared - 127 - (bits - 2)).astype(
    np.float32
  )


def assert_same_bits(actual, expected):
  """Equal FP32 patterns; -0 is 0, and any NaN is NaN."""
  actual, expected = np.asarray(actual), np.asarray(expected)
  assert actual.dtype == expected.dtype == np.float32
  assert actual.shape == expected.shape
  word = lambda v: np.where(np.isnan(v), np.float32(np.nan), v + 0.0).view(
    np.uint32
  )
  wrong = word(actual) != word(expected)
  assert not wrong.any(), (
    f"{wrong.sum()} of {wrong.size} differ, first {actual[wrong][:3]} for "
    f"{expected[wrong][:3]}"
  )
