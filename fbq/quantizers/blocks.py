"""Shared exponents of blocks, from the bits of floats: exact on any backend.

A block is a box of `tile[i]` elements along axis i; 0, or more than there are,
means the whole axis. Axes that a tile does not divide end in a smaller block,
which is the same as filling it with zeros. Exponents are fields of FP32, 8 bits
with a bias of 127: 0 stands for zero and subnormal numbers, which count as zero
(XLA flushes them on a CPU), and 255 for infinity and NaN.

XLA's log2 and exp2 are not exact, so exponents are cut out of the bits and
powers of two are put together from them.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Tile = tuple[int, ...]

BIAS = 127
NOT_FINITE = 255  # field of infinity and NaN
_MANTISSA_BITS = 23
_MAGNITUDE = 0x7FFFFFFF
_LEAST_NORMAL = 0x00800000


def field(x: Array) -> Array:
  """int32 exponent field of each element of `x` (float32)."""
  return _magnitude_bits(x) >> _MANTISSA_BITS


def power_of_two(exponent: Array) -> Array:
  """2^exponent as float32, for integers -126 .. 127."""
  bits = (exponent.astype(jnp.int32) + BIAS) << _MANTISSA_BITS
  return lax.bitcast_convert_type(bits, jnp.float32)


def two_powers(exponent: Array) -> tuple[Array, Array]:
  """Two powers of two whose product is 2^exponent, for integers -252 .. 254.

  Multiplying by one after the other scales between any two normal numbers;
  their product may be no float32 at all.
  """
  half = exponent >> 1
  return power_of_two(half), power_of_two(exponent - half)


def flush(x: Array) -> Array:
  """`x` with 0 for its subnormal elements, as XLA does on a CPU anyhow."""
  return jnp.where(_magnitude_bits(x) < _LEAST_NORMAL, 0.0, x)


def largest_field(x: Array, tile: Tile) -> Array:
  """uint8 exponent field of the largest magnitude in each block.

  255 where a block has an infinity or a NaN; for the shape see `largest`.
  """
  return field(largest(x, tile)).astype(jnp.uint8)


def largest(x: Array, tile: Tile) -> Array:
  """Largest magnitude in each block of `x` (float32), NaN if there is one.

  Returns:
    float32 [ceil(size / tile) for each axis].
  """
  *rest, last = whole_tile(x.shape, tile)
  # As integers, since XLA's maximum of floats loses NaN, see `extremes`.
  # Neighbours in memory: XLA's loop over 4 integers is fast on a CPU, over
  # floats or 16 integers is not. Blocks of 16 of [64, 32, 32, 32] take 0.09 ns
  # an element so, 0.44 as floats and 0.79 as integers at once (one core).
  bits = _magnitude_bits(x)
  while last > 8 and last % 4 == 0:
    bits = _reduce(bits, (*(1 for _ in rest), 4))
    bits = lax.optimization_barrier(bits)  # else XLA makes one loop of both
    last //= 4
  return lax.bitcast_convert_type(_reduce(bits, (*rest, last)), jnp.float32)


def _reduce(values: Array, tile: Tile) -> Array:
  """The maximum of each block of `values`, which are not negative."""
  fill = [(-size) % t for size, t in zip(values.shape, tile, strict=True)]
  if any(fill):
    values = jnp.pad(values, [(0, count) for count in fill])
  # Axes that are not blocked stay as they are: fewer axes run faster.
  shape, reduced = [], []
  for size, t in zip(values.shape, tile, strict=True):
    shape.append(size // t)
    if t > 1:
      reduced.append(len(shape))
      shape.append(t)
  return jnp.max(values.reshape(shape), axis=tuple(reduced))


def spread(blocks: Array, tile: Tile, shape: Sequence[int]) -> Array:
  """The value of its block for each element of an array of `shape`."""
  tile = whole_tile(shape, tile)
  split, full = [], []
  for count, t in zip(blocks.shape, tile, strict=True):
    split += [count, 1] if t > 1 else [count]
    full += [count, t] if t > 1 else [count]
  values = jnp.broadcast_to(blocks.reshape(split), full)
  padded = [n * t for n, t in zip(blocks.shape, tile, strict=True)]
  return values.reshape(padded)[tuple(slice(size) for size in shape)]


def tile_of(
  ndim: int, axis: int, over: Mapping[int, int] | None, block_size: int
) -> Tile:
  """Size of a block along every axis, 0 for a whole one.

  Raises:
    ValueError: an axis does not exist, or is given twice.
  """
  tile = [1] * ndim
  given = [*(over or {}).items(), (axis, block_size)]
  axes = [a % ndim for a, _ in given if -ndim <= a < ndim]
  if len(set(axes)) < len(given):
    raise ValueError(
      f"axis is {axis} and over {dict(over or {})} for {ndim} axes, expected "
      "different ones of them"
    )
  for a, (_, size) in zip(axes, given, strict=True):
    tile[a] = size
  return tuple(tile)


def whole_tile(shape: Sequence[int], tile: Tile) -> Tile:
  """`tile` with the size of the axis where it is 0 or more than that.

  Raises:
    ValueError: not one size for each axis, or a negative one.
  """
  if len(tile) != len(shape) or min(tile, default=0) < 0:
    raise ValueError(
      f"tile is {tile} for an array of shape {tuple(shape)}, expected one size "
      "for each axis, 0 for the whole axis"
    )
  # An empty axis has no block, of any size.
  return tuple(
    max(min(t or size, size), 1) for size, t in zip(shape, tile, strict=True)
  )


def _magnitude_bits(x: Array) -> Array:
  return lax.bitcast_convert_type(x, jnp.int32) & _MAGNITUDE
