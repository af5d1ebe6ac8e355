"""Tensors in bfloat16 between products, at half the memory and its traffic.

A bfloat16 has 8 significant bits: it holds every integer up to 256, so codes of
at most 8 bits, but a code times its step only by luck. Of 255 codes times a
step, those survive whose product needs 8 bits: all for a power of two, half of
them for 3 times one, next to none for 1 / 255. So a quantized tensor is kept as
its codes, and the steps of both operands are multiplied into the product, which
is a sum of products of integers in float32, rounded once to bfloat16.

Codes are recovered exactly: y = code * step is rounded to float32, so y / step
is within 2^-22 of the code in relative terms, and bfloat16s around it are
2^-8 apart; the nearest is the code.

All else is in float32: weights, optimizer, statistics and sums of batch norms,
ranges, gates, quantizers, biases, the loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq import backend

Array = jax.Array
FLOAT32, BFLOAT16 = "float32", "bfloat16"
TYPES = (FLOAT32, BFLOAT16)


class Kept(NamedTuple):
  """A tensor as it is kept between two operators.

  Attributes:
    numbers: float32, or bfloat16 in units.
    unit: what 1 stands for: [] for a tensor, [.., O] for the output channels of
      a kernel; None if numbers are what they are.
  """

  numbers: Array
  unit: Array | None

  @property
  def value(self) -> Array:
    """float32 numbers."""
    if self.unit is None:
      return self.numbers
    return self.numbers.astype(jnp.float32) * self.unit


def keep(x: Array, unit: Array | float, compute_dtype: str) -> Kept:
  """`x` as it is kept in training of a type.

  Args:
    x: float32 tensor.
    unit: not 0; what quantized numbers are multiples of, else 1. A constant to
      gradients, since the value does not depend on it.
    compute_dtype: one of `TYPES`.

  Raises:
    ValueError: another type.
  """
  if compute_dtype not in TYPES:
    raise ValueError(
      f"compute_dtype is {compute_dtype!r}, expected one of {TYPES}"
    )
  if compute_dtype == FLOAT32:
    return Kept(x, None)
  unit = jax.lax.stop_gradient(jnp.asarray(unit, jnp.float32))
  return Kept((x / unit).astype(jnp.bfloat16), unit)


def product(
  multiply: Callable[[Array, Array], Array], x: Kept, kernel: Kept
) -> Array:
  """float32 `multiply(x, kernel)`, linear in both, of what is kept.

  Rounded once to bfloat16 where its operands are. CPUs sum bfloat16s in
  bfloat16, so there the operands are float32, as those of a GPU's sums are.
  """
  if x.unit is None or kernel.unit is None:
    return multiply(x.value, kernel.value)
  operands = x.numbers, kernel.numbers
  if backend.is_cpu():
    operands = (n.astype(jnp.float32) for n in operands)
  rounded = multiply(*operands).astype(jnp.bfloat16)
  return rounded.astype(jnp.float32) * (x.unit * kernel.unit.reshape(-1))
