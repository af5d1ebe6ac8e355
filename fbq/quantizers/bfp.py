"""Block floating point: the elements of a block share one exponent.

An element has X bits, a sign and X - 1 of magnitude, and stands for

  q 2^(E - (X - 2)),   |q| <= 2^(X-1) - 1,   E = floor(log2 max |x|)

with E that of its block, so the largest element keeps its leading one. This is
the intX format of microxcaling, but where a block's maximum lies 1 to 44 floats
below a power of two: its Python rounds the logarithm up. The exponent has SE
bits, and BitQ (eq. 6) ties X = q_b - SE for a budget of q_b bits. What the
paper leaves open (docs/facts/bitq.md 1.5) is so here:

  range      8 bits hold every exponent of FP32. Fewer hold the 2^SE exponents
             up to `top`, one number for each tensor. A block above saturates
             at the largest number of `top`, one below is rounded on the
             coarser grid of the lowest exponent.
  subnormals of FP32 count as zero. No result is subnormal.
  not finite A block that has an infinity or a NaN is all NaN.
  gradient   Straight through, also above the largest code of a block: the
             exponent follows the elements, so the error stays under one step.
             Elements beyond the exponents of `top` get none.

Forward and backward take 1.0 to 1.5 ns an element of one core at block 16
(`benchmarks/bfp.py`), compiling 0.06 s a tensor, 0.4 with the block size as
data. Stochastic rounding takes 5 ns more for its draws.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.quantizers import blocks, roundings
from fbq.quantizers.formats import check_integers, within

Array = jax.Array

BLOCK_SIZES = (1, 2, 4, 8, 16, 24, 32, 48)  # Table 2 of BitQ
_ALL = blocks.NOT_FINITE - 1  # field of the largest exponent of FP32


class Format(NamedTuple):
  """A format, as data: one compiled function serves all.

  Attributes:
    bits: X, bits of an element, its sign included; 2 .. 25.
    exponent_bits: SE, bits of the shared exponent; 1 .. 8.
    block_size: elements along the block's axis; 0 is the whole axis. An int
      is compiled alone, in a sixth of the time of an array.
  """

  bits: Array | int
  exponent_bits: Array | int
  block_size: Array | int


def check_format(format_: Format, sizes: tuple[int, ...] | None = None) -> None:
  """Raises ValueError if a number of `format_` is out of range.

  Args:
    format_: numbers that are traced are not looked at; see `quantize`.
    sizes: the block sizes that are compiled; None allows any.
  """
  bits, exponent_bits, size = format_
  check_integers("bits", bits, within(2, 25), "2 .. 25")
  eight = "1 .. 8 (8 hold every exponent of FP32)"
  check_integers("exponent_bits", exponent_bits, within(1, 8), eight)
  if sizes is None:
    expected = "at least 1, or 0 for the whole axis"
    check_integers("block_size", size, lambda v: v >= 0, expected)
  else:
    is_compiled = lambda v: np.isin(v, sizes)
    check_integers("block_size", size, is_compiled, f"one of {sizes}")


def check_input(x: Array) -> None:
  """Raises ValueError if `x` is not float32 with one axis or more."""
  if x.dtype != jnp.float32 or x.ndim == 0:
    raise ValueError(
      f"x is {x.dtype}{list(x.shape)}, expected float32 of one axis or more"
    )


def top_exponent(x: Array) -> Array:
  """int32 []: exponent of the largest magnitude of `x`, for `quantize`'s `top`.

  -126 for a tensor of zeros, 127 if there is an infinity or a NaN.
  """
  largest = blocks.largest_field(x.reshape(-1), (0,))
  return jnp.clip(_int32(largest).max(initial=1), 1, _ALL) - blocks.BIAS


def exponent_fields(
  exponent_bits: Array | int, top: Array | int
) -> tuple[Array, Array]:
  """int32 (lowest, highest): FP32 exponent fields that SE bits hold.

  The code of an exponent counts from the highest, 2^SE - 1, down; those below
  2^-126 are never used. 8 bits end at 2^127, whatever `top` is.
  """
  exponent_bits = _int32(exponent_bits)
  highest = jnp.clip(_int32(top) + blocks.BIAS, 1, _ALL)
  highest = jnp.where(exponent_bits >= 8, _ALL, highest)
  count = jnp.left_shift(1, exponent_bits)
  return jnp.maximum(highest - (count - 1), 1), highest


def quantize(
  x: Array,
  format_: Format,
  axis: int = -1,
  over: Mapping[int, int] | None = None,
  top: Array | int | None = None,
  rounding: str = "nearest",
  key: Array | None = None,
  sizes: tuple[int, ...] = BLOCK_SIZES,
) -> Array:
  """`x` rounded to the numbers of a block floating point format.

  Equal to microxcaling's intX, bit for bit, for 8 exponent bits and where no
  input is subnormal. One value is different: it rounds |x| / step = 0.5 - 2^-25
  up, since it adds 0.5 in FP32. Its fewer exponent bits have no bias: a block
  above 2^(SE-1) - 1 is NaN, not saturated, and the lowest exponent is the
  negative of that; in between it is the same as `top` = 2^(SE-1) - 1 here.

  Args:
    x: float32 tensor of any shape.
    format_: integers, or int32 arrays [] if they are to change from call to
      call.
    axis: axis along which blocks run: the channels of NHWC activations by
      default, 2 for the input channels of HWIO kernels. The last block is
      shorter where the size does not divide.
    over: {axis: size} of blocks that extend along further axes, 0 for a whole
      one: {0: 0, 1: 0} for HWIO kernels, whose block in eq. 6 has BS Kw Ky
      elements. Else blocks have one element along the other axes, so that none
      reaches into another sample.
    top: largest exponent, int32 [], of fewer than 8 bits: see `top_exponent`.
      None takes that of `x`, which is for weights: with the top of a batch of
      activations, samples would depend on each other.
    rounding: rounding mode, see `roundings.to_integer`.
    key: random key for stochastic rounding.
    sizes: values that an array `block_size` can have. Each is compiled, and the
      one in use runs. Under `vmap` over formats all of them run.

  Returns:
    float32 of `x`'s shape. NaN if traced numbers of `format_` are out of range.

  Raises:
    ValueError: a number of `format_` is out of range, the rounding is unknown,
      or has no key; `x` is not float32.
  """
  # A block size that is an int is compiled alone; an array is looked at with
  # all the sizes that it may have.
  is_static = isinstance(format_.block_size, int | np.integer)
  check_format(format_, None if is_static else sizes)
  check_input(x)
  tiles = tuple(
    blocks.tile_of(x.ndim, axis, over, int(size))
    for size in ((format_.block_size,) if is_static else sizes)
  )

  # Where it is an array, which of the tiles it means. A size that is not among
  # them is past the last one, which gives NaN.
  index = None
  if not is_static:
    is_size = jnp.asarray(sizes) == _int32(format_.block_size)
    index = jnp.where(is_size.any(), jnp.argmax(is_size), len(sizes))

  # All else is data, so that formats can change from call to call.
  numbers = _Numbers(
    _int32(format_.bits),
    _int32(format_.exponent_bits),
    index,
    None if top is None else _int32(top),
    roundings.noise(rounding, key, x.shape),
  )
  return _compiled(tiles, rounding, x, numbers)


class _Numbers(NamedTuple):
  """What is data: X and SE, the index of the tile, `top`, and the noise."""

  bits: Array
  exponent_bits: Array
  index: Array | None
  top: Array | None
  noise: Array | None


def held_fields(
  fields: Array, exponent_bits: Array | int, top: Array | int | None
) -> tuple[Array, Array]:
  """The nearest exponents that SE bits hold; 255 stays where it is.

  Args:
    fields: uint8 FP32 fields, of any shape.
    exponent_bits: SE; all fields become 255 if it is not 1 .. 8.
    top: largest exponent; None takes that of `fields`.

  Returns:
    uint8 of the same shape, and int32 [], the highest field that is held.
  """
  if top is None:
    finite = jnp.where(fields == blocks.NOT_FINITE, 0, fields)
    top = _int32(finite.max(initial=1)) - blocks.BIAS
  exponent_bits = _int32(exponent_bits)
  lowest, highest = exponent_fields(exponent_bits, top)
  held = jnp.clip(fields, lowest.astype(jnp.uint8), highest.astype(jnp.uint8))
  is_lost = (fields == blocks.NOT_FINITE) | ~within(1, 8)(exponent_bits)
  return jnp.where(is_lost, jnp.uint8(blocks.NOT_FINITE), held), highest


def to_codes(
  x: Array,
  fields: Array,
  bits: Array | int,
  mode: str,
  noise: Array | None = None,
) -> tuple[Array, tuple[Array, Array]]:
  """Codes of `x` as floats, and two factors that scale them back in turn.

  Args:
    x: float32.
    fields: exponent field of each element's block; broadcasts against `x`.
    bits: X, bits of an element.
    mode: rounding mode, one of `roundings.MODES`.
    noise: random numbers for stochastic rounding, from `roundings.noise`.
  """
  exponent = (bits - 2) - (fields.astype(jnp.int32) - blocks.BIAS)
  up, up_too = blocks.two_powers(exponent)
  down, down_too = blocks.two_powers(-exponent)
  largest = (jnp.left_shift(1, bits - 1) - 1).astype(jnp.float32)
  # No clipping happens at NaN, and everything becomes NaN.
  largest = jnp.where(within(2, 25)(bits), largest, jnp.nan)
  scaled = blocks.flush(x) * up * up_too
  codes = jnp.clip(roundings.to_integer(scaled, mode, noise), -largest, largest)
  down = jnp.where(fields == blocks.NOT_FINITE, jnp.nan, down)
  return codes, (down, down_too)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _quantize(tiles, mode, x, numbers):
  return _quantize_forward(tiles, mode, x, numbers)[0]


def _quantize_forward(tiles, mode, x, numbers):
  """Two or three passes: exponents of blocks, of elements if BS is data, `x`.

  Exponents of elements are what all block sizes have in common. They take one
  byte, and what comes after them is compiled once.
  """

  def fields_of(x, tile):
    return blocks.spread(blocks.largest_field(x, tile), tile, x.shape)

  if numbers.index is None:
    fields = fields_of(x, tiles[0])
  else:
    branches = [functools.partial(fields_of, tile=tile) for tile in tiles]
    none = lambda x: jnp.full(x.shape, blocks.NOT_FINITE, jnp.uint8)
    fields = jax.lax.switch(numbers.index, [*branches, none], x)
  fields, highest = held_fields(fields, numbers.exponent_bits, numbers.top)
  codes, (down, down_too) = to_codes(
    x, fields, numbers.bits, mode, numbers.noise
  )
  # Where the top is that of `x`, nothing is above it and `x` need not be kept.
  kept = None if numbers.top is None else (x, highest)
  return codes * down * down_too, kept


def _quantize_backward(tiles, mode, residuals, g):
  del tiles, mode
  if residuals is None:
    return g, None
  x, highest = residuals
  return jnp.where(blocks.field(x) <= highest, g, 0.0), None


_quantize.defvjp(_quantize_forward, _quantize_backward)
# Outside of a compiled function each operation would be compiled by itself.
_compiled = jax.jit(_quantize, static_argnums=(0, 1))


def _int32(value: Array | int) -> Array:
  return jnp.asarray(value, jnp.int32)
