"""Mean intersection over union of class maps: one matrix for a whole set."""

from typing import NamedTuple

import numpy as np

IGNORED = 255  # label of pixels that count nowhere


class ClassOverlap(NamedTuple):
  """How well pixels were classified, 0 to 1.

  Attributes:
    mean: mean of `of_class` over classes that are there or were predicted.
    of_class: float64 [C], intersection over union; NaN where neither.
    pixels: share of pixels that are right.
  """

  mean: float
  of_class: np.ndarray
  pixels: float


def confusion(
  truth: np.ndarray, predicted: np.ndarray, classes: int
) -> np.ndarray:
  """int64 [C, C]: pixels by true class and predicted one.

  Args:
    truth: integers of any shape, 0 .. classes - 1, or `IGNORED`.
    predicted: integers of the same shape, 0 .. classes - 1.
    classes: number of classes.

  Raises:
    ValueError: other shapes or labels.
  """
  truth, predicted = np.asarray(truth), np.asarray(predicted)
  if truth.shape != predicted.shape:
    raise ValueError(
      f"classes were predicted for {predicted.shape} pixels, expected "
      f"{truth.shape}: enlarge predictions to the image first"
    )
  counted = truth != IGNORED
  true, told = truth[counted].astype(np.int64), predicted[counted]
  for name, labels in (("true", true), ("predicted", told)):
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
      raise ValueError(
        f"{name} classes are {labels.min()} to {labels.max()}, expected 0 to "
        f"{classes - 1}, or {IGNORED} for pixels that do not count"
      )
  pairs = np.bincount(true * classes + told, minlength=classes * classes)
  return pairs.reshape(classes, classes)


def class_overlap(matrix: np.ndarray) -> ClassOverlap:
  """Of the confusion of a whole set: the sum over its images."""
  right = np.diag(matrix).astype(np.float64)
  union = matrix.sum(0) + matrix.sum(1) - right
  of_class = np.full(len(matrix), np.nan)
  np.divide(right, union, out=of_class, where=union > 0)
  if not matrix.any():
    return ClassOverlap(np.nan, of_class, np.nan)
  return ClassOverlap(
    float(np.nanmean(of_class)), of_class, float(right.sum() / matrix.sum())
  )
