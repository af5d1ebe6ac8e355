"""Microscaling: blocks of small floats under one power of two (OCP MX v1.0).

Elements P of a block share a scale X = 2^E of 8 bits (E8M0), so values are

  X P,   E = floor(log2 max |x|) - emax,   P = x / X rounded to nearest even

with emax the exponent of the largest element (section 6.3 of the
specification). What is above that element saturates: a maximum of 7.9 becomes
7.5 as E2M3, 7 as E4M3 and 6 as E2M1. Subnormal elements are kept. Other rules
for E, of torchao's names:

  floor  as above, the specification's
  ceil   the power of two above max |x| in place of the one below
  even   max |x| is rounded to the element's mantissa first
  rceil  the least X with which the largest element reaches max |x|, NVIDIA's

Implementations differ (docs/facts/dense.md 5). microxcaling rounds ties away
from zero unless told `round="even"`, and its Python takes a rounded logarithm:
of a block's maximum 1 to 44 floats below a power of two it has one exponent too
many. Here exponents are cut out of the bits. `fbq.quantizers.bfp` with X = 8
and blocks of 32 is MXINT8 but for ties, which go away from zero there. BM<4, 3>
and BM<5, 2> of `fbq.quantizers.minifloat` are not E4M3 and E5M2: E4M3 gives its
last code to NaN (448 is the largest, not 480), E5M2 its last exponent to
infinity and NaN, so it has 30 where BM<5, 2> has 31.

As in the other quantizers subnormals of FP32 count as zero, no result is
subnormal, a block that has an infinity or a NaN is all NaN, and the gradient is
straight through, to all elements.

Products of such tensors run natively where `Format.native` says so: it names
the configuration of `jax.nn.scaled_dot_general`, which needs a GPU with
block-scaled tensor cores (NVIDIA Blackwell). None was at hand: it was not run.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq.quantizers import blocks, roundings
from fbq.quantizers.bfp import check_input

Array = jax.Array

RULES = ("floor", "ceil", "even", "rceil")
SCALE_BITS = 8  # of E8M0 and of NVFP4's E4M3
_FRACTION = 0x7FFFFF  # of a float32
_FRACTION_BITS = 23


class Element(NamedTuple):
  """The numbers of an element, as data: one compiled function serves all.

  From 2^lowest on they have `mantissa_bits` bits behind the leading one; what
  is below is on the grid of 2^lowest.

  Attributes:
    mantissa_bits: bits behind the leading one; 6 of INT8, which has two bits
      less one before the point.
    lowest: exponent of the least normal number.
    highest: emax, exponent of the largest number.
    largest: the largest number.
  """

  mantissa_bits: Array | int
  lowest: Array | int
  highest: Array | int
  largest: Array | float


class Coding(NamedTuple):
  """Bits of an element besides its sign; no exponent: two's complement."""

  exponent_bits: int
  mantissa_bits: int

  @property
  def bits(self) -> int:
    """Bits of an element, its sign included."""
    return 1 + self.exponent_bits + self.mantissa_bits


# OCP MX v1.0, tables 1 to 6. INT8 counts 2^-6; its -2 is not used.
ELEMENTS = {
  "E4M3": Element(3, -6, 8, 448.0),
  "E5M2": Element(2, -14, 15, 57344.0),
  "E2M3": Element(3, 0, 2, 7.5),
  "E3M2": Element(2, -2, 4, 28.0),
  "E2M1": Element(1, 0, 2, 6.0),
  "INT8": Element(6, 0, 0, 127 / 64),
}
CODINGS = {
  name: Coding(0, 7) if name == "INT8" else Coding(int(name[1]), int(name[3]))
  for name in ELEMENTS
}


class Format(NamedTuple):
  """A published format.

  Attributes:
    element: name of its element in `ELEMENTS`.
    block_size: elements along the reduction that share a scale.
    scale: "E8M0", a power of two; "E4M3", with one float32 for the tensor, see
      `fbq.quantizers.nvfp4`.
    native: configuration of `jax.nn.scaled_dot_general` that multiplies it; ""
      where there is none.
  """

  element: str
  block_size: int = 32
  scale: str = "E8M0"
  native: str = ""

  @property
  def element_bits(self) -> int:
    """Bits of an element, its sign included."""
    return CODINGS[self.element].bits


FORMATS = {
  "MXFP8 E4M3": Format("E4M3", native="mxfp8"),
  "MXFP8 E5M2": Format("E5M2"),
  "MXFP6 E2M3": Format("E2M3"),
  "MXFP6 E3M2": Format("E3M2"),
  "MXFP4": Format("E2M1"),
  "MXINT8": Format("INT8"),
  "NVFP4": Format("E2M1", 16, "E4M3", "nvfp4"),
}


def quantize(
  x: Array,
  element: Element,
  block_size: int = 32,
  axis: int = -1,
  over: Mapping[int, int] | None = None,
  rule: str = "floor",
) -> Array:
  """`x` rounded to the numbers of a microscaling format with E8M0 scales.

  Args:
    x: float32 tensor of one axis or more.
    element: one of `ELEMENTS`, or its numbers as arrays [] if they are to
      change from call to call.
    block_size: elements along `axis` that share a scale; 0 for the whole axis.
    axis: axis along which blocks run, that of the sum: a scale leaves the sum
      only if it is the same for all of it. The last block is shorter where the
      size does not divide.
    over: see `bfp.quantize`.
    rule: how the scale follows from the largest magnitude, one of `RULES`.

  Returns:
    float32 of `x`'s shape.

  Raises:
    ValueError: `x` is not float32, the rule is unknown, or the axis is.
  """
  check_input(x)
  _check_rule(rule)
  tile = blocks.tile_of(x.ndim, axis, over, block_size)
  return _compiled(tile, rule, x, _as_data(element))


def scale_exponents(
  x: Array, element: Element, tile: blocks.Tile, rule: str = "floor"
) -> Array:
  """int32 E of every block, -127 .. 127; 128 stands for NaN.

  Args:
    x, element, rule: see `quantize`.
    tile: size of a block along every axis, 0 for a whole axis.
  """
  _check_rule(rule)
  element = _as_data(element)
  largest = blocks.largest(x, tile)
  bits = jax.lax.bitcast_convert_type(largest, jnp.int32)
  field, fraction = bits >> _FRACTION_BITS, bits & _FRACTION

  # Half a unit of the element's mantissa carries into the exponent where the
  # maximum would round up to a power of two.
  more = 0
  if rule == "ceil":
    more = fraction > 0
  elif rule == "rceil":
    reached = jax.lax.bitcast_convert_type(element.largest, jnp.int32)
    more = fraction > (reached & _FRACTION)
  elif rule == "even":
    half = 1 << (_FRACTION_BITS - 1 - element.mantissa_bits)
    more = ((bits + half) >> _FRACTION_BITS) - field

  # A block of zeros has the least scale, whatever the rule.
  exponent = field - blocks.BIAS - element.highest + more
  exponent = jnp.where(field == 0, -blocks.BIAS, exponent)
  exponent = jnp.clip(exponent, -blocks.BIAS, blocks.BIAS)
  return jnp.where(field == blocks.NOT_FINITE, blocks.BIAS + 1, exponent)


def to_element(x: Array, element: Element) -> Array:
  """The nearest numbers of an element, ties to even, saturated."""
  own = blocks.field(x) - blocks.BIAS
  step = jnp.clip(own, element.lowest, element.highest) - element.mantissa_bits
  codes = roundings.to_integer(x * blocks.power_of_two(-step), "even")
  y = codes * blocks.power_of_two(step)
  return jnp.clip(y, -element.largest, element.largest)


def parts(
  x: Array, element: Element, tile: blocks.Tile, rule: str = "floor"
) -> tuple[Array, Array]:
  """(elements P of `x`'s shape, int32 exponents E of the blocks).

  Args:
    x, element, tile, rule: see `scale_exponents`.
  """
  element = _as_data(element)
  exponents = scale_exponents(x, element, tile, rule)
  down, down_too = blocks.two_powers(-blocks.spread(exponents, tile, x.shape))
  return to_element(blocks.flush(x) * down * down_too, element), exponents


def _check_rule(rule):
  if rule not in RULES:
    raise ValueError(f"rule is {rule!r}, expected one of {RULES}")


def _as_data(element: Element) -> Element:
  mantissa_bits, lowest, highest = (
    jnp.asarray(n, jnp.int32) for n in element[:3]
  )
  largest = jnp.asarray(element.largest, jnp.float32)
  return Element(mantissa_bits, lowest, highest, largest)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _quantize(tile, rule, x, element):
  elements, exponents = parts(x, element, tile, rule)
  shared = blocks.spread(exponents, tile, x.shape)
  up, up_too = blocks.two_powers(shared)
  y = blocks.flush(elements * up * up_too)
  return jnp.where(shared > blocks.BIAS, jnp.nan, y)


def _quantize_forward(tile, rule, x, element):
  return _quantize(tile, rule, x, element), None


def _quantize_backward(tile, rule, residuals, g):
  del tile, rule, residuals
  return g, None


_quantize.defvjp(_quantize_forward, _quantize_backward)
# Outside of a compiled function each operation would be compiled by itself.
_compiled = jax.jit(_quantize, static_argnums=(0, 1))


def table() -> Element:
  """All of `ELEMENTS` side by side, arrays [E]: rows to be picked as data."""
  columns = zip(*ELEMENTS.values(), strict=True)
  return _as_data(Element(*map(jnp.array, columns)))
