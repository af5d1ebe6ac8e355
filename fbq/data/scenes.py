"""Scenes: several handwritten digits on a textured canvas, and where they are.

A scene has a class map, and for every digit a box, a class and a mask of its
visible ink. Digits are those of `fbq.data.digits`, split by source image; the
canvas is a texture of waves with fragments of other digits, and digits are
brighter or darker than it. Every draw comes from an explicit key.

A scene is drawn and painted for one image and batched by the one `vmap` in
`render`, which lies inside of the training step.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from fbq.data import canvas
from fbq.data.digits import Digits
from fbq.data.scene_draw import Difficulty, draw
from fbq.data.scene_paint import Scenes, paint

Array = jax.Array
CLASSES = 10  # digits; a class map has the background before them


def render(
  key: Array,
  images: Array,
  labels: Array,
  indices: Array,
  resolution: int,
  difficulty: Difficulty,
) -> Scenes:
  """Scenes of the source images at `indices`.

  Args:
    key: key that every random choice is drawn from.
    images: float32 [N, 8, 8], source images of one split.
    labels: int32 [N].
    indices: int [B, G], G = `difficulty.most`; of each row the first few are
      shown.
    resolution: rows and columns of a canvas; static under `jit`.
    difficulty: static under `jit`.

  Raises:
    ValueError: too small a resolution, or another number of indices.
  """
  if resolution < 2 * canvas.SOURCE:
    raise ValueError(
      f"scenes of {resolution} pixels, expected {2 * canvas.SOURCE} or more"
    )
  if indices.ndim != 2 or indices.shape[1] != difficulty.most:
    raise ValueError(
      f"indices {indices.shape}, expected [B, {difficulty.most}]"
    )

  def one(key, rows):
    scene = draw(key, len(images), resolution, difficulty)
    return paint(scene, images[rows], labels[rows], images, resolution)

  return jax.vmap(one)(jax.random.split(key, len(indices)), indices)


_render = jax.jit(render, static_argnums=(4, 5))


def train_batch(
  key: Array,
  digits: Digits,
  batch_size: int,
  resolution: int,
  difficulty: Difficulty,
) -> Scenes:
  """Random scenes of training digits, drawn with replacement.

  Call it inside the compiled step with `jax.random.fold_in(data_key, step)`.
  """
  index_key, render_key = jax.random.split(key)
  images, labels = digits.train_images, digits.train_labels
  shape = batch_size, difficulty.most
  indices = jax.random.randint(index_key, shape, 0, len(images))
  return render(render_key, images, labels, indices, resolution, difficulty)


def held_out(
  digits: Digits,
  split: Literal["train", "validation", "test"],
  resolution: int,
  difficulty: Difficulty,
  renders: int = 4,
  seed: int = 0,
) -> Scenes:
  """Scenes of a split, fixed by the arguments: `groups` times `renders`.

  Source images are dealt to groups of as many as a scene has room for. Scene n
  shows group n % groups, see `sources`.
  """
  images, labels = (
    getattr(digits, f"{split}_images"),
    getattr(digits, f"{split}_labels"),
  )
  place = ("train", "validation", "test").index(split)
  key = jax.random.fold_in(jax.random.key(seed), place)
  order_key, render_key = jax.random.split(key)
  dealt = groups(len(images), difficulty)
  order = jax.random.permutation(order_key, len(images))
  order = order[: dealt * difficulty.most].reshape(dealt, difficulty.most)
  indices = jnp.tile(order, (renders, 1))
  return _render(render_key, images, labels, indices, resolution, difficulty)


def groups(count: int, difficulty: Difficulty) -> int:
  """Groups that `count` source images are dealt to."""
  return count // difficulty.most


def sources(count: int, difficulty: Difficulty, renders: int) -> np.ndarray:
  """int64 [N]: the group of each scene of `held_out`.

  Scenes of one group show the same digits, and are right or wrong together.
  """
  return np.tile(np.arange(groups(count, difficulty)), renders)


def calibration_set(
  key: Array,
  digits: Digits,
  count: int,
  resolution: int,
  difficulty: Difficulty,
) -> Scenes:
  """`count` scenes of the training split, for calibration.

  No source image comes twice before every one has come once.
  """
  order_key, render_key = jax.random.split(key)
  images, labels = digits.train_images, digits.train_labels
  order = jax.random.permutation(order_key, len(images))
  places = jnp.arange(count * difficulty.most) % len(images)
  indices = order[places].reshape(count, difficulty.most)
  return _render(render_key, images, labels, indices, resolution, difficulty)
