"""Quantizers of a mixture of precisions, fused, with analytic gradients.

`mixed_quantize` weighs all precisions of the ladder 2, 4, 8 (EdMIPS, PLiNIO;
docs/facts/quantization.md 7), `fractional_quantize` the two around a fractional
index on it (FracBits). Both are one tensor, so what follows is computed once.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fbq.quantizers import uniform
from fbq.quantizers.bayesian_bits import (
  LADDER,
  level_codes,
  level_steps,
  static_grid,
)

Array = jax.Array


def mixed_quantize(
  x: Array, range_: Array, shares: Sequence[Array], signed: bool
) -> Array:
  """(1 - p4 - p8) Q2(x) + p4 Q4(x) + p8 Q8(x), the Qs on `uniform`'s grids.

  Args:
    x: tensor of any shape.
    range_: range, positive, one for all precisions; broadcasts against `x`.
    shares: (p4, p8), each broadcasting against `x`.
    signed: see `uniform.quantize`.

  Returns:
    Array of `x`'s shape. Its gradient passes to `x` and the range through every
    quantizer, weighted as in the sum; to the shares as sum g (Q4 - Q2) and sum
    g (Q8 - Q2).
  """
  p4, p8 = shares
  uniform.check_broadcasts(x, range_=range_, p4=p4, p8=p8)
  return _mixed(signed, x, range_, p4, p8)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mixed(signed, x, range_, p4, p8):
  shares = 1.0 - p4 - p8, p4, p8
  terms = [
    (share * step) * codes
    for share, step, codes in zip(
      shares,
      level_steps(range_, signed),
      level_codes(x, range_, signed),
      strict=True,
    )
  ]
  return terms[0] + terms[1] + terms[2]


def _mixed_forward(signed, x, range_, p4, p8):
  return _mixed(signed, x, range_, p4, p8), (x, range_, p4, p8)


def _mixed_backward(signed, residuals, g):
  """The shares stay outside of the sums, see `bayesian_bits`."""
  # Codes are computed again: that costs less than keeping three tensors.
  x, range_, p4, p8 = residuals
  q2, q4, q8 = (
    step * codes
    for step, codes in zip(
      level_steps(range_, signed), level_codes(x, range_, signed), strict=True
    )
  )

  # What the shares and the range have in common is summed once.
  total = _totals(x, range_, p4, p8)
  gain4, gain8 = total(g * (q4 - q2)), total(g * (q8 - q4))

  if signed:  # the precisions end at different codes
    masks = [
      uniform.is_inside(x, low / steps * range_, high / steps * range_, True)
      for low, high, steps in (static_grid(bits, True) for bits in LADDER)
    ]
    m2, m4, m8 = (mask.astype(g.dtype) for mask in masks)
    slope = (1.0 - p4 - p8) * m2 + p4 * m4 + p8 * m8
    drange = (
      (1.0 - p4 - p8) * total(g * (q2 - m2 * x))
      + p4 * total(g * (q4 - m4 * x))
      + p8 * total(g * (q8 - m8 * x))
    )
  else:
    slope = ((x > 0.0) & (x < range_)).astype(g.dtype)
    drange = total(g * (q2 - slope * x)) + (p4 + p8) * gain4 + p8 * gain8

  return (
    g * slope,
    uniform.sum_to(drange / range_, range_.shape),
    uniform.sum_to(gain4, p4.shape),
    uniform.sum_to(gain4 + gain8, p8.shape),
  )


_mixed.defvjp(_mixed_forward, _mixed_backward)


def fractional_quantize(
  x: Array, range_: Array, index: Array, signed: bool
) -> Array:
  """(1 - t) Q_k(x) + t Q_k+1(x) for `index` = k + t on the ladder 2, 4, 8.

  At a whole index it is the quantizer of that precision, exactly.

  Args:
    x: tensor of any shape.
    range_: range, positive, one for all precisions; broadcasts against `x`.
    index: index in [0, 2]; broadcasts against `range_`.
    signed: see `uniform.quantize`.

  Returns:
    Array of `x`'s shape. Its gradient passes to `x` and the range through both
    quantizers, weighted as in the sum; to the index as sum g (Q_k+1 - Q_k).
  """
  uniform.check_broadcasts(x, range_=range_, index=index)
  return _fractional(signed, x, range_, index)


def _neighbours(x, range_, index, signed):
  """(t, ((codes, step, lowest, highest) of both precisions))."""
  k = jnp.clip(jnp.floor(index), 0.0, len(LADDER) - 2.0)
  levels = []
  for i in (0, 1):
    bits = jnp.left_shift(LADDER[0], k.astype(jnp.int32) + i)
    low, high, steps = uniform.grid(bits, signed)
    step = range_ / steps
    codes = uniform.round_to_codes(x, step, low, high)
    levels.append((codes, step, low * step, high * step))
  return index - k, levels


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _fractional(signed, x, range_, index):
  t, ((codes, step, *_), (more_codes, finer, *_)) = _neighbours(
    x, range_, index, signed
  )
  return ((1.0 - t) * step) * codes + (t * finer) * more_codes


def _fractional_forward(signed, x, range_, index):
  return _fractional(signed, x, range_, index), (x, range_, index)


def _fractional_backward(signed, residuals, g):
  x, range_, index = residuals
  t, levels = _neighbours(x, range_, index, signed)
  q, finer = (codes * step for codes, step, *_ in levels)
  total = _totals(x, range_, index)
  gain = total(g * (finer - q))
  if signed:
    m, more = (
      uniform.is_inside(x, low, high, True).astype(g.dtype)
      for *_, low, high in levels
    )
    slope = (1.0 - t) * m + t * more
    drange = (1.0 - t) * total(g * (q - m * x)) + t * total(
      g * (finer - more * x)
    )
  else:
    slope = ((x > 0.0) & (x < range_)).astype(g.dtype)
    drange = total(g * (q - slope * x)) + t * gain
  return (
    g * slope,
    uniform.sum_to(drange / range_, range_.shape),
    uniform.sum_to(gain, index.shape),
  )


_fractional.defvjp(_fractional_forward, _fractional_backward)


def _totals(x, *small):
  """Sums over what the small arrays have in common."""
  shape = jnp.broadcast_shapes(*(jnp.shape(array) for array in small))
  shape = (1,) * (x.ndim - len(shape)) + shape
  return lambda v: uniform.sum_to(v, shape)
