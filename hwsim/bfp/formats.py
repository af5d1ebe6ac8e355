"""What block floating point formats cost in bits, as exact fractions.

A block of elements shares one exponent of `e` bits and every element has `X`
bits, its sign included: X + e / BS bits per element. BitQ takes the exponent's
bits from the elements (Xu et al., "BitQ", eq. 6): X = q_b - SE and e = SE.
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hwsim.reading import shown

SHARED_EXPONENT_BITS = {16: (2, 3, 4, 5, 6, 7), 8: (2, 3, 4, 5, 6)}
"""Widths SE of the paper's search, by word (BitQ, table 2)."""

BLOCK_SIZES = (1, 2, 4, 8, 16, 24, 32, 48)
"""Block sizes BS of the paper's search, in elements (BitQ, table 2)."""


class BlockFormat(NamedTuple):
  """Bits of a block of elements with one exponent; made by `block_format`.

  Attributes:
    element_bits: X, of one element, sign included.
    exponent_bits: e, of what a block shares; 0 if it shares nothing.
    block_size: elements that share an exponent.
    spans_kernel: a weight block is `block_size` whole kernels, so that
      block_size Kw Kh weights share an exponent, as eq. 6 has it. False: a
      block is `block_size` weights.
  """

  element_bits: int
  exponent_bits: int
  block_size: int
  spans_kernel: bool = True

  @property
  def activation_bits(self) -> Fraction:
    """Bits of one activation, its share of the exponent included."""
    return self.element_bits + Fraction(self.exponent_bits, self.block_size)

  def weight_bits(self, kernel_area: int) -> Fraction:
    """Bits of one weight of a layer with kernels of `kernel_area` = Kw Kh."""
    size = self.block_size * (kernel_area if self.spans_kernel else 1)
    return self.element_bits + Fraction(self.exponent_bits, size)


FP32 = BlockFormat(32, 0, 1)


def block_format(
  element_bits: int,
  exponent_bits: int,
  block_size: int,
  spans_kernel: bool = True,
) -> BlockFormat:
  """A checked `BlockFormat`: any X, e and BS.

  Raises:
    ValueError: X or BS is below 1, e is negative, or one of them is no whole
      number or more than any format has.
  """
  for name, value, least, what, most in (
    ("element_bits", element_bits, 1, "a sign", 64),
    ("exponent_bits", exponent_bits, 0, "no exponent", 64),
    ("block_size", block_size, 1, "one element", 2**31 - 1),
  ):
    is_whole = isinstance(value, int | np.integer)
    if not is_whole or isinstance(value, bool) or not least <= value <= most:
      raise ValueError(
        f"block format: {name} is {shown(value)}, expected a whole number, at "
        f"least {least} ({what}) and at most {most}"
      )
  if not isinstance(spans_kernel, bool):
    raise ValueError(
      f"block format: spans_kernel is {shown(spans_kernel)}, expected a bool"
    )
  return BlockFormat(element_bits, exponent_bits, block_size, spans_kernel)


def bitq_format(
  word_bits: int, shared_exponent_bits: int, block_size: int
) -> BlockFormat:
  """The format <SE, BS> of a word of q_b bits: X = q_b - SE, e = SE (eq. 6).

  Raises:
    ValueError: SE is below 1 or leaves no sign and mantissa bit; BS is below 1.
  """
  if not 1 <= shared_exponent_bits <= word_bits - 2:
    raise ValueError(
      f"a shared exponent of {shared_exponent_bits} bits leaves "
      f"{word_bits - shared_exponent_bits} of {word_bits} bits to an element; "
      f"it needs a sign and a mantissa: give 1 to {word_bits - 2}"
    )
  return block_format(
    word_bits - shared_exponent_bits, shared_exponent_bits, block_size
  )


def bitq_grid(word_bits: int) -> tuple[BlockFormat, ...]:
  """The formats of the paper's search: 48 of 16 bits, or 40 of 8 bits."""
  if word_bits not in SHARED_EXPONENT_BITS:
    raise ValueError(
      f"word_bits is {word_bits}, expected one of "
      f"{tuple(SHARED_EXPONENT_BITS)}; make others with bitq_format"
    )
  return tuple(
    bitq_format(word_bits, se, bs)
    for se, bs in itertools.product(
      SHARED_EXPONENT_BITS[word_bits], BLOCK_SIZES
    )
  )


def common_denominator(prices: Sequence[Fraction | int | float]) -> int:
  """The least number that makes every price an integer (floats are dyadic)."""
  return math.lcm(*(Fraction(price).denominator for price in prices))


def scaled(
  prices: Sequence[Fraction | int | float], denominator: int
) -> np.ndarray:
  """Prices in units of 1 / denominator bits: int64, exactly.

  Raises:
    ValueError: a price is not positive or no multiple of the unit.
  """
  units = [Fraction(price) * denominator for price in prices]
  for price, unit in zip(prices, units, strict=True):
    if unit.denominator != 1 or unit <= 0:
      raise ValueError(
        f"{price} bits per element: expected a positive multiple of "
        f"1/{denominator}"
      )
  return np.array([int(unit) for unit in units], np.int64)
