"""Requantization by integers: `clip((acc * mul + add) >> shift, low, high)`.

The integer form of `clip(round(slope * acc + offset), low, high)`, which is
what batch norm, activation function and quantizer do to an accumulator
(docs/facts/quantization.md 3.5). Both are staircases in `acc`, so each is told
by its thresholds, the first accumulators at which a code is reached: comparing
those compares the two at every accumulator there can be, not at samples.

PULP's kernels compute in 32 or 64 bits (`BNRelu_bits` of DORY) with one shift
per layer. In 32 bits accumulator times multiplier has to stay below 2^31, so
layers with long sums get few bits of multiplier; codes then differ by one near
some thresholds, and `agreement` says how many accumulators that concerns.
"""

from typing import NamedTuple

import numpy as np

WIDTHS = (32, 64)
# Multipliers tried on either side of the nearest one.
_NEIGHBOURS = (0, 1, -1, 2, -2, 3, -3)


class Range(NamedTuple):
  """The integers that an accumulator can be, ends included: int64 [C] each."""

  low: np.ndarray
  high: np.ndarray


class Affine(NamedTuple):
  """What an accumulator stands for, in codes of the output: float64 [C] each.

  The reference of this module is `rint(slope * acc + offset)` in float64.
  """

  slope: np.ndarray
  offset: np.ndarray


class Requant(NamedTuple):
  """Constants of `clip((acc * mul + add) >> shift, low, high)`.

  Attributes:
    mul, add: int64 [C], multiplier and addend of each channel.
    shift: bits to shift by, the same for all channels, as the kernels have it.
    low, high: lowest and highest code of the output.
  """

  mul: np.ndarray
  add: np.ndarray
  shift: int
  low: int
  high: int

  def __call__(self, acc: np.ndarray) -> np.ndarray:
    """Codes of accumulators [..., C], in int64: for tests and small tables."""
    codes = (np.asarray(acc, np.int64) * self.mul + self.add) >> self.shift
    return np.clip(codes, self.low, self.high)


class Agreement(NamedTuple):
  """Where a requantization differs from its reference: int64 [C] each.

  Attributes:
    reachable: accumulators there can be.
    differing: accumulators whose codes differ.
    largest: largest difference of codes.
  """

  reachable: np.ndarray
  differing: np.ndarray
  largest: np.ndarray

  @property
  def is_equal(self) -> bool:
    """Whether no accumulator that can occur gives another code."""
    return not self.differing.any()


def reference_codes(
  acc: np.ndarray, affine: Affine, low: int, high: int, half_up: bool = False
) -> np.ndarray:
  """int64 codes that the reference gives accumulators [..., C].

  Args:
    half_up: whether ties are rounded up, as in pools, instead of to even.
  """
  value = affine.slope * acc + affine.offset
  value = np.floor(value + 0.5) if half_up else np.rint(value)
  return np.clip(value, low, high).astype(np.int64)


def fit(
  affine: Affine,
  reach: Range,
  low: int,
  high: int,
  width: int = 32,
  half_up: bool = False,
) -> Requant:
  """The requantization that differs from the reference least often.

  The shift is the largest with which nothing overflows: doubling all constants
  changes nothing, so a larger shift can only be better. Then, per channel, the
  multiplier and addend whose thresholds are nearest to the reference's, among
  the nearest multipliers.

  Args:
    affine: what an accumulator stands for: the reference.
    reach: accumulators there can be, proven from weights and inputs.
    low, high: lowest and highest code of the output.
    width: bits of the arithmetic, 32 or 64.
    half_up: how ties are rounded, see `reference_codes`.

  Raises:
    ValueError: no shift keeps the products below 2^(width - 1).
  """
  if width not in WIDTHS:
    raise ValueError(f"width is {width}, expected one of {WIDTHS}")

  # A channel whose code never changes is made flat first: its slope could only
  # make products overflow, and would take bits of the shift from all others.
  affine = _without_constants(affine, reach, low, high, half_up)
  wanted = reference_thresholds(affine, reach, low, high, half_up)
  shift, sign = _largest_shift(affine, reach, width), _sign(affine)
  codes = np.arange(low + 1, high + 1, dtype=np.int64)[:, None] << shift

  def distance(mul, add):
    """[C]: sum over all accumulators of the difference of codes."""
    ours = _thresholds(mul, add, shift, sign, reach, low, high)
    return np.abs(ours - wanted).sum(0)

  # From the nearest multiplier outwards. Whatever is nearer to the reference
  # over all accumulators, and overflows at none, takes the place of what was
  # found so far.
  mul, add = nearest, addend = _nearest(affine, shift)
  least = distance(mul, add)
  for step in _NEIGHBOURS:
    size = np.maximum(np.abs(nearest) + step, 0)
    for trial in _addends(codes, wanted, size, addend, mirrored(reach, sign)):
      apart = distance(sign * size, trial)
      is_better = (apart < least) & fits(sign * size, trial, reach, width)
      mul = np.where(is_better, sign * size, mul)
      add = np.where(is_better, trial, add)
      least = np.where(is_better, apart, least)
  return Requant(mul, add, shift, low, high)


def fits(
  mul: np.ndarray, add: np.ndarray, reach: Range, width: int
) -> np.ndarray:
  """bool [C]: every product, every sum and both constants have `width` bits.

  Products are linear in the accumulator, so its two ends tell.
  """
  limit = 2.0 ** (min(width, 63) - 1)
  good = (np.abs(mul) < 2**31) & (np.abs(add) < limit)
  for end in reach:
    # In float64, exact below 2^53: int64 might overflow itself. Where 62 bits
    # are allowed of 64, rounding does not matter.
    good &= np.abs(end * np.asarray(mul, np.float64)) < limit
    good &= np.abs(end * np.asarray(mul, np.float64) + add) < limit
  return good


def agreement(
  requant: Requant, affine: Affine, reach: Range, half_up: bool = False
) -> Agreement:
  """Compares a requantization with its reference at every accumulator.

  Raises:
    ValueError: one staircase rises where the other falls.
  """
  low, high = requant.low, requant.high
  sign = _sign(affine)
  if (requant.mul * sign < 0).any():
    raise ValueError("a multiplier has another sign than what it stands for")
  ours = _thresholds(*requant[:3], sign, reach, low, high)
  wanted = reference_thresholds(affine, reach, low, high, half_up)
  start, end = np.minimum(ours, wanted), np.maximum(ours, wanted)
  before = np.vstack([start[:1], end[:-1]])
  differing = np.maximum(end - np.maximum(start, before), 0).sum(0)
  largest = np.zeros_like(differing)
  for by in range(1, len(ours) + 1):  # is one staircase `by` codes above?
    rest = len(ours) + 1 - by
    is_apart = (ours[by - 1 :] < wanted[:rest]) | (
      wanted[by - 1 :] < ours[:rest]
    )
    if not is_apart.any():
      break
    largest[is_apart.any(0)] = by
  return Agreement(reach.high - reach.low + 1, differing, largest)


# ---- thresholds --------------------------------------------------------------
# [high - low, C]: row i is the first accumulator whose code is low + 1 + i or
# more, within reach.low .. reach.high + 1. Where the staircase falls, `sign` is
# -1 and these are thresholds of -acc.


def _sign(affine: Affine) -> np.ndarray:
  return np.where(affine.slope < 0, -1, 1)


def mirrored(reach: Range, sign: np.ndarray) -> Range:
  """The range of -acc for channels whose sign [C] is -1."""
  return Range(
    np.where(sign < 0, -reach.high, reach.low),
    np.where(sign < 0, -reach.low, reach.high),
  )


def reference_thresholds(
  affine: Affine, reach: Range, low: int, high: int, half_up: bool
) -> np.ndarray:
  """int64 [high - low, C]: the first accumulators of the exact codes."""
  reach = mirrored(reach, _sign(affine))
  slope = np.abs(affine.slope)
  codes = np.arange(low + 1, high + 1)[:, None]
  with np.errstate(divide="ignore", invalid="ignore"):
    guess = np.ceil((codes - 0.5 - affine.offset) / slope)
  guess = np.where(np.isnan(guess), reach.low, guess)
  guess = np.clip(guess, reach.low, reach.high + 1)
  first = guess + 2
  for step in (1, 0, -1):  # the staircase itself decides, not the division
    value = slope * (guess + step) + affine.offset
    value = np.floor(value + 0.5) if half_up else np.rint(value)
    first = np.where(value >= codes, guess + step, first)
  first = np.where((slope == 0) & (first > guess), reach.high + 1, first)
  return np.clip(first, reach.low, reach.high + 1).astype(np.int64)


def _thresholds(mul, add, shift, sign, reach, low, high):
  reach = mirrored(reach, sign)
  codes = np.arange(low + 1, high + 1, dtype=np.int64)[:, None] << shift
  size = mul * sign
  first = -((add - codes) // np.maximum(size, 1))
  constant = np.where(add >= codes, reach.low, reach.high + 1)
  first = np.where(size == 0, constant, first)
  return np.clip(first, reach.low, reach.high + 1)


# ---- constants ---------------------------------------------------------------


def is_constant(
  affine: Affine, reach: Range, low: int, high: int, half_up: bool
) -> np.ndarray:
  """bool [C]: whether every accumulator there can be has one code."""
  first, last = (
    reference_codes(end, affine, low, high, half_up) for end in reach
  )
  return first == last


def _without_constants(affine, reach, low, high, half_up):
  """`affine` with channels of one code made flat, which cannot overflow."""
  is_flat = is_constant(affine, reach, low, high, half_up)
  code = reference_codes(reach.low, affine, low, high, half_up)
  return Affine(
    np.where(is_flat, 0.0, affine.slope),
    np.where(is_flat, code, affine.offset),
  )


def _nearest(affine, shift):
  """The nearest multiplier and addend; the half makes `>>` round."""
  scale = 2.0**shift
  return (
    np.rint(affine.slope * scale).astype(np.int64),
    np.rint((affine.offset + 0.5) * scale).astype(np.int64),
  )


def _largest_shift(affine, reach, width):
  limit = 2.0 ** (min(width, 63) - 1)
  for shift in range(31 if width == 32 else 40, -1, -1):
    if max(np.abs(part).max() for part in affine) * 2.0**shift >= limit:
      continue
    if fits(*_nearest(affine, shift), reach, width).all():
      return shift
  worst = int(np.argmax(np.abs(affine.slope) + np.abs(affine.offset)))
  raise ValueError(
    f"no shift keeps {width}-bit requantization from overflowing: channel "
    f"{worst} has slope {affine.slope[worst]:.4g} and offset "
    f"{affine.offset[worst]:.4g} codes" + "; 64 bits hold more" * (width == 32)
  )


def _addends(codes, wanted, size, addend, reach):
  """Addends worth trying with multipliers of a size [C].

  The middle of those that put every threshold where it is wanted, if there are
  any, and the one that does so for the median threshold.
  """
  huge = np.int64(2) ** 62
  least = codes - wanted * size  # acc = wanted must reach the code
  most = least + size - 1  # acc = wanted - 1 must not
  bottom = np.where(wanted <= reach.high, least, -huge).max(0)
  top = np.where(wanted > reach.low, most, huge).min(0)
  is_bound = (bottom > -huge) & (top < huge)
  yield np.where(is_bound, bottom + (top - bottom) // 2, addend)
  inside = (wanted > reach.low) & (wanted <= reach.high)
  centres = np.sort(np.where(inside, least + size // 2, huge), axis=0)
  count = inside.sum(0)
  median = np.take_along_axis(centres, count[None] // 2, axis=0)[0]
  yield np.where(count > 0, median, addend)
