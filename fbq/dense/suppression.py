"""From scores and boxes of pixels to detections: one for each object.

Greedy non-maximum suppression by class, in fixed shapes, so that it is part of
a compiled program; for one image, batches are mapped over.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array

MOST = 100  # detections of an image, as COCO counts them
OVERLAP, CONFIDENCE = 0.7, 0.001  # what Ultralytics tests with
_CANDIDATES = 4096  # pairs of pixel and class that are looked at


class Detections(NamedTuple):
  """At most `D` detections of an image, best first; the others score 0.

  Attributes:
    scores: float32 [D].
    classes: int32 [D].
    boxes: float32 [D, 4], left, top, right, bottom.
    pixels: int32 [D], which pixel of the scales told each.
  """

  scores: Array
  classes: Array
  boxes: Array
  pixels: Array


def detections(scores: Array, boxes: Array) -> Detections:
  """Detections of an image.

  A detection falls away if a better one of its class overlaps it by more than
  0.7, or if it scores at most 0.001.

  Args:
    scores: float32 [A, C], probabilities of classes.
    boxes: float32 [A, 4].
  """
  count = min(_CANDIDATES, scores.size)
  most = min(MOST, count)
  best, places = jax.lax.top_k(scores.ravel(), count)
  pixels, classes = places // scores.shape[1], places % scores.shape[1]
  found = jnp.asarray(boxes)[pixels]

  # The best that is left is a detection and takes its rivals away.
  def pick(i, state):
    left, chosen = state
    one = jnp.argmax(left)
    chosen = chosen.at[i].set(jnp.where(left[one] > CONFIDENCE, one, -1))
    rivals = (_overlaps(found[one], found) > OVERLAP) & (
      classes[one] == classes
    )
    return jnp.where(rivals, 0.0, left).at[one].set(0.0), chosen

  start = best, jnp.full(most, -1)
  _, chosen = jax.lax.fori_loop(0, most, pick, start)
  scores = jnp.where(chosen >= 0, best[chosen], 0.0)
  return Detections(
    scores, classes[chosen].astype(jnp.int32), found[chosen], pixels[chosen]
  )


def _overlaps(box, boxes):
  """[N] intersection over union of one box [4] with others."""
  low = jnp.maximum(box[:2], boxes[:, :2])
  high = jnp.minimum(box[2:], boxes[:, 2:])
  common = jnp.prod(jnp.maximum(high - low, 0), -1)
  areas = jnp.prod(boxes[:, 2:] - boxes[:, :2], -1)
  area = jnp.prod(box[2:] - box[:2])
  return common / jnp.maximum(area + areas - common, 1e-9)
