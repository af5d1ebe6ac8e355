"""Block floating point tensors as integers, and as packed bytes.

The bytes of a tensor, most significant bits first:

  16 bits                the bias, two's complement
  SE bits for each block the exponent, in C order of the blocks
  X bits for each element  sign, then magnitude, in C order of the tensor
  0 .. 7 bits            zeros up to a whole byte

That is eq. 6 of BitQ, X + SE / BS bits an element, where blocks divide the
tensor. Elsewhere the last block of a row is shorter and its exponent as long;
the zeros that would fill it are not stored. `hwsim.bfp.formats` prices this.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax
import numpy as np

from fbq.quantizers import bfp, blocks, roundings
from fbq.quantizers.bits import from_bits, to_bits

_BIAS_BITS = 16


@dataclasses.dataclass(frozen=True)
class Encoded:
  """A tensor: codes 2^(exponents + bias - (X - 2)), exponents those of blocks.

  Attributes:
    codes: array of the tensor's shape, of the smallest of int8, int16, int32.
    exponents: uint8, one for each block, 0 .. 2^SE - 1.
    bias: bias of the exponents.
    bits: X, bits of an element.
    exponent_bits: SE, bits of an exponent.
    tile: size of a block along every axis, 0 for a whole one.
  """

  codes: np.ndarray
  exponents: np.ndarray
  bias: int
  bits: int
  exponent_bits: int
  tile: blocks.Tile


def encode(
  x: jax.Array,
  format_: bfp.Format,
  axis: int = -1,
  over: Mapping[int, int] | None = None,
  top: int | None = None,
  rounding: str = "nearest",
  key: jax.Array | None = None,
) -> Encoded:
  """The integers behind `bfp.quantize` of the same arguments.

  Raises:
    ValueError: as `bfp.quantize`, or `x` has values that are not finite.
  """
  # What has no code is refused, where `bfp.quantize` gives NaN.
  bfp.check_format(format_)
  bfp.check_input(x)
  finite = np.isfinite(np.asarray(x))
  if not finite.all():
    raise ValueError(
      f"{int((~finite).sum())} of {finite.size} values are not finite, for "
      "which there is no code"
    )

  # The same steps as `bfp.quantize`, stopped before codes are scaled back.
  bits, exponent_bits, block_size = (int(v) for v in format_)
  tile = blocks.tile_of(x.ndim, axis, over, block_size)
  noise = roundings.noise(rounding, key, x.shape)
  codes, fields, highest = _encode(
    tile, rounding, x, bits, exponent_bits, top, noise
  )

  # Exponents are stored from 0 up, so the lowest that is held is their bias.
  lowest = int(highest) - (2**exponent_bits - 1)
  return Encoded(
    np.asarray(codes).astype(code_type(bits)),
    (np.asarray(fields, np.int32) - lowest).astype(np.uint8),
    lowest - blocks.BIAS,
    bits,
    exponent_bits,
    tile,
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _encode(tile, mode, x, bits, exponent_bits, top, noise):
  """Codes as floats, fields of the blocks and the highest of them."""
  fields = blocks.largest_field(x, tile)
  fields, highest = bfp.held_fields(fields, exponent_bits, top)
  shared = blocks.spread(fields, tile, x.shape)
  return bfp.to_codes(x, shared, bits, mode, noise)[0], fields, highest


def decode(encoded: Encoded) -> np.ndarray:
  """float32: the tensor, equal to `bfp.quantize` (-0 becomes 0)."""
  exponents = encoded.exponents.astype(np.int32) + encoded.bias
  shape = encoded.codes.shape
  for axis, size in enumerate(blocks.whole_tile(shape, encoded.tile)):
    exponents = np.repeat(exponents, size, axis)
  exponents = exponents[tuple(map(slice, shape))]
  values = np.ldexp(np.float64(encoded.codes), exponents - (encoded.bits - 2))
  return values.astype(np.float32)


def storage_bits(
  shape: tuple[int, ...], tile: blocks.Tile, bits: int, exponent_bits: int
) -> int:
  """Bits of a packed tensor, without the zeros that fill its last byte."""
  count = math.prod(_blocks_shape(shape, tile))
  return _BIAS_BITS + count * exponent_bits + math.prod(shape) * bits


def pack(encoded: Encoded) -> bytes:
  """The tensor as bytes; for their layout see the module."""
  codes = encoded.codes.astype(np.int64).reshape(-1)
  signed = np.abs(codes) | (codes < 0).astype(np.int64) << encoded.bits - 1
  streams = [
    to_bits(np.array([encoded.bias % 2**_BIAS_BITS]), _BIAS_BITS),
    to_bits(encoded.exponents.reshape(-1), encoded.exponent_bits),
    to_bits(signed, encoded.bits),
  ]
  return np.packbits(np.concatenate(streams)).tobytes()


def unpack(
  data: bytes,
  shape: tuple[int, ...],
  tile: blocks.Tile,
  bits: int,
  exponent_bits: int,
) -> Encoded:
  """What `pack` was given.

  Raises:
    ValueError: `data` has not the length of such a tensor.
  """
  # Bytes that were cut short would be read as another tensor.
  expected = -(-storage_bits(shape, tile, bits, exponent_bits) // 8)
  if len(data) != expected:
    raise ValueError(
      f"{len(data)} bytes for a tensor {shape} in blocks of {tile}, X = {bits} "
      f"and SE = {exponent_bits}, expected {expected}"
    )

  # Three streams one after the other, see the module.
  stream = np.unpackbits(np.frombuffer(data, np.uint8))
  blocks_shape = _blocks_shape(shape, tile)
  ends = np.cumsum([_BIAS_BITS, math.prod(blocks_shape) * exponent_bits])
  head, exponents, codes = np.split(stream, ends)
  bias = int(from_bits(head, _BIAS_BITS)[0].astype(np.int16))

  # Sign and magnitude, not two's complement.
  signed = from_bits(codes[: math.prod(shape) * bits], bits)
  magnitude = signed & (1 << bits - 1) - 1
  codes = np.where(signed >> bits - 1, -magnitude, magnitude)
  return Encoded(
    codes.astype(code_type(bits)).reshape(shape),
    from_bits(exponents, exponent_bits).astype(np.uint8).reshape(blocks_shape),
    bias,
    bits,
    exponent_bits,
    tile,
  )


def code_type(bits: int) -> type:
  """The smallest type of integers that holds codes of `bits` bits."""
  return np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32


def _blocks_shape(shape: tuple[int, ...], tile: blocks.Tile):
  sizes = blocks.whole_tile(shape, tile)
  return tuple(-(-n // t) for n, t in zip(shape, sizes, strict=True))
