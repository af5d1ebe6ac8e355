"""Streams of codes of any width, most significant bit first."""

import numpy as np


def to_bits(values: np.ndarray, width: int) -> np.ndarray:
  """uint8 0 or 1 [len(values) * width] of integers that are not negative."""
  shifts = np.arange(width - 1, -1, -1)
  wide = values.astype(np.int64)
  return (wide[:, None] >> shifts & 1).astype(np.uint8).reshape(-1)


def from_bits(stream: np.ndarray, width: int) -> np.ndarray:
  """int64 values of consecutive groups of `width` bits."""
  weights = 1 << np.arange(width - 1, -1, -1, dtype=np.int64)
  return stream.reshape(-1, width).astype(np.int64) @ weights
