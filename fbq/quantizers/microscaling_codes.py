"""Tensors of microscaling formats as their codes, and as packed bytes.

The bytes of a tensor, most significant bits first:

  32 bits                   the tensor's scale as a float32, of NVFP4 alone
  8 bits for each block     its scale, E8M0 or E4M3, in C order of the blocks
  4 to 8 bits an element    sign, exponent, mantissa; INT8 in two's complement;
                            in C order of the tensor
  0 .. 7 bits               zeros up to a whole byte

Where blocks divide the tensor that is 4.25, 6.25 and 8.25 bits an element, and
4.5 of NVFP4. The last block of an axis may be shorter; its scale is as long.
`hwsim.bfp.formats` prices this. Codes are those of the OCP specifications: the
ones of E4M3 and E5M2 that stand for infinity and NaN are never made.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from fbq.quantizers import blocks, microscaling, nvfp4
from fbq.quantizers.bits import from_bits, to_bits
from fbq.quantizers.microscaling import CODINGS, ELEMENTS, SCALE_BITS, Format


class Encoded(NamedTuple):
  """A tensor of a microscaling format.

  Attributes:
    codes: uint8 of the tensor's shape.
    scales: uint8, codes of the scales, one for each block.
    tensor_scale: t of NVFP4, else 1.
    format: format of the tensor.
    tile: size of a block along every axis, 0 for a whole one.
  """

  codes: np.ndarray
  scales: np.ndarray
  tensor_scale: np.float32
  format: Format
  tile: blocks.Tile


def encode(
  x: jax.Array,
  format_: Format,
  axis: int = -1,
  over: Mapping[int, int] | None = None,
  rule: str = "floor",
  tensor_scale: jax.Array | None = None,
) -> Encoded:
  """The codes behind `microscaling.quantize` or `nvfp4.quantize`.

  Args:
    x, axis, over, rule: see `microscaling.quantize`.
    format_: one of `microscaling.FORMATS`, or a format like these.
    tensor_scale: see `nvfp4.quantize`.

  Raises:
    ValueError: as `quantize`, or `x` has values that are not finite.
  """
  # What has no code is refused, where `quantize` gives NaN.
  microscaling.check_input(x)
  finite = np.isfinite(np.asarray(x))
  if not finite.all():
    raise ValueError(
      f"{int((~finite).sum())} of {finite.size} values are not finite, for "
      "which there is no code"
    )

  # The same steps as `quantize`, stopped before elements are scaled back.
  tile = blocks.tile_of(x.ndim, axis, over, format_.block_size)
  t = np.float32(1)
  if format_.scale == "E4M3":
    elements, values, t = map(
      np.asarray, jax.jit(nvfp4.parts, static_argnums=1)(x, tile, tensor_scale)
    )
    scales = _code_of(values, "E4M3")
  else:
    elements, exponents = _parts(x, ELEMENTS[format_.element], tile, rule)
    scales = (np.asarray(exponents) + blocks.BIAS).astype(np.uint8)
  codes = _code_of(np.asarray(elements), format_.element)
  return Encoded(codes, scales, np.float32(t), format_, tile)


_parts = jax.jit(microscaling.parts, static_argnums=(2, 3))


def decode(encoded: Encoded) -> np.ndarray:
  """float32: the tensor, equal to `quantize` (-0 becomes 0)."""
  shape = encoded.codes.shape
  elements = numbers(encoded.format.element)[encoded.codes]
  if encoded.format.scale == "E4M3":
    scales = numbers("E4M3")[encoded.scales] * encoded.tensor_scale
  else:
    scales = np.ldexp(1.0, encoded.scales.astype(np.int32) - blocks.BIAS)
  for axis, size in enumerate(blocks.whole_tile(shape, encoded.tile)):
    scales = np.repeat(scales, size, axis)
  y = elements * scales[tuple(map(slice, shape))]
  y = y.astype(np.float32)
  return np.where(np.abs(y) < np.float32(2.0**-126), np.float32(0), y) + 0


@functools.cache
def numbers(element: str) -> np.ndarray:
  """float32 [2^bits]: what every code of an element stands for.

  Codes of infinity and NaN, and the -2 of INT8, are NaN.
  """
  (exponent_bits, mantissa_bits), kind = CODINGS[element], ELEMENTS[element]
  bits = CODINGS[element].bits
  codes = np.arange(1 << bits)
  if not exponent_bits:
    values = np.where(codes < 128, codes, codes - 256) / 64
  else:
    magnitude = codes & (1 << (bits - 1)) - 1
    field, mantissa = divmod(magnitude, 1 << mantissa_bits)
    leading = np.where(field > 0, 1 << mantissa_bits, 0)
    exponent = kind.lowest + np.maximum(field, 1) - 1 - mantissa_bits
    values = np.ldexp(1.0 * (leading + mantissa), exponent)
    values = np.where(codes >> bits - 1, -values, values)
  is_number = np.abs(values) <= kind.largest
  return np.where(is_number, values, np.nan).astype(np.float32)


def storage_bits(
  shape: tuple[int, ...], tile: blocks.Tile, format_: Format
) -> int:
  """Bits of a packed tensor, without the zeros that fill its last byte."""
  head = 32 if format_.scale == "E4M3" else 0
  count = math.prod(_blocks_shape(shape, tile))
  return head + count * SCALE_BITS + math.prod(shape) * format_.element_bits


def pack(encoded: Encoded) -> bytes:
  """The tensor as bytes; for their layout see the module."""
  head = encoded.tensor_scale.reshape(1).view(np.uint32).astype(np.int64)
  streams = [
    to_bits(head, 32) if encoded.format.scale == "E4M3" else _NOTHING,
    to_bits(encoded.scales.reshape(-1), SCALE_BITS),
    to_bits(encoded.codes.reshape(-1), encoded.format.element_bits),
  ]
  return np.packbits(np.concatenate(streams)).tobytes()


_NOTHING = np.zeros(0, np.uint8)


def unpack(
  data: bytes, shape: tuple[int, ...], tile: blocks.Tile, format_: Format
) -> Encoded:
  """What `pack` was given.

  Raises:
    ValueError: `data` has not the length of such a tensor.
  """
  # Bytes that were cut short would be read as another tensor.
  expected = -(-storage_bits(shape, tile, format_) // 8)
  if len(data) != expected:
    raise ValueError(
      f"{len(data)} bytes for a tensor {shape} in blocks of {tile} of "
      f"{format_}, expected {expected}"
    )

  # Three streams one after the other, see the module.
  stream = np.unpackbits(np.frombuffer(data, np.uint8))
  blocks_shape = _blocks_shape(shape, tile)
  head = 32 if format_.scale == "E4M3" else 0
  ends = np.cumsum([head, math.prod(blocks_shape) * SCALE_BITS])
  first, scales, codes = np.split(stream, ends)
  t = np.float32(1)
  if head:
    t = from_bits(first, 32).astype(np.uint32).view(np.float32)[0]
  codes = codes[: math.prod(shape) * format_.element_bits]
  return Encoded(
    from_bits(codes, format_.element_bits).astype(np.uint8).reshape(shape),
    from_bits(scales, SCALE_BITS).astype(np.uint8).reshape(blocks_shape),
    t,
    format_,
    tile,
  )


def _code_of(values: np.ndarray, element: str) -> np.ndarray:
  """uint8 codes of numbers of an element; -0 has that of 0."""
  known = numbers(element)
  order = np.argsort(known)[: int(np.isfinite(known).sum())]
  ordered = known[order]
  # Of two zeros the first in order is taken, so both have to be the positive.
  order = np.where(ordered == 0, 0, order)
  return order[np.searchsorted(ordered, values)].astype(np.uint8)


def _blocks_shape(shape, tile):
  sizes = blocks.whole_tile(shape, tile)
  return tuple(-(-n // t) for n, t in zip(shape, sizes, strict=True))
