"""Training sets that lie on the device: batches are cut out of them there.

The host draws which images, corners and sides a batch has, a few numbers for
each image; the pixels never leave the device. Images are the host's to the
last bit: what a pixel stands for is read from a table that the host made.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class Drawn(NamedTuple):
  """What the host draws for a batch.

  Attributes:
    rows: int [B], which images.
    corners: int [B, 2], row and column of the crop in the padded image.
    flips: bool [B], left for right, after the crop.
  """

  rows: Any
  corners: Any
  flips: Any


class Pixels(NamedTuple):
  """A training set.

  Attributes:
    images: uint8 [N, H, W, C].
    labels: int32 [N].
    numbers: float32 [256, C], what a pixel of each value stands for.
  """

  images: Any
  labels: Any
  numbers: Any


class Resident(NamedTuple):
  """A training set, and how its batches are drawn.

  Attributes:
    pixels: host arrays of the set.
    draws: (seed, start_step) -> endless `Drawn`, those of the batches that the
      host would make.
    padding: black pixels around an image before it is cropped.
  """

  pixels: Pixels
  draws: Callable[[int, int], Iterator[Drawn]]
  padding: int = 0


def whole(rows: np.ndarray) -> Drawn:
  """A batch of images as they are, without padding."""
  none = np.zeros(len(rows), np.int32)
  return Drawn(rows, np.stack([none, none], 1), none.astype(bool))


def cut(pixels: Pixels, drawn: Drawn, padding: int) -> tuple[Array, Array]:
  """images float32 [B, H, W, C] and labels int32 [B] of what was drawn."""
  _, height, width, channels = pixels.images.shape

  # Rows and columns of the images that each pixel of the batch shows; those
  # around an image are black.
  rows = drawn.corners[:, :1] + jnp.arange(height) - padding
  columns = jnp.arange(width)
  columns = jnp.where(drawn.flips[:, None], columns[::-1], columns)
  columns = columns + drawn.corners[:, 1:] - padding
  is_inside = ((rows >= 0) & (rows < height))[:, :, None] & (
    (columns >= 0) & (columns < width)
  )[:, None, :]
  shown = pixels.images[
    drawn.rows[:, None, None],
    jnp.clip(rows, 0, height - 1)[:, :, None],
    jnp.clip(columns, 0, width - 1)[:, None, :],
  ]
  shown = jnp.where(is_inside[..., None], shown, 0)
  return (
    pixels.numbers[shown, jnp.arange(channels)],
    pixels.labels[drawn.rows],
  )
