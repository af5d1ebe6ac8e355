"""What is said where the memory of the device does not suffice."""

import contextlib
from collections.abc import Iterator

import jax


class OutOfMemory(MemoryError):
  """The device has no memory left; the message says what to lower."""


def is_exhausted(error: jax.errors.JaxRuntimeError) -> bool:
  """Whether an error of jax says that memory does not suffice."""
  return "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def told(stage: str, size: str, cure: str) -> Iterator[None]:
  """Within, an error of memory names what was at work and what to do.

  Args:
    stage: what is at work: the name of a training, or what is tested.
    size: what it needs memory for, such as "64 images a step".
    cure: what to lower, by the names of settings.

  Raises:
    OutOfMemory: in place of jax's error.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if not is_exhausted(error):
      raise
    raise OutOfMemory(
      f"{stage}: the device has not enough memory for {size}; {cure}"
    ) from error
