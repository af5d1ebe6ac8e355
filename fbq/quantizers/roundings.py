"""Rounding to integers, with ties decided exactly."""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

MODES = ("nearest", "even", "floor", "stochastic")


def check_rounding(mode: str, key: Array | None) -> None:
  """Raises ValueError for an unknown mode, or a key too few or too many."""
  if mode not in MODES:
    raise ValueError(f"rounding is {mode!r}, expected one of {MODES}")
  if mode == "stochastic" and key is None:
    raise ValueError(
      "stochastic rounding needs a key: pass key=jax.random.key(seed), another "
      "one for every step and tensor"
    )
  if mode != "stochastic" and key is not None:
    raise ValueError(
      f"rounding is {mode!r}, which draws nothing: pass no key, or "
      "rounding='stochastic'"
    )


def noise(mode: str, key: Array | None, shape: tuple[int, ...]) -> Array | None:
  """What `to_integer` draws on: uniform in [0, 1), or None."""
  check_rounding(mode, key)
  return None if key is None else jax.random.uniform(key, shape)


def to_integer(x: Array, mode: str, noise: Array | None = None) -> Array:
  """`x` rounded to an integer, as float.

  Args:
    x: float32 tensor.
    mode: "nearest" (ties away from zero), "even" (ties to even), "floor"
      (towards zero, as hardware drops bits; the name is microxcaling's) or
      "stochastic" (away from zero with the probability of the fraction).
    noise: random numbers of `x`'s shape, from `noise`, for stochastic rounding.
  """
  if mode == "nearest":
    return lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)
  if mode == "even":
    return lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN)
  if mode == "floor":
    return jnp.trunc(x)
  if noise is None:
    raise ValueError(f"rounding is {mode!r}, which needs noise")
  # Not floor(x + noise): that sum is rounded itself, up to the next integer.
  whole = jnp.trunc(x)
  return whole + jnp.where(noise < jnp.abs(x - whole), jnp.sign(x), 0.0)
