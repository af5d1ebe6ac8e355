"""Uniform quantization of weights and activations to a given number of bits.

Bits are arrays, so one compiled function serves every precision. Rounding is
half-to-even, as in PyTorch. Grids, in integer codes of `b` bits:

  weights        signed, -2^(b-1) .. 2^(b-1) - 1, step = range / 2^(b-1)
  activations    unsigned, 0 .. 2^b - 1,          step = range / (2^b - 1)

which are the ones of the Free Bits authors (docs/facts/quantization.md 3.2) and
of the PULP kernels: no zero-point, so a product of codes needs no correction.
"""

import functools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp

from fbq import backend
from fbq.quantizers.blocks import power_of_two

Array = jax.Array


def grid(bits: Array, signed: bool) -> tuple[Array, Array, Array]:
  """Lowest code, highest code, and steps per range of `bits`-bit integers."""
  chex.assert_type(bits, int)  # 4.7 would be taken for 4
  if signed:
    half = power_of_two(jnp.asarray(bits) - 1)
    return -half, half - 1.0, half
  highest = power_of_two(jnp.asarray(bits)) - 1.0
  return jnp.zeros_like(highest), highest, highest


def step(range_: Array, bits: Array | int, signed: bool) -> Array:
  """What a code of 1 stands for; of the shape of `range_`."""
  return range_ / grid(jnp.asarray(bits), signed)[2]


def quantize(
  x: Array, range_: Array, bits: Array, signed: bool, rule: str = "lsq"
) -> Array:
  """`x` rounded to the nearest of the `bits`-bit levels of `range_`.

  Args:
    x: tensor of any shape.
    range_: largest magnitude, positive; broadcasts against `x` (a scalar, or
      [1, .., 1, C] for one range per output channel).
    bits: integer array, broadcasts against `range_`.
    signed: whether codes are -2^(b-1) .. 2^(b-1)-1, else 0 .. 2^b-1.
    rule: gradient of the range. "lsq": that of the straight-through estimator,
      d y / d range = (y - x [x inside]) / range (learned step size, arXiv
      1902.08153; the original Bayesian Bits). "pact": y / range where `x` is
      clipped, 0 inside (arXiv 1805.06085).

  Returns:
    Array of `x`'s shape. Its gradient passes to `x` where `x` is not clipped.
  """
  check_broadcasts(x, range_=range_, bits=bits)
  low, high, steps = grid(bits, signed)
  return _quantize(rule, signed, x, range_ / steps, low, high)


def codes(x: Array, range_: Array, bits: Array, signed: bool) -> Array:
  """The int32 codes of `quantize`: `quantize(x) == codes(x) * step` exactly."""
  check_broadcasts(x, range_=range_, bits=bits)
  low, high, steps = grid(bits, signed)
  return round_to_codes(x, range_ / steps, low, high).astype(jnp.int32)


def check_broadcasts(x: Array, **others: Any) -> None:
  """Raises AssertionError unless each of `others` broadcasts to `x`'s shape.

  What is wider than `x` would give a result that is, too: [5] and a range
  [3, 1] are [3, 5], without a word.
  """
  for name, other in others.items():
    chex.assert_is_broadcastable(
      jnp.shape(other), jnp.shape(x), custom_message=f"{name}, against x"
    )


def round_to_codes(
  x: Array, step: Array, low: Array | float, high: Array | float
) -> Array:
  """Codes of `x` as floats: round(x * (1 / step)) clipped to [low, high].

  XLA turns a division by a broadcast array into this product anyhow, but only
  in some programs; written out, jit, eager and fused code round alike. It can
  differ from a division where x / step is within one ulp of a tie.
  """
  return jnp.clip(jnp.round(x * (1.0 / step)), low, high)


def is_inside(x: Array, bottom: Array, top: Array, signed: bool) -> Array:
  """Where the straight-through gradient passes.

  The ends count as inside for weights, whose range is often the largest of
  them, and as outside for activations, where the lower end is that of the ReLU.
  """
  if signed:
    return (x >= bottom) & (x <= top)
  return (x > bottom) & (x < top)


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
  """Sums `x` over the axes along which an array of `shape` was broadcast.

  On a CPU as products with ones, which XLA makes better use of than of several
  reductions of one expression: the search step of MobileNetV1 takes 1.12 float
  steps so, 1.39 with `jnp.sum` (`benchmarks/steps.py`'s net, two cores), though
  three such sums alone gain nothing.
  """
  if x.shape == shape:
    return x
  shape_ = (1,) * (x.ndim - len(shape)) + shape
  kept = [i for i, size in enumerate(shape_) if size == x.shape[i] and size > 1]
  if backend.is_cpu():
    if x.ndim - 1 not in kept:
      # Over the last axis alone: flattening more would make the fused loop find
      # each element's channel by a division.
      x = (x @ jnp.ones(x.shape[-1], x.dtype))[..., None]
    elif kept == list(range(x.ndim - len(kept), x.ndim)):  # trailing axes
      columns = math.prod(x.shape[x.ndim - len(kept) :])
      flat = x.reshape(-1, columns)
      return (jnp.ones(flat.shape[0], x.dtype) @ flat).reshape(shape)
  axes = tuple(i for i in range(x.ndim) if i not in kept)
  return jnp.sum(x, axes).reshape(shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _quantize(rule, signed, x, step, low, high):
  del rule, signed
  return round_to_codes(x, step, low, high) * step


def _quantize_forward(rule, signed, x, step, low, high):
  y = _quantize(rule, signed, x, step, low, high)
  return y, (x, y, step, low, high)


def _quantize_backward(rule, signed, residuals, g):
  """Keeps `y`, which the next layer keeps too, rather than rounding again."""
  x, y, step, low, high = residuals
  inside = is_inside(x, low * step, high * step, signed)
  if rule == "lsq":
    dstep = g * (y - jnp.where(inside, x, 0.0))
  elif rule == "pact":
    dstep = jnp.where(inside, 0.0, g * y)
  else:
    raise ValueError(f"rule is {rule!r}, expected 'lsq' or 'pact'")
  dx = jnp.where(inside, g, 0.0)
  return dx, sum_to(dstep, step.shape) / step, None, None


_quantize.defvjp(_quantize_forward, _quantize_backward)
