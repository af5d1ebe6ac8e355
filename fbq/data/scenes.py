"""Scenes: several handwritten digits on a textured canvas, and where they are.

A scene has a class map, and for every digit a box, a class and a mask of its
visible ink. Digits are those of `fbq.data.digits`, split by source image; the
canvas is a texture of waves with fragments of other digits, and digits are
brighter or darker than it. Every draw comes from an explicit key.

A scene is drawn and painted for one image and batched by the one `vmap` in
`render`, which lies inside of the training step.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from fbq import backend
from fbq.data import canvas
from fbq.data.digits import Digits
from fbq.dense.objects import Objects

Array = jax.Array
CLASSES = 10  # digits; a class map has the background before them
_INK = 0.4  # from which on a pixel belongs to its digit
_SEEN = 0.3  # share of its ink that a digit must show to be an object
_PLACES = 12  # tried for a digit, of which the freest is taken
_WAVES = 3


@dataclasses.dataclass(frozen=True)
class Difficulty:
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
    limits = {
      "objects": (1, 5),
      "size": (0.1, 1.0),
      "aspect": (0.25, 4.0),
      "background": (0.0, 1.0),
      "contrast": (0.01, 1.0),
      "fragment_contrast": (0.0, 1.0),
    }
    for field, (least, most) in limits.items():
      given = getattr(self, field)
      pair = tuple(given) if isinstance(given, (list, tuple)) else (given,)
      good = len(pair) == 2 and all(map(_is_number, pair))
      if not good or not least <= pair[0] <= pair[1] <= most:
        raise ValueError(
          f"difficulty: {field} is {given!r}, expected two numbers, "
          f"{least} <= low <= high <= {most}"
        )
      object.__setattr__(self, field, pair)
    if not all(isinstance(count, int) for count in self.objects):
      raise ValueError(
        f"difficulty: objects is {self.objects}, expected whole numbers"
      )
    for field in ("texture", "noise"):
      given = getattr(self, field)
      if not _is_number(given) or not 0 <= given <= 1:
        raise ValueError(
          f"difficulty: {field} is {given!r}, expected a number in [0, 1]"
        )
    if not isinstance(self.fragments, int) or not 0 <= self.fragments <= 64:
      raise ValueError(
        f"difficulty: fragments is {self.fragments!r}, expected a whole number "
        "from 0 to 64"
      )

  @property
  def most(self) -> int:
    """Digits that a scene has room for."""
    return self.objects[1]

  @classmethod
  def from_config(cls, values: Mapping[str, Any]) -> Self:
    """The difficulty that differs from the default in the given fields.

    Raises:
      ValueError: a key is not a field, or a value is impossible.
    """
    fields = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(values) - set(fields))
    if unknown:
      raise ValueError(
        f"difficulty: unknown settings {unknown}, expected some of {fields}"
      )
    return cls(**values)


def _is_number(value) -> bool:
  return isinstance(value, (int, float)) and math.isfinite(value)


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
