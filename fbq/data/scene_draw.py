"""What is random about a scene: its digits, and the canvas behind them."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq.data import canvas
from fbq.data.drawing import Drawing

Array = jax.Array
_PLACES = 12  # tried for a digit, of which the freest is taken
_WAVES = 3


@dataclasses.dataclass(frozen=True)
class Difficulty(Drawing):
  """What makes a scene hard to read; static and hashable.

  Ranges are (low, high), drawn uniformly. Grey levels are in [0, 1].

  Attributes:
    objects: number of digits, of at most 5.
    size: height of a digit as a fraction of the canvas.
    aspect: width of a digit over its height.
    background: mean grey level of the canvas.
    texture: largest grey level of the waves of the canvas, either way.
    contrast: how much brighter or darker than the mean a digit is.
    noise: standard deviation of the grey noise of a pixel.
    fragments: number of pieces of other digits in the texture.
    fragment_contrast: their contrast as a fraction of a digit's.
  """

  objects: tuple[int, int] = (2, 5)
  size: tuple[float, float] = (0.28, 0.45)
  aspect: tuple[float, float] = (0.75, 1.0)
  background: tuple[float, float] = (0.35, 0.65)
  texture: float = 0.1
  contrast: tuple[float, float] = (0.2, 0.35)
  noise: float = 0.04
  fragments: int = 3
  fragment_contrast: tuple[float, float] = (0.2, 0.5)

  def __post_init__(self):
    self._check_ranges(
      {
        "objects": (1, 5),
        "size": (0.1, 1.0),
        "aspect": (0.25, 4.0),
        "background": (0.0, 1.0),
        "contrast": (0.01, 1.0),
        "fragment_contrast": (0.0, 1.0),
      }
    )
    self._check_whole("objects")
    self._check_grey("texture")
    self._check_grey("noise")
    self._check_count("fragments")

  @property
  def most(self) -> int:
    """Digits that a scene has room for."""
    return self.objects[1]


class Draw(NamedTuple):
  """Everything random about one scene.

  Attributes:
    count: number of digits.
    height, width, top, left: float32 [G], of the digits, in pixels.
    tones: float32 [G], grey levels of their ink.
    background: mean grey level.
    waves: float32 [W, 4], cycles over the canvas down and across, phase, grey
      level.
    pieces: int32 [F], source images of the fragments.
    piece_size, piece_top, piece_left: float32 [F].
    piece_first, piece_count: float32 [F, 2], rows and columns that they show.
    piece_tones: float32 [F], grey that they add.
    noise: float32 [R, R].
  """

  count: Array
  height: Array
  width: Array
  top: Array
  left: Array
  tones: Array
  background: Array
  waves: Array
  pieces: Array
  piece_size: Array
  piece_top: Array
  piece_left: Array
  piece_first: Array
  piece_count: Array
  piece_tones: Array
  noise: Array


def draw(
  key: Array, source_count: int, resolution: int, difficulty: Difficulty
) -> Draw:
  """A random scene.

  Args:
    key: key of all of it.
    source_count: source images, of which fragments are cut.
    resolution: rows and columns of the canvas.
    difficulty: what it is drawn from.
  """
  d, most, pieces = difficulty, difficulty.most, difficulty.fragments
  keys = iter(jax.random.split(key, 24))

  def between(low, high, *shape):
    return jax.random.uniform(next(keys), shape, minval=low, maxval=high)

  def sign(*shape):
    return jnp.sign(between(-1.0, 1.0, *shape))

  count = jax.random.randint(next(keys), (), d.objects[0], d.objects[1] + 1)
  height = between(*d.size, most) * resolution
  width = height * between(*d.aspect, most)
  top, left = _places(
    between(0.0, 1.0, 2, most, _PLACES), height, width, count, resolution
  )
  background = between(*d.background)
  contrast = between(*d.contrast, most) * sign(most)
  waves = jnp.stack(
    [
      between(-4.0, 4.0, _WAVES),
      between(-4.0, 4.0, _WAVES),
      between(0.0, 2 * math.pi, _WAVES),
      between(0.0, d.texture / _WAVES, _WAVES),
    ],
    axis=-1,
  )
  shown = jnp.floor(between(3.0, 6.0, pieces, 2))
  first = jnp.floor(between(0.0, 1.0, pieces, 2) * (canvas.SOURCE + 1 - shown))
  piece_size = between(*d.size, pieces) * resolution
  piece_contrast = between(*d.contrast, pieces) * sign(pieces)
  return Draw(
    count=count,
    height=height,
    width=width,
    top=top,
    left=left,
    tones=jnp.clip(background + contrast, 0.0, 1.0),
    background=background,
    waves=waves,
    pieces=jax.random.randint(next(keys), (pieces,), 0, source_count),
    piece_size=piece_size,
    piece_top=between(-0.3, 1.0, pieces) * resolution,
    piece_left=between(-0.3, 1.0, pieces) * resolution,
    piece_first=first,
    piece_count=shown,
    piece_tones=piece_contrast * between(*d.fragment_contrast, pieces),
    noise=d.noise * canvas.bell(next(keys), (resolution, resolution)),
  )


def _places(unit, height, width, count, resolution):
  """Tops and lefts [G]: digits one by one, where the others leave most room.

  Args:
    unit: numbers [2, G, P] in [0, 1) that say which places are tried.
    height, width: sizes [G].
    count: number of digits that are there; others are in nobody's way.
    resolution: rows and columns of the canvas.
  """
  tops = unit[0] * (resolution - height)[:, None]
  lefts = unit[1] * (resolution - width)[:, None]
  top, left = [], []
  for i in range(len(height)):
    covered = jnp.zeros(unit.shape[2])
    for j in range(i):
      down, across = (
        jnp.minimum(mine + size[i], theirs + size[j])
        - jnp.maximum(mine, theirs)
        for mine, theirs, size in (
          (tops[i], top[j], height),
          (lefts[i], left[j], width),
        )
      )
      common = jnp.maximum(down, 0) * jnp.maximum(across, 0)
      covered += jnp.where(j < count, common, 0)
    best = jnp.argmin(covered)
    top.append(tops[i, best])
    left.append(lefts[i, best])
  return jnp.stack(top), jnp.stack(left)
