"""NVFP4: blocks of 16 E2M1 under an E4M3 scale and one float32 of the tensor.

A value is t s P with

  t = max |tensor| / (448 x 6)            float32, one for the tensor
  s = E4M3(max |block| / 6 / t)           kept within 2^-6 .. 448
  P = E2M1(x / (s t))                     saturated at 6

each operation rounded to float32, to nearest even (docs/facts/dense.md 5). s is
no power of two, so the largest element of a block is met to 1/16. Blocks below
2^-6 / 448 of the largest lose precision, as s cannot follow them.

A tensor that is all zeros has t = 1. As in `fbq.quantizers.microscaling`,
subnormals count as zero, a block that has an infinity or a NaN is all NaN, and
the gradient is straight through.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq.quantizers import blocks, microscaling
from fbq.quantizers.bfp import check_input

Array = jax.Array

BLOCK_SIZE = 16
_SCALE = microscaling.ELEMENTS["E4M3"]
_ELEMENT = microscaling.ELEMENTS["E2M1"]
_LEAST_SCALE = 2.0**-6  # the subnormal scales are not used
_LEAST_NORMAL = 2.0**-126


class Parts(NamedTuple):
  """What a tensor is made of.

  Attributes:
    elements: P, of the tensor's shape.
    scales: s, one for each block; NaN of a block that is not finite.
    tensor_scale: t, float32 [].
  """

  elements: Array
  scales: Array
  tensor_scale: Array


def tensor_scale(x: Array) -> Array:
  """float32 []: t of a tensor whose largest magnitude is that of `x`."""
  finite = jnp.where(jnp.isfinite(x), jnp.abs(x), 0.0)
  return scale_for(finite.max(initial=0.0))


def scale_for(largest: Array) -> Array:
  """float32 []: t for a largest magnitude; at least the least normal float."""
  # As data, or XLA multiplies by a rounded reciprocal.
  six, most = jax.lax.optimization_barrier(
    (jnp.float32(_ELEMENT.largest), jnp.float32(_SCALE.largest))
  )
  t = jnp.maximum(largest / (six * most), _LEAST_NORMAL)
  return jnp.where(largest > 0, t, 1.0)


def quantize(
  x: Array,
  axis: int = -1,
  over: Mapping[int, int] | None = None,
  tensor_scale: Array | None = None,
) -> Array:
  """`x` rounded to the numbers of NVFP4.

  Args:
    x: float32 tensor of one axis or more.
    axis: axis along which blocks of 16 run, that of the sum.
    over: see `bfp.quantize`.
    tensor_scale: t, float32 []; 1 makes it the format of one level. None takes
      that of `x`, which is for weights: with that of a batch of activations,
      samples would depend on each other.

  Returns:
    float32 of `x`'s shape.

  Raises:
    ValueError: `x` is not float32, or the axis does not exist.
  """
  check_input(x)
  tile = blocks.tile_of(x.ndim, axis, over, BLOCK_SIZE)
  t = _scale_of(x, tensor_scale)
  return _compiled(tile, x, t)


def parts(
  x: Array, tile: blocks.Tile, tensor_scale: Array | None = None
) -> Parts:
  """Elements and scales of a tensor.

  Args:
    x, tensor_scale: see `quantize`.
    tile: size of a block along every axis, 0 for a whole axis.
  """
  t = _scale_of(x, tensor_scale)
  scale, element = (
    microscaling.Element(*map(jnp.asarray, e)) for e in (_SCALE, _ELEMENT)
  )

  # XLA makes one division of two, and one by a constant a product, which round
  # differently; barriers keep them as they are written.
  six = jax.lax.optimization_barrier(jnp.float32(_ELEMENT.largest))
  share = blocks.largest(x, tile) / six
  share = jax.lax.optimization_barrier(share) / t
  is_finite = jnp.isfinite(share)
  s = microscaling.to_element(blocks.flush(share), scale)
  s = jnp.clip(s, _LEAST_SCALE, _SCALE.largest)

  total = blocks.spread(s, tile, x.shape) * t
  total = jax.lax.optimization_barrier(total)
  elements = microscaling.to_element(blocks.flush(x) / total, element)
  return Parts(elements, jnp.where(is_finite, s, jnp.nan), t)


def _scale_of(x, t):
  return tensor_scale(x) if t is None else jnp.asarray(t, jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _quantize(tile, x, t):
  elements, scales, t = parts(x, tile, t)
  total = blocks.spread(scales, tile, x.shape) * t
  return blocks.flush(elements * jax.lax.optimization_barrier(total))


def _quantize_forward(tile, x, t):
  return _quantize(tile, x, t), None


def _quantize_backward(tile, residuals, g):
  del tile, residuals
  return g, None


_quantize.defvjp(_quantize_forward, _quantize_backward)
# Outside of a compiled function each operation would be compiled by itself.
_compiled = jax.jit(_quantize, static_argnums=(0,))
