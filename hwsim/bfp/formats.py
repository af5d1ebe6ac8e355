"""What block floating point formats cost in bits, as exact fractions.

A block of elements shares one exponent of `e` bits and every element has `X`
bits, its sign included. A block that the end of an axis cuts short has as long
an exponent, so a tensor is priced by the blocks that it is stored in: of `C`
channels in blocks of `BS` an element takes X + e ceil(C / BS) / C bits. BitQ
(Xu et al., eq. 6) charges X + e / BS, which is less wherever BS does not divide
C. It takes the exponent's bits from the elements: X = q_b - SE and e = SE.

Not counted is what a tensor stores once: the bias of its exponents, and zeros
that fill its last byte.
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from hwsim.reading import shown
from hwsim.workload import Layer, Shape

SHARED_EXPONENT_BITS = {16: (2, 3, 4, 5, 6, 7), 8: (2, 3, 4, 5, 6)}
"""Widths SE of the paper's search, by word (BitQ, table 2)."""

BLOCK_SIZES = (1, 2, 4, 8, 16, 24, 32, 48)
"""Block sizes BS of the paper's search, in elements (BitQ, table 2)."""


class BlockFormat(NamedTuple):
  """Bits of a block of elements with one exponent; made by `block_format`.

  Blocks run along the channels of activations, and along the input channels of
  weights: a depthwise kernel has one, so its blocks run along its channels.

  Attributes:
    element_bits: X, of one element, sign included.
    exponent_bits: e, of what a block shares; 0 if it shares nothing.
    block_size: channels that share an exponent; 0 for all there are.
    spans_kernel: a weight block is `block_size` whole kernels, so that
      block_size Kw Kh weights share an exponent, as eq. 6 has it. False: a
      block is `block_size` weights.
    window: pixels of a block of activations in both directions; 0 for all
      pixels of an image.
    element: how elements are coded, as "E4M3"; "" is sign and magnitude under
      the shared exponent, block floating point. No price depends on it.
    scale: how what a block shares is coded, as "E4M3"; "" is an exponent, a
      power of two. No price depends on it either.
  """

  element_bits: int
  exponent_bits: int
  block_size: int
  spans_kernel: bool = True
  window: int = 1
  element: str = ""
  scale: str = ""

  def activation_bits(self, shape: Shape) -> Fraction:
    """Bits of one element of an activation of this shape, as it is stored."""
    height, width, channels = shape
    blocks = _pieces(channels, self.block_size)
    blocks *= _pieces(height, self.window) * _pieces(width, self.window)
    return self._bits(blocks, height * width * channels)

  def weight_bits(self, layer: Layer) -> Fraction:
    """Bits of one weight of a layer, as its kernel is stored."""
    along, beside = layer.in_channels, layer.out_channels
    if layer.op == "depthwise":
      along, beside = beside, 1
    blocks = _pieces(along, self.block_size) * beside
    if not self.spans_kernel:
      blocks *= layer.kernel_height * layer.kernel_width
    return self._bits(blocks, layer.weight_count)

  def _bits(self, blocks: int, elements: int) -> Fraction:
    return self.element_bits + Fraction(self.exponent_bits * blocks, elements)


def _pieces(size: int, piece: int) -> int:
  """Pieces that an axis is cut into; 0 is the whole axis."""
  return -(-size // (piece or size))


FP32 = BlockFormat(32, 0, 1)


def block_format(
  element_bits: int,
  exponent_bits: int,
  block_size: int,
  spans_kernel: bool = True,
  window: int = 1,
  element: str = "",
  scale: str = "",
) -> BlockFormat:
  """A checked `BlockFormat`: any X, e, BS and window.

  Raises:
    ValueError: X is below 1, another number is negative, or one of them is no
      whole number or more than any format has; the element or the scale is no
      name.
  """
  for name, value, least, what, most in (
    ("element_bits", element_bits, 1, "a sign", 64),
    ("exponent_bits", exponent_bits, 0, "no exponent", 64),
    ("block_size", block_size, 0, "all channels", 2**31 - 1),
    ("window", window, 0, "all pixels", 2**31 - 1),
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
  for name, value, otherwise in (
    ("element", element, "block floating point"),
    ("scale", scale, "a power of two"),
  ):
    if not (isinstance(value, str) and (value.isalnum() or not value)):
      raise ValueError(
        f"block format: {name} is {shown(value)}, expected a name such as "
        f"'E4M3', or '' for {otherwise}"
      )
  return BlockFormat(
    element_bits,
    exponent_bits,
    block_size,
    spans_kernel,
    window,
    element,
    scale,
  )


def bitq_format(
  word_bits: int, shared_exponent_bits: int, block_size: int
) -> BlockFormat:
  """The format <SE, BS> of a word of q_b bits: X = q_b - SE, e = SE (eq. 6).

  Raises:
    ValueError: SE is below 1 or leaves no sign and mantissa bit; BS is
      negative.
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
