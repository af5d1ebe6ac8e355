"""Which pixels of the scales answer for which object: task-aligned assignment.

TOOD (arXiv 2108.07755) as YOLOv8 uses it. A pixel agrees with an object by
score^0.5 overlap^6, of its score for the object's class and its box. Of those
whose centre lies in an object, the 10 that agree best answer for it; one that
several objects want is that of its largest overlap. Targets of scores are
agreement, scaled so that the best of an object has its best overlap.

For one image; batches are mapped over.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq.dense import boxes

Array = jax.Array

CANDIDATES = 10
SCORE_POWER, OVERLAP_POWER = 0.5, 6.0
_EPSILON = 1e-9


class Assigned(NamedTuple):
  """What `A` pixels have to say.

  Attributes:
    is_positive: bool [A], which pixels answer for an object.
    object: int32 [A], which; 0 where none.
    scores: float32 [A, C], targets of the classes' probabilities.
  """

  is_positive: Array
  object: Array
  scores: Array


def assigned(
  scores: Array,
  found: Array,
  points: Array,
  truth: Array,
  classes: Array,
  is_object: Array,
) -> Assigned:
  """The assignment of one image; no gradient passes through it.

  Args:
    scores: float32 [A, C], probabilities of the classes.
    found: float32 [A, 4], boxes of the pixels, in pixels of the image.
    points: float32 [A, 2], centres of the pixels, likewise.
    truth: float32 [G, 4], boxes of the objects.
    classes: int32 [G], their classes.
    is_object: bool [G], which rows are objects; the others fill up.
  """
  scores, found = map(jax.lax.stop_gradient, (scores, found))
  edges = jnp.concatenate(
    [points - truth[:, None, :2], truth[:, None, 2:] - points], -1
  )
  is_inside = (edges.min(-1) > _EPSILON) & is_object[:, None]  # [G, A]
  overlap = boxes.complete_iou(truth[:, None], found[None])
  overlap = jnp.where(is_inside, jnp.maximum(overlap, 0), 0)
  score = jnp.where(is_inside, scores[:, classes].T, 0)
  agreement = score**SCORE_POWER * overlap**OVERLAP_POWER

  # Pixels outside, and boxes that miss the object, agree with nothing; they
  # would count nothing in the loss either.
  count = min(CANDIDATES, len(points))
  _, best = jax.lax.top_k(agreement, count)
  wanted = (
    jnp.zeros_like(is_inside)
    .at[jnp.arange(len(truth))[:, None], best]
    .set(True)
  )
  wanted &= agreement > 0

  # What several want is that of the largest overlap, over all objects.
  largest = jnp.argmax(overlap, 0)
  is_contested = wanted.sum(0) > 1
  sole = jnp.arange(len(truth))[:, None] == largest
  wanted = jnp.where(is_contested, sole, wanted)

  agreement = jnp.where(wanted, agreement, 0)
  best_agreement = agreement.max(1, keepdims=True)
  best_overlap = jnp.where(wanted, overlap, 0).max(1, keepdims=True)
  scaled = agreement * best_overlap / (best_agreement + _EPSILON)
  object_ = jnp.argmax(wanted, 0)
  is_positive = wanted.any(0)
  target = jnp.where(is_positive, scaled.max(0), 0)
  one_hot = jax.nn.one_hot(classes[object_], scores.shape[1])
  return Assigned(is_positive, object_, one_hot * target[:, None])
