"""Largest and smallest numbers that are NaN where there is a NaN.

On a CPU, XLA's reductions of floats by max and min drop NaN from 4,096 elements
on, along whichever axes (jax 0.10.2): a range from them would be that of the
other numbers. Those of integers and booleans are exact.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
_MAGNITUDE = 0x7FFFFFFF


def magnitude(x: Array, axes: Sequence[int] | None = None) -> Array:
  """Largest magnitude of `x` (float32) along `axes`; NaN if there is one.

  It has no gradient: bits of floats have none.
  """
  bits = lax.bitcast_convert_type(x, jnp.int32) & _MAGNITUDE
  return lax.bitcast_convert_type(jnp.max(bits, axes), jnp.float32)


def ends(
  x: Array, axes: Sequence[int] | None = None, keepdims: bool = False
) -> tuple[Array, Array]:
  """(smallest, largest) number of `x` along `axes`; NaN if there is one."""
  is_lost = jnp.any(jnp.isnan(x), axes, keepdims=keepdims)
  low = jnp.min(x, axes, keepdims=keepdims)
  high = jnp.max(x, axes, keepdims=keepdims)
  return jnp.where(is_lost, jnp.nan, low), jnp.where(is_lost, jnp.nan, high)
