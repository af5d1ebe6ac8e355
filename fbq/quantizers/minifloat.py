"""Block minifloat BM<e, m>: small floats whose exponents share a bias.

Fox et al., ICLR 2021; the format that the released code of BitQ trains with
(docs/facts/bitq.md 0.2 and 1.2), where the paper describes block floating
point. An element has a sign, e bits of an exponent of its own and m of a
mantissa. Its block has 8 bits more, for

  E = floor(log2(max |x| + 1e-28))

An element of exponent k, kept within E - (2^e - 2) .. E, is rounded to a
multiple of 2^(k - m); the lowest exponent is also that of subnormal numbers.
With one bit of exponent this is a sign and m + 1 bits on one grid: block
floating point. BM<4, 3> and BM<5, 2> are not MX's E4M3 and E5M2, see
`fbq.quantizers.microscaling`.

The released code rounds stochastically, in evaluation too; its nearest rounding
raises an error, so "nearest" here, ties away from zero, is ours. Subnormals of
FP32 count as zero, a block that has an infinity or a NaN is all NaN, and the
gradient is straight through, to all elements.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.quantizers import blocks, roundings
from fbq.quantizers.formats import check_integers, within

Array = jax.Array

# What the authors add to the largest magnitude, that of a block of zeros too.
_FLOOR = np.float32(1e-28)


class Minifloat(NamedTuple):
  """BM<e, m> as data.

  Attributes:
    exponent_bits: e, exponent bits of each element; 1 .. 8.
    mantissa_bits: m, mantissa bits of each element; 1 .. 22.
  """

  exponent_bits: Array | int
  mantissa_bits: Array | int


def check_minifloat(format_: Minifloat) -> None:
  """Raises ValueError if a number of `format_`, not traced, is out of range."""
  exponent_bits, mantissa_bits = format_
  expected = "1 .. 8 (for 0 bits there is fbq.quantizers.bfp)"
  check_integers("exponent_bits", exponent_bits, within(1, 8), expected)
  check_integers("mantissa_bits", mantissa_bits, within(1, 22), "1 .. 22")


def quantize(
  x: Array,
  format_: Minifloat,
  tile: blocks.Tile,
  rounding: str = "stochastic",
  key: Array | None = None,
) -> Array:
  """`x` rounded to the numbers of BM<e, m>.

  Args:
    x: float32 tensor of any shape.
    format_: integers, or int32 arrays [] if they are to change from call to
      call.
    tile: size of a block along every axis, 0 for a whole axis.
    rounding: see `roundings.to_integer`.
    key: random key for stochastic rounding.

  Returns:
    float32 of `x`'s shape. NaN if traced numbers of `format_` are out of range.

  Raises:
    ValueError: a number of `format_` is out of range, the rounding is unknown,
      or has no key, `tile` does not fit; `x` is not float32.
  """
  # Numbers that are traced cannot be looked at: they give NaN.
  check_minifloat(format_)
  if x.dtype != jnp.float32:
    raise ValueError(f"x is {x.dtype}, expected float32")
  noise = roundings.noise(rounding, key, x.shape)

  # Formats are data, so one compiled function serves all of them.
  bits = Minifloat(*(jnp.asarray(b, jnp.int32) for b in format_))
  return _compiled(tile, rounding, x, bits, noise)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _quantize(tile, mode, x, bits, noise):
  fields = blocks.field(blocks.largest(x, tile) + _FLOOR).astype(jnp.uint8)
  shared = blocks.spread(fields, tile, x.shape)
  top = shared.astype(jnp.int32) - blocks.BIAS
  lowest = top - jnp.left_shift(1, bits.exponent_bits) + 2
  own = blocks.field(x) - blocks.BIAS
  step = jnp.clip(own, jnp.maximum(lowest, -126), top) - bits.mantissa_bits
  up, up_too = blocks.two_powers(-step)
  down, down_too = blocks.two_powers(step)
  scaled = blocks.flush(x) * up * up_too
  codes = roundings.to_integer(scaled, mode, noise)
  # Only those of the highest exponent can leave the format; the others, rounded
  # up to a power of two, are the first number of the next exponent.
  largest = jnp.left_shift(2, bits.mantissa_bits) - 1
  largest = jnp.where(own == top, largest, largest + 1).astype(jnp.float32)
  is_format = within(1, 8)(bits.exponent_bits)
  is_format &= within(1, 22)(bits.mantissa_bits)
  largest = jnp.where(is_format, largest, jnp.nan)  # and so is everything
  y = jnp.clip(codes, -largest, largest) * down * down_too
  return jnp.where(shared == blocks.NOT_FINITE, jnp.nan, y)


def _quantize_forward(tile, mode, x, bits, noise):
  return _quantize(tile, mode, x, bits, noise), None


def _quantize_backward(tile, mode, residuals, g):
  del tile, mode, residuals
  return g, None, None


_quantize.defvjp(_quantize_forward, _quantize_backward)
# Outside of a compiled function each operation would be compiled by itself.
_compiled = jax.jit(_quantize, static_argnums=(0, 1))
