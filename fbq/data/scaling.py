"""Pixels as numbers: in [0, 1], or normalized by channel."""

import numpy as np


def normalization(config) -> tuple[np.ndarray, np.ndarray] | None:
  """(mean, std) float32 [3] if the config has them.

  Raises:
    ValueError: one without the other, not three numbers, std not positive.
  """
  mean, std = getattr(config, "mean", None), getattr(config, "std", None)
  if mean is None and std is None:
    return None
  result = np.asarray(mean, np.float32), np.asarray(std, np.float32)
  good = all(x.shape == (3,) and np.isfinite(x).all() for x in result)
  if not good or not (result[1] > 0).all():
    raise ValueError(
      f"data.mean is {mean} and data.std {std}, expected three numbers each, "
      "std positive, or neither"
    )
  return result


def numbers(
  pixels: np.ndarray, normal: tuple[np.ndarray, np.ndarray] | None
) -> np.ndarray:
  """float32 of pixels uint8 [..., 3], by what `normalization` returned."""
  images = pixels.astype(np.float32) / np.float32(255)
  return images if normal is None else (images - normal[0]) / normal[1]
