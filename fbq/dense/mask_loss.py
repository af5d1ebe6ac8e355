"""The loss of YOLOv8-seg's masks, and the masks of its detections.

A mask is the sum of the image's prototypes by the coefficients of a pixel,
within its box (YOLACT, arXiv 1904.02689).
"""

import jax
import jax.numpy as jnp
import optax

from fbq.dense.assignment import CANDIDATES, Assigned

Array = jax.Array

MASK = 7.5  # weight beside the other parts, as for boxes
_EPSILON = 1e-7


def mask_loss(
  coefficients: Array,
  prototypes: Array,
  target: Assigned,
  boxes: Array,
  masks: Array,
) -> Array:
  """[] cross-entropy of pixels in an object's box, weighted.

  The mean over the box for each pixel of the scales that answers for an object,
  and the mean over these.

  Args:
    coefficients: float32 [B, A, M].
    prototypes: float32 [B, h, w, M].
    target: which pixels answer for which object, of a batch.
    boxes: float32 [B, G, 4], boxes of the objects in pixels of the image.
    masks: bool [B, G, H, W], whose sides h and w divide; shares of them are the
      targets of a coarser pixel.
  """
  count, objects, height, width = masks.shape
  rows, columns = prototypes.shape[1:3]
  shape = count, objects, rows, height // rows, columns, width // columns
  shares = masks.reshape(shape).mean((3, 5))

  # Fixed shapes: as many as can answer, of which some do not
  most = min(CANDIDATES * objects, coefficients.shape[1])
  weight = jnp.where(target.is_positive, 1 + target.scores.sum(-1), 0)
  weight, places = jax.lax.top_k(weight, most)
  of_place = lambda x: jnp.take_along_axis(
    x, places.reshape(count, most, *[1] * (x.ndim - 2)), axis=1
  )
  object_ = of_place(target.object)
  of_object = jax.vmap(lambda x, rows: x[rows])

  logits = jnp.einsum("bkm,bhwm->bkhw", of_place(coefficients), prototypes)
  entropy = optax.sigmoid_binary_cross_entropy(
    logits, of_object(shares, object_)
  )
  inside = within(of_object(boxes, object_), (rows, columns), (height, width))
  of_box = (entropy * inside).sum((2, 3)) / (inside.sum((2, 3)) + _EPSILON)
  answers = weight > 0
  total = jnp.where(answers, of_box, 0).sum()
  return MASK * total / jnp.maximum(answers.sum(), 1)


def within(
  boxes: Array, shape: tuple[int, int], image: tuple[int, int]
) -> Array:
  """bool [..., h, w]: pixels whose centre lies in a box [..., 4].

  Args:
    boxes: in pixels of the image.
    shape: rows and columns h, w.
    image: rows and columns of the image.
  """
  (rows, columns), (height, width) = shape, image
  y = (jnp.arange(rows) + 0.5) * (height / rows)
  x = (jnp.arange(columns) + 0.5) * (width / columns)
  left, top, right, bottom = (boxes[..., i, None] for i in range(4))
  across = (x >= left) & (x <= right)
  down = (y >= top) & (y <= bottom)
  return down[..., :, None] & across[..., None, :]


def masks_of(
  coefficients: Array, prototypes: Array, boxes: Array, image: tuple[int, int]
) -> Array:
  """bool [D, H, W]: masks of the detections of one image.

  Args:
    coefficients: float32 [D, M].
    prototypes: float32 [h, w, M].
    boxes: float32 [D, 4], in pixels of the image.
    image: rows and columns H, W.
  """
  logits = jnp.einsum("dm,hwm->dhw", coefficients, prototypes)
  large = jax.image.resize(logits, (len(logits), *image), "bilinear")
  return (large > 0) & within(boxes, image, image)
