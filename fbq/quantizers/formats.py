"""Numbers of formats, which are data: checked where they are known."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

Array = jax.Array


def check_integers(
  name: str,
  value: Array | int,
  is_valid: Callable[[Any], Any],
  expected: str,
) -> None:
  """Raises ValueError unless `value` is traced, or integers that are valid."""
  if isinstance(value, jax.core.Tracer):
    return
  numbers = np.asarray(value)
  is_integer = np.issubdtype(numbers.dtype, np.integer)
  if not is_integer or not is_valid(numbers).all():
    raise ValueError(f"{name} is {value}, expected {expected}")


def within(low: int, high: int) -> Callable[[Any], Any]:
  """Whether each number is in [low, high]."""
  return lambda values: (values >= low) & (values <= high)
