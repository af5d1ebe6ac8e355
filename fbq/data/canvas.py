"""Digits on a cluttered canvas: random size, place, contrast, noise, fragments.

A scene is drawn for one image (`draw`), painted for one image (`paint`) and
batched by the one `vmap` in `render`. Painting is bilinear interpolation, which
is separable: two small matrix products per digit and no gather per pixel.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq import backend
from fbq.data.drawing import Drawing

SOURCE = 8  # rows and columns of a source image


@dataclasses.dataclass(frozen=True)
class Difficulty(Drawing):
  """What makes a canvas hard to read; static and hashable.

  Ranges are (low, high), drawn uniformly for every canvas. Grey levels are in
  [0, 1]. On the default a float network of four 3x3 convolutions reads 96.4 %
  of the test set after 1,500 steps of 64 images, 97.7 % after 4,000.

  Attributes:
    size: side of the digit as a fraction of the canvas.
    background: grey level of the canvas.
    contrast: how much brighter than the background the digit's ink is.
    noise: standard deviation of the grey noise of a pixel.
    fragments: number of fragments, all behind the digit.
    fragment_size: size of the digit a fragment is cut from, as a fraction of
      the size of the digit to be read; at most 1.
    fragment_rows: rows and columns of a fragment, of the 8 of its source.
    fragment_contrast: ink of a fragment as a fraction of the digit's contrast;
      at most 1, and where fragments overlap they get no brighter than the high
      end.
  """

  size: tuple[float, float] = (0.5, 0.85)
  background: tuple[float, float] = (0.0, 0.3)
  contrast: tuple[float, float] = (0.4, 0.7)
  noise: float = 0.05
  fragments: int = 3
  fragment_size: tuple[float, float] = (0.6, 1.0)
  fragment_rows: tuple[int, int] = (3, 5)
  fragment_contrast: tuple[float, float] = (0.2, 0.5)

  def __post_init__(self):
    # Ranges first: what is compared below has to be two numbers each
    self._check_ranges(
      {
        "size": (0.1, 1.0),
        "background": (0.0, 1.0),
        "contrast": (0.0, 1.0),
        "fragment_size": (0.1, 1.0),
        "fragment_rows": (1, SOURCE - 1),
        "fragment_contrast": (0.0, 1.0),
      }
    )
    self._check_whole("fragment_rows")

    # Each alone within its limits, but no digit could be read
    if self.contrast[0] == 0:
      raise ValueError(
        f"difficulty: contrast is {self.contrast}; a digit of contrast 0 cannot"
        " be seen, give a low end above 0"
      )
    if self.background[1] + self.contrast[1] > 1 + 1e-6:
      raise ValueError(
        f"difficulty: background up to {self.background[1]} and contrast up to "
        f"{self.contrast[1]} exceed white (1); lower one of them"
      )
    self._check_grey("noise")
    self._check_count("fragments")


class Scene(NamedTuple):
  """Everything random about one canvas; lengths in canvas pixels.

  `top` and `left` are where the first row and column of a whole source image
  fall, of which a fragment shows `rows` rows from `first_row` on, and columns
  likewise, in whole source pixels. `scale` is canvas pixels per source pixel.
  The fields of fragments are [F], `noise` is [R, R], the others are scalars.
  """

  index: jax.Array
  scale: jax.Array
  top: jax.Array
  left: jax.Array
  background: jax.Array
  contrast: jax.Array
  noise: jax.Array
  fragment_index: jax.Array
  fragment_scale: jax.Array
  fragment_top: jax.Array
  fragment_left: jax.Array
  fragment_first_row: jax.Array
  fragment_first_column: jax.Array
  fragment_rows: jax.Array
  fragment_columns: jax.Array
  fragment_contrast: jax.Array


def draw(
  key: jax.Array,
  index: jax.Array,
  source_count: int,
  resolution: int,
  difficulty: Difficulty,
) -> Scene:
  """A random scene around image `index` of a split of `source_count` images."""
  d, count = difficulty, difficulty.fragments
  number_key, noise_key = jax.random.split(key)
  # One draw for all numbers: a draw costs as much as the numbers in it.
  unit = jax.random.uniform(number_key, (5 + 9 * count,))
  own, other = unit[:5], unit[5:].reshape(9, count)

  def between(unit, low, high):
    return low + unit * (high - low)

  def whole(unit, low, high):
    return low + jnp.floor(unit * (high + 1 - low))

  size = between(own[0], *d.size) * resolution
  scale = size / SOURCE
  contrast = between(own[3], *d.contrast)
  fragment_scale = scale * between(other[0], *d.fragment_size)
  rows = whole(other[1], *d.fragment_rows)
  columns = whole(other[2], *d.fragment_rows)
  first_row = whole(other[3], 0, SOURCE - rows)
  first_column = whole(other[4], 0, SOURCE - columns)
  # A step of 1 to N - 1 never comes back to the digit itself.
  step = whole(other[5], 1, source_count - 1)

  def start(unit, first, length):
    """Where a whole image starts whose fragment is centred in the canvas."""
    centre = (first + 0.5 * length) * fragment_scale
    return unit * resolution - centre

  return Scene(
    index=index,
    scale=scale,
    top=own[1] * (resolution - size),
    left=own[2] * (resolution - size),
    background=between(own[4], *d.background),
    contrast=contrast,
    noise=d.noise * bell(noise_key, (resolution, resolution)),
    fragment_index=(index + step.astype(jnp.int32)) % source_count,
    fragment_scale=fragment_scale,
    fragment_top=start(other[6], first_row, rows),
    fragment_left=start(other[7], first_column, columns),
    fragment_first_row=first_row,
    fragment_first_column=first_column,
    fragment_rows=rows,
    fragment_columns=columns,
    fragment_contrast=contrast * between(other[8], *d.fragment_contrast),
  )


def paint(
  scene: Scene, images: jax.Array, resolution: int, difficulty: Difficulty
) -> jax.Array:
  """The canvas [R, R, 1] of a scene over source images [N, 8, 8]."""
  with backend.products(exact=True):  # the same pixels on every device
    return _paint(scene, images, resolution, difficulty)


def _paint(scene, images, resolution, difficulty):
  # The digit: interpolation along rows, then along columns
  ink = (
    interpolation(resolution, scene.top, scene.scale)
    @ images[scene.index]
    @ interpolation(resolution, scene.left, scene.scale).T
  )
  canvas = ink * scene.contrast

  # Fragments, behind the digit: they show where there is no ink
  if difficulty.fragments:
    weights = jax.vmap(interpolation, in_axes=(None, 0, 0, 0, 0))
    down = weights(
      resolution,
      scene.fragment_top,
      scene.fragment_scale,
      scene.fragment_first_row,
      scene.fragment_rows,
    )
    across = weights(
      resolution,
      scene.fragment_left,
      scene.fragment_scale,
      scene.fragment_first_column,
      scene.fragment_columns,
    )
    pieces = images[scene.fragment_index]
    pieces = pieces * scene.fragment_contrast[:, None, None]
    # One product over fragments and source rows sums the fragments.
    clutter = jnp.einsum("fpi,fij,fqj->pq", down, pieces, across)
    most = difficulty.fragment_contrast[1] * scene.contrast
    canvas = canvas + (1 - ink) * jnp.minimum(clutter, most)

  canvas = canvas + scene.background + scene.noise
  return jnp.clip(canvas, 0, 1)[:, :, None]


def render(
  key: jax.Array,
  images: jax.Array,
  indices: jax.Array,
  resolution: int,
  difficulty: Difficulty,
) -> jax.Array:
  """Canvases float32 [B, R, R, 1] in [0, 1] of the images at `indices` [B].

  Args:
    key: key that every random choice is drawn from.
    images: [N, 8, 8] source images of one split; fragments come from these too.
    indices: int [B], positions of source images, below N.
    resolution: R, at least 8; static under `jit`.
    difficulty: what makes the canvases hard to read; static under `jit`.

  Raises:
    ValueError: impossible shapes or resolution.
  """
  if images.ndim != 3 or images.shape[1:] != (SOURCE, SOURCE):
    raise ValueError(
      f"render: images have shape {images.shape}, expected [N, 8, 8]"
    )
  if len(images) < 2:
    raise ValueError("render: one image, expected at least 2 to cut fragments")
  if not isinstance(resolution, int) or resolution < SOURCE:
    raise ValueError(
      f"render: resolution is {resolution!r}, expected a whole number of "
      f"pixels, at least {SOURCE}"
    )

  def one(key, index):
    scene = draw(key, index, len(images), resolution, difficulty)
    return paint(scene, images, resolution, difficulty)

  return jax.vmap(one)(jax.random.split(key, len(indices)), indices)


def interpolation(resolution, start, scale, first=0, count=SOURCE):
  """[R, 8]: bilinear weight of each source row in each canvas row.

  Pixel centres are at half units. Rows outside first .. first + count - 1, and
  beyond the source image, count as black.
  """
  pixel = jnp.arange(resolution, dtype=jnp.float32) + 0.5
  place = (pixel - start) / scale - 0.5
  row = jnp.arange(SOURCE, dtype=jnp.float32)
  distance = place[:, None] - row[None, :]
  shown = (row >= first) & (row < first + count)
  tent = jnp.maximum(0, 1 - jnp.abs(distance))
  return jnp.where(shown[None, :], tent, 0)


def bell(key, shape):
  """Noise of mean 0 and deviation 1: the sum of the four bytes of a draw.

  Within 1 % of a normal distribution's cumulative, bounded by 3.5 deviations,
  and free of the inverse error function.
  """
  bits = jax.random.bits(key, shape, jnp.uint32)
  total = (bits & 255) + (bits >> 8 & 255) + (bits >> 16 & 255) + (bits >> 24)
  deviation = math.sqrt(4 * (256**2 - 1) / 12)
  return (total.astype(jnp.float32) - 2 * 255) / deviation
