"""A class for every pixel: cross-entropy, and mean intersection over union."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbq.dense import class_overlap
from fbq.train.objective import Objective, mean_divergence

Array = jax.Array


def _enlarged(logits: Array, shape: tuple[int, int]) -> Array:
  """Logits [B, h, w, C] as [B, H, W, C], bilinear where they are coarser."""
  if logits.shape[1:3] == shape:
    return logits
  whole = len(logits), *shape, logits.shape[-1]
  return jax.image.resize(logits, whole, "bilinear")


def _loss(logits, truth):
  logits = _enlarged(logits, truth.shape[1:])
  counted = truth != class_overlap.IGNORED
  entropy = optax.softmax_cross_entropy_with_integer_labels(
    logits, jnp.where(counted, truth, 0)
  )
  pixels = jnp.maximum(counted.sum(), 1)
  right = (jnp.argmax(logits, -1) == truth) & counted
  loss = jnp.where(counted, entropy, 0).sum() / pixels
  return loss, {"accuracy": right.sum() / pixels}


def _confusion(logits, truth):
  """int32 [B, C, C]: pixels of each image by true class and predicted one."""
  classes = logits.shape[-1]
  told = jnp.argmax(_enlarged(logits, truth.shape[1:]), -1)
  counted = truth != class_overlap.IGNORED
  pairs = jnp.where(counted, truth * classes + told, classes**2)
  count = lambda one: jnp.bincount(one.ravel(), length=classes**2 + 1)[:-1]
  found = jax.vmap(count)(pairs).astype(jnp.int32)
  return found.reshape(-1, classes, classes)


def _overlap(confusions: np.ndarray) -> class_overlap.ClassOverlap:
  summed = np.asarray(np.sum(confusions, 0, dtype=np.int64))
  return class_overlap.class_overlap(summed)


def segmentation(resolution: int) -> Objective:
  """Outputs are logits [B, h, w, C]; truths int32 [B, H, W], 255 is ignored.

  A coarser map is enlarged to the image before it is scored.

  Args:
    resolution: rows and columns H = W of a map of predictions.
  """
  whole = resolution, resolution
  return Objective(
    "mIoU",
    _loss,
    mean_divergence,
    _confusion,
    lambda found: _overlap(found).mean,
    lambda logits: jnp.argmax(_enlarged(logits, whole), -1),
    lambda found: {"pixel accuracy": _overlap(found).pixels},
  )
