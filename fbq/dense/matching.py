"""Which detections are right, image by image, in a compiled program.

The same matching as `fbq.dense.average_precision`, which reads it: that of
COCO's evaluation. What it leaves of each image is enough for the average
precision of any set of images.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.dense.average_precision import THRESHOLDS, precision_of
from fbq.dense.objects import Objects
from fbq.dense.suppression import Detections

Array = jax.Array


class Matches(NamedTuple):
  """What is known of the `D` detections of an image, or of `N` images.

  Attributes:
    scores: float32 [D]; 0 is no detection.
    classes: int32 [D].
    right: bool [D, T], whether each finds an object, by threshold of overlap.
    counted: bool [D, T]; what lies in a crowd is neither right nor wrong.
    objects: int32 [C], objects of each class.
  """

  scores: Array
  classes: Array
  right: Array
  counted: Array
  objects: Array


def box_overlaps(found: Array, objects: Objects) -> Array:
  """[D, G] intersection over union of boxes; of a crowd, over the detection.

  Args:
    found: boxes [D, 4].
    objects: objects of the image, without the axis of a batch.
  """
  truth = objects.boxes
  low = jnp.maximum(found[:, None, :2], truth[None, :, :2])
  high = jnp.minimum(found[:, None, 2:], truth[None, :, 2:])
  common = jnp.prod(jnp.maximum(high - low, 0), -1)
  area = lambda boxes: jnp.prod(boxes[:, 2:] - boxes[:, :2], -1)
  return _shares(common, area(found), area(truth), objects.is_crowd)


def mask_overlaps(found: Array, objects: Objects) -> Array:
  """The same of masks [D, H, W] and those of the objects [G, H, W]."""
  flat = lambda masks: masks.reshape(len(masks), -1).astype(jnp.float32)
  found, truth = flat(found), flat(objects.masks)
  areas = found.sum(1), truth.sum(1)
  return _shares(found @ truth.T, *areas, objects.is_crowd)


def _shares(common, found_areas, truth_areas, is_crowd):
  union = found_areas[:, None] + truth_areas - common
  whole = jnp.where(is_crowd, found_areas[:, None], union)
  return jnp.where(common > 0, common / jnp.maximum(whole, 1e-9), 0.0)


def matches(
  found: Detections, overlaps: Array, objects: Objects, classes: int
) -> Matches:
  """The matches of one image.

  Args:
    found: its detections, best first.
    overlaps: float32 [D, G], with its objects.
    objects: its objects, without the axis of a batch.
    classes: number of classes.
  """
  thresholds = jnp.asarray(THRESHOLDS, jnp.float32) - 1e-6
  same = found.classes[:, None] == objects.classes
  same &= (found.scores > 0)[:, None]  # the others are no detections
  overlaps = jnp.where(same & objects.is_object, overlaps, -1.0)
  single = ~objects.is_crowd & objects.is_object
  count = len(objects.classes)

  # Best first, each takes the largest overlap that is free, of equals the last.
  def match(free, row):
    options = (row >= thresholds[:, None]) & free  # [T, G]
    best = count - 1 - jnp.argmax(jnp.where(options, row, -1)[:, ::-1], 1)
    right = options.any(1)
    taken = right[:, None] & (jnp.arange(count) == best[:, None])
    in_crowd = (row >= thresholds[:, None]) & objects.is_crowd
    return free & ~taken, (right, right | ~in_crowd.any(1))

  start = jnp.broadcast_to(single, (len(THRESHOLDS), count))
  _, (right, counted) = jax.lax.scan(match, start, overlaps)
  there = jnp.where(single, objects.classes, classes)
  number = jnp.bincount(there, length=classes + 1)[:-1].astype(jnp.int32)
  return Matches(found.scores, found.classes, right, counted, number)


def mean_precision(found: Matches) -> float:
  """COCO's AP of `N` images, from 0 to 1; see `precisions`."""
  return float(precisions(found).mean())


def precisions(found: Matches) -> np.ndarray:
  """float64 [T] AP of `N` images by threshold; 0 if they have no objects.

  Args:
    found: numpy arrays [N, ...], the matches of every image.
  """
  totals = np.sum(found.objects, 0)
  is_found = np.asarray(found.scores) > 0
  columns = found.scores, found.classes, found.right, found.counted
  scores, classes, right, counted = (np.asarray(x)[is_found] for x in columns)
  of_class = [
    precision_of(scores[mine], right[mine], counted[mine], int(totals[c]))
    for c in np.flatnonzero(totals)
    for mine in [classes == c]
  ]
  return np.mean(of_class, 0) if of_class else np.zeros(len(THRESHOLDS))
