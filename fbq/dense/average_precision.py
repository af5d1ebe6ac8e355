"""COCO's average precision of boxes or masks.

Of every class and threshold of overlap, detections of all images by falling
score are right if they find an object that no earlier one of the image found.
Precision, made non-increasing from the right, is read at 101 recalls. Means are
over thresholds and over the classes that have objects.

Numbers equal pycocotools's for objects of all sizes and at most 100 detections
of a class and an image (`tests/average_precision_test.py`); its averages by the
size of objects are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 100
_RECALLS = np.linspace(0, 1, 101)


class Image(NamedTuple):
  """What was found in an image, and what is there.

  Attributes:
    scores: float [D], confidence of every detection.
    found: int [D], their classes.
    classes: int [G], classes of the objects.
    is_crowd: bool [G], objects that stand for many: what lies in them is
      neither right nor wrong.
    overlaps: float [D, G], see `fbq.dense.overlaps`.
  """

  scores: np.ndarray
  found: np.ndarray
  classes: np.ndarray
  is_crowd: np.ndarray
  overlaps: np.ndarray


class Precision(NamedTuple):
  """Average precisions, 0 to 1; NaN if no class has objects.

  Attributes:
    mean: over thresholds 0.50, 0.55, .. 0.95: COCO's AP.
    at_50, at_75: those of these thresholds.
    of_class: {class that has objects: its mean over thresholds}.
  """

  mean: float
  at_50: float
  at_75: float
  of_class: dict[int, float]


def average_precision(images: Sequence[Image]) -> Precision:
  """AP, AP50 and AP75 of a set of images.

  Raises:
    ValueError: overlaps of another shape than detections by objects.
  """
  for i, image in enumerate(images):
    shape = len(image.scores), len(image.classes)
    if image.overlaps.shape != shape or len(image.found) != shape[0]:
      raise ValueError(
        f"image {i}: overlaps have shape {image.overlaps.shape} and there are "
        f"{len(image.found)} classes of detections, expected {shape}"
      )
  known = [x.classes[~np.asarray(x.is_crowd, bool)] for x in images]
  classes = np.unique(np.concatenate([np.zeros(0, int), *known]))
  found = {
    int(c): np.array([_of_class(images, c, t) for t in THRESHOLDS])
    for c in classes
  }
  if not found:
    return Precision(np.nan, np.nan, np.nan, {})
  table = np.array(list(found.values()))
  return Precision(
    float(table.mean()),
    float(table[:, 0].mean()),
    float(table[:, 5].mean()),
    {c: float(row.mean()) for c, row in found.items()},
  )


def _of_class(images, which, threshold) -> float:
  """Average precision of a class at a threshold."""
  scores, rights, counted, objects = [], [], [], 0
  for image in images:
    mine = np.flatnonzero(image.found == which)
    order = np.argsort(-image.scores[mine], kind="stable")[:MOST]
    mine, theirs = mine[order], np.flatnonzero(image.classes == which)
    is_crowd = np.asarray(image.is_crowd, bool)[theirs]
    right, is_counted = _matched(
      image.overlaps[np.ix_(mine, theirs)], is_crowd, threshold
    )
    scores.append(image.scores[mine])
    rights.append(right)
    counted.append(is_counted)
    objects += int((~is_crowd).sum())

  column = lambda parts: np.concatenate(parts)[:, None]
  every = np.concatenate(scores), column(rights), column(counted)
  return float(precision_of(*every, objects)[0])


def precision_of(
  scores: np.ndarray, right: np.ndarray, counted: np.ndarray, objects: int
) -> np.ndarray:
  """float64 [T] average precision of one class at `T` thresholds.

  Args:
    scores: [D] of all images, one image after the other.
    right, counted: bool [D, T]: which find an object, which count at all.
    objects: number of objects, one or more.
  """
  # Of equal scores the first image comes first, as in pycocotools.
  order = np.argsort(-scores, kind="stable")
  found = np.zeros(right.shape[1])
  for t in range(len(found)):
    hits = right[order, t][counted[order, t]]
    recall = np.cumsum(hits) / objects
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, _RECALLS)
    found[t] = np.append(precision, 0.0)[place].mean()
  return found


def _matched(overlaps, is_crowd, threshold):
  """(which detections are right, which count at all), best scores first."""
  right = np.zeros(len(overlaps), bool)
  counted = np.ones(len(overlaps), bool)
  free = ~is_crowd
  for d, row in enumerate(overlaps):
    enough = row >= min(threshold, 1 - 1e-10)
    if (options := np.flatnonzero(enough & free)).size:
      # The last of equals, as a loop that takes what is no worse.
      best = options[::-1][np.argmax(row[options][::-1])]
      right[d], free[best] = True, False
    elif (enough & is_crowd).any():
      counted[d] = False
  return right, counted
