"""YOLOv8's loss: boxes by CIoU and distributions of distances, and classes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fbq.dense import boxes
from fbq.dense.assignment import Assigned, assigned

Array = jax.Array

BOX, CLASS, DISTANCE = 7.5, 0.5, 1.5  # weights of the three parts
_LAST = 0.01  # of the largest distance, so that a bin lies above it


class Parts(NamedTuple):
  """The parts of the loss of a batch, weighted; their sum is the loss."""

  boxes: Array
  classes: Array
  distances: Array


def distance_loss(logits: Array, target: Array) -> Array:
  """[...] cross-entropy of distances with the two bins beside each target.

  Distribution focal loss (arXiv 2006.04388, eq. 6), the mean of four sides.

  Args:
    logits: float32 [..., 4 n], of distances 0 .. n - 1.
    target: float32 [..., 4], distances in pixels of the scale, kept within
      0 .. n - 1.01.
  """
  bins = logits.shape[-1] // 4
  target = jnp.clip(target, 0, bins - 1 - _LAST)
  low = jnp.floor(target).astype(jnp.int32)
  logits = logits.reshape(*logits.shape[:-1], 4, bins)
  entropy = lambda bin_: optax.softmax_cross_entropy_with_integer_labels(
    logits, bin_
  )
  above = target - low
  return jnp.mean(entropy(low) * (1 - above) + entropy(low + 1) * above, -1)


def targets(
  box_logits: Array,
  class_logits: Array,
  points: Array,
  strides: Array,
  truth: Array,
  classes: Array,
  is_object: Array,
) -> Assigned:
  """Which pixels of a batch answer for which objects, see `detection_loss`."""
  found = boxes.around(points, boxes.distances(box_logits))
  scale = strides[:, None]
  return jax.vmap(assigned, (0, 0, None, 0, 0, 0))(
    *(jax.nn.sigmoid(class_logits), found * scale, points * scale),
    *(truth, classes, is_object),
  )


def detection_loss(
  box_logits: Array,
  class_logits: Array,
  points: Array,
  strides: Array,
  truth: Array,
  classes: Array,
  is_object: Array,
) -> Parts:
  """The loss of a batch, summed over images over the sum of their targets.

  Args:
    box_logits: float32 [B, A, 4 n], of distances in pixels of the scales.
    class_logits: float32 [B, A, C].
    points, strides: see `boxes.centres`.
    truth: float32 [B, G, 4], boxes in pixels of the image.
    classes: int32 [B, G].
    is_object: bool [B, G], rows that are objects.
  """
  found = boxes.around(points, boxes.distances(box_logits))
  scale = strides[:, None]
  target = targets(
    *(box_logits, class_logits, points, strides),
    *(truth, classes, is_object),
  )
  total = jnp.maximum(target.scores.sum(), 1)

  # Each pixel counts as much as the score that it ought to have.
  weight = target.scores.sum(-1)
  theirs = jnp.take_along_axis(truth, target.object[..., None], 1) / scale
  apart = jnp.where(
    target.is_positive, 1 - boxes.complete_iou(found, theirs), 0
  )
  sides = jnp.concatenate(
    [points - theirs[..., :2], theirs[..., 2:] - points], -1
  )
  bins = jnp.where(target.is_positive, distance_loss(box_logits, sides), 0)
  of_classes = optax.sigmoid_binary_cross_entropy(class_logits, target.scores)
  per_image = len(truth) / total
  return Parts(
    BOX * (apart * weight).sum() * per_image,
    CLASS * of_classes.sum() * per_image,
    DISTANCE * (bins * weight).sum() * per_image,
  )
