"""Boxes as YOLOv8 has them: distances from pixels, and how boxes agree."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array
_EPSILON = 1e-7


def centres(
  sides: Sequence[tuple[int, int]], strides: Sequence[int]
) -> tuple[Array, Array]:
  """(float32 [A, 2] x and y in pixels of a scale, float32 [A] strides).

  Args:
    sides: height and width of every scale's map.
    strides: pixels of the image for one of each scale.
  """
  points, widths = [], []
  for (height, width), stride in zip(sides, strides, strict=True):
    y, x = jnp.mgrid[:height, :width]
    points.append(jnp.stack([x.ravel(), y.ravel()], -1) + 0.5)
    widths.append(jnp.full(height * width, float(stride)))
  return jnp.concatenate(points), jnp.concatenate(widths)


def distances(logits: Array) -> Array:
  """[..., 4] expectations of [..., 4 n] logits of distances 0 .. n - 1.

  Generalized focal loss (arXiv 2006.04388), eq. 6: left, top, right, bottom.
  """
  bins = logits.shape[-1] // 4
  shares = jax.nn.softmax(logits.reshape(*logits.shape[:-1], 4, bins))
  return shares @ jnp.arange(bins, dtype=logits.dtype)


def around(points: Array, sides: Array) -> Array:
  """Boxes [..., 4], left, top, right, bottom, by distances from points."""
  return jnp.concatenate(
    [points - sides[..., :2], points + sides[..., 2:]], axis=-1
  )


def complete_iou(first: Array, second: Array) -> Array:
  """[...] CIoU of boxes [..., 4], -1.5 .. 1 (arXiv 1911.08287, eq. 10, 11).

  Overlap less the distance of centres and the difference of aspects. The weight
  of the latter is a constant to gradients, as in the paper.
  """
  size_a, size_b = (b[..., 2:] - b[..., :2] for b in (first, second))
  low = jnp.maximum(first[..., :2], second[..., :2])
  high = jnp.minimum(first[..., 2:], second[..., 2:])
  common = jnp.prod(jnp.maximum(high - low, 0), -1)
  union = jnp.prod(size_a, -1) + jnp.prod(size_b, -1) - common + _EPSILON
  iou = common / union

  # Squared distance of centres over the squared diagonal around both.
  span = jnp.maximum(first[..., 2:], second[..., 2:]) - jnp.minimum(
    first[..., :2], second[..., :2]
  )
  middle_a, middle_b = (b[..., :2] + b[..., 2:] for b in (first, second))
  apart = (middle_a - middle_b) / 2
  distance = jnp.sum(apart**2, -1) / (jnp.sum(span**2, -1) + _EPSILON)

  angle = lambda s: jnp.arctan2(s[..., 0], s[..., 1] + _EPSILON)
  aspect = (2 / math.pi * (angle(size_b) - angle(size_a))) ** 2
  weight = jax.lax.stop_gradient(aspect / (aspect - iou + 1 + _EPSILON))
  return iou - distance - weight * aspect
