"""Uniform quantization with a zero-point, and the symmetric forms without.

The quantizers of Krishnamoorthi's whitepaper (arXiv 1806.08342, section 2).
Codes of `b` bits, N = 2^b:

  affine       0 .. N-1, zero-point; the range need not be symmetric
  symmetric    -N/2 .. N/2-1,       step = range / (N/2), that of `uniform`
  restricted   -(N/2-1) .. N/2-1,   step = range / (N/2-1), its weights
  unsigned     0 .. N-1,            step = range / (N-1)

Ranges are arrays that broadcast against the tensor: a scalar for a layer,
[1, .., 1, C] or [C] for one of each channel of the last axis. Bits are arrays,
so one compiled function serves every precision.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.quantizers import roundings, uniform

Array = jax.Array
FORMS = ("affine", "symmetric", "restricted", "unsigned")
# The step of a range of zero: the inverse of a smaller one is not finite.
_LEAST_STEP = np.float32(2.0**-100)


class Grid(NamedTuple):
  """Real numbers (code - zero_point) step, for codes low .. high.

  All float32 and broadcast against the tensor.

  Attributes:
    step: distance between neighbours, positive.
    zero_point: the code that stands for 0, an integer in low .. high.
    low: least code.
    high: greatest code.
    bottom: least number that does not count as clipped.
    top: greatest number that does not count as clipped.
  """

  step: Array
  zero_point: Array
  low: Array
  high: Array
  bottom: Array
  top: Array


def grid(low: Array, high: Array, bits: Array, form: str) -> Grid:
  """The grid of `bits`-bit codes for numbers from `low` to `high`.

  The range is relaxed to contain 0, which is a code of every form (eq. 2 and
  4). The symmetric forms take the larger of the two magnitudes, the unsigned
  one takes `high`.

  Args:
    low: least number, float.
    high: greatest number, float, broadcasts against `low`.
    bits: integer array, 1 to 24; `restricted` has the code 0 alone at 1 bit.
    form: one of `FORMS`.

  Raises:
    ValueError: `form` is unknown.
  """
  if form not in FORMS:
    raise ValueError(f"form is {form!r}, expected one of {FORMS}")

  # 0 is a code of every form, so the range contains it.
  low = jnp.minimum(jnp.asarray(low, jnp.float32), 0.0)
  high = jnp.maximum(jnp.asarray(high, jnp.float32), 0.0)

  # Only this form needs a zero-point, which makes 0 a code exactly.
  if form == "affine":
    first, last, _ = uniform.grid(bits, signed=False)
    step = _step(high - low, last)
    zero_point = jnp.clip(jnp.round(-low / step), first, last)
    return Grid(step, zero_point, first, last, low, high)

  # The others have 0 at the code 0. What negative numbers an unsigned tensor
  # has are the quantizer's ReLU.
  zero = jnp.zeros_like(low)
  if form == "unsigned":
    first, last, steps = uniform.grid(bits, signed=False)
    return Grid(_step(high, steps), zero, first, last, zero, high)

  # Symmetric forms differ in whether the lowest code is used: without it the
  # grid reaches as far down as up.
  largest = jnp.maximum(-low, high)
  first, last, steps = uniform.grid(bits, signed=True)
  if form == "restricted":
    step = _step(largest, jnp.maximum(last, 1.0))
    return Grid(step, zero, -last, last, -largest, largest)
  step = _step(largest, steps)
  return Grid(step, zero, first, last, -largest, last * step)


def _step(length: Array, steps: Array) -> Array:
  # The product, as XLA makes of an array by a scalar but not of two scalars: a
  # channel must get the step alone that it gets among others.
  return jnp.maximum(length * (1.0 / steps), _LEAST_STEP)


def quantize(
  x: Array, grid: Grid, rounding: str = "even", key: Array | None = None
) -> Array:
  """`x` rounded to numbers of the grid, clipped at its ends.

  Its gradient passes to `x` where `bottom <= x <= top` (eq. 8); the grid gets
  none.

  Args:
    x: float32 tensor of any shape.
    grid: grid that is rounded to, see `grid`.
    rounding: rounding mode, one of `roundings.MODES`; "stochastic" (section
      2.3, for training) adds uniform noise of half a step either way before
      rounding.
    key: random key for stochastic rounding.
  """
  uniform.check_broadcasts(x, **grid._asdict())
  noise = roundings.noise(rounding, key, jnp.shape(x))
  return _quantize(rounding, jnp.asarray(x), noise, grid)


def codes(
  x: Array, grid: Grid, rounding: str = "even", key: Array | None = None
) -> Array:
  """The int32 codes of `quantize`, low .. high: `dequantize` gives its result.

  Args: those of `quantize`.
  """
  uniform.check_broadcasts(x, **grid._asdict())
  noise = roundings.noise(rounding, key, jnp.shape(x))
  return _codes(rounding, jnp.asarray(x), noise, grid).astype(jnp.int32)


def dequantize(codes: Array, grid: Grid) -> Array:
  """The float32 numbers that `codes` stand for."""
  return (codes - grid.zero_point) * grid.step


def _codes(rounding, x, noise, grid):
  # The product with the inverse: see `uniform.round_to_codes`.
  integers = roundings.to_integer(x * (1.0 / grid.step), rounding, noise)
  return jnp.clip(integers + grid.zero_point, grid.low, grid.high)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _quantize(rounding, x, noise, grid):
  return dequantize(_codes(rounding, x, noise, grid), grid)


def _forward(rounding, x, noise, grid):
  inside = (x >= grid.bottom) & (x <= grid.top)
  return _quantize(rounding, x, noise, grid), inside


def _backward(rounding, inside, g):
  del rounding
  return jnp.where(inside, g, 0.0), None, None


_quantize.defvjp(_forward, _backward)
