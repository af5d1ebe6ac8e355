"""The picture of one scene, and what is seen of its digits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq import backend
from fbq.data import canvas
from fbq.data.scene_draw import Draw
from fbq.dense.objects import Objects

Array = jax.Array
_INK = 0.4  # from which on a pixel belongs to its digit
_SEEN = 0.3  # share of its ink that a digit must show to be an object


class Scenes(NamedTuple):
  """`B` scenes of at most `G` digits and `R` x `R` pixels.

  Attributes:
    images: float32 [B, R, R, 1] in [0, 1].
    objects: their digits, with the boxes and masks of visible ink.
    class_map: int32 [B, R, R], 0 is the background, 1 the digit 0, and so on.
  """

  images: Array
  objects: Objects
  class_map: Array


def paint(
  scene: Draw, digits: Array, labels: Array, images: Array, resolution: int
) -> Scenes:
  """One scene, without the axis of a batch.

  Args:
    scene: what was drawn.
    digits: float32 [G, 8, 8], images of its digits.
    labels: int32 [G], what they show.
    images: float32 [N, 8, 8], source images that fragments are cut from.
    resolution: rows and columns of the canvas.
  """
  rows = jax.vmap(canvas.interpolation, in_axes=(None, 0, 0, 0, 0))
  pixel = (jnp.arange(resolution) + 0.5) / resolution
  with backend.products(exact=True):  # the same pixels on every device
    # ---- Canvas: waves, and pieces of digits that are none
    down, across, phase, level = (x[:, None, None] for x in scene.waves.T)
    turns = down * pixel[:, None] + across * pixel
    picture = (level * jnp.sin(2 * jnp.pi * turns + phase)).sum(0)
    picture += scene.background
    if len(scene.pieces):
      size = scene.piece_size / canvas.SOURCE
      vertical, horizontal = (
        rows(
          resolution,
          start,
          size,
          scene.piece_first[:, i],
          scene.piece_count[:, i],
        )
        for i, start in enumerate((scene.piece_top, scene.piece_left))
      )
      ink = vertical @ images[scene.pieces] @ horizontal.transpose(0, 2, 1)
      picture += (ink * scene.piece_tones[:, None, None]).sum(0)

    # ---- Digits, each over those before it
    every = jnp.zeros(len(digits)), jnp.full(len(digits), canvas.SOURCE)
    vertical, horizontal = (
      rows(resolution, start, size / canvas.SOURCE, *every)
      for start, size in (
        (scene.top, scene.height),
        (scene.left, scene.width),
      )
    )
    ink = vertical @ digits @ horizontal.transpose(0, 2, 1)
  is_there = jnp.arange(len(digits)) < scene.count
  ink = jnp.where(is_there[:, None, None], ink, 0)
  for one, tone in zip(ink, scene.tones, strict=True):
    picture = picture * (1 - one) + tone * one
  picture = jnp.clip(picture + scene.noise, 0, 1)

  # ---- What is seen of each
  whole = ink > _INK
  above = jnp.cumsum(whole[::-1], 0)[::-1] - whole
  masks = whole & (above == 0)
  areas = masks.sum((1, 2))
  is_object = is_there & (areas > _SEEN * whole.sum((1, 2)))
  numbers = jnp.where(masks, (labels + 1)[:, None, None], 0)
  objects = Objects(
    jnp.where(is_object[:, None], _boxes(masks), 0.0),
    labels.astype(jnp.int32),
    is_object,
    jnp.zeros_like(is_object),
    masks & is_object[:, None, None],
  )
  return Scenes(picture[..., None], objects, numbers.max(0).astype(jnp.int32))


def _boxes(masks):
  """float32 [G, 4]: left, top, right, bottom of masks [G, R, R]."""
  sides = []
  for axis in (1, 2):  # columns, then rows
    some = masks.any(axis)
    sides.append((jnp.argmax(some, 1), some.shape[1] - _last(some)))
  (left, right), (top, bottom) = sides
  return jnp.stack([left, top, right, bottom], -1).astype(jnp.float32)


def _last(some):
  return jnp.argmax(some[:, ::-1], 1)
