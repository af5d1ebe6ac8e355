"""Handwritten digits on cluttered canvases: real images that need no download.

The 1,797 handwritten 8x8 digits that ship with scikit-learn are split by source
image and rendered (`fbq.data.canvas`) over fragments of other digits of the
same split. Every draw comes from an explicit key: a batch is a function of its
key, and what is validated and tested on is a function of a seed.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.data import canvas, holdout
from fbq.data.canvas import Difficulty

CLASSES = 10
COUNT = 1797  # source images
TEST_COUNT = 360

_DEFAULT = Difficulty()
_render = jax.jit(canvas.render, static_argnums=(3, 4))


class Digits(NamedTuple):
  """Source images float32 [N, 8, 8] in [0, 1] and labels int32 [N] per split.

  The splits share no source image; see `counts`.
  """

  train_images: jax.Array
  train_labels: jax.Array
  validation_images: jax.Array
  validation_labels: jax.Array
  test_images: jax.Array
  test_labels: jax.Array


def counts(validation_share: float) -> tuple[int, int, int]:
  """Source images of training, validation and test.

  Args:
    validation_share: share of the 1,437 that are not for testing.

  Raises:
    ValueError: none would be left to train on.
  """
  rest = COUNT - TEST_COUNT
  validation = holdout.count_of(rest, validation_share)
  return rest - validation, validation, TEST_COUNT


def load(seed: int, validation_share: float) -> Digits:
  """The digits as device arrays, split by source image.

  Stratified: a class has the same share of every split, to two images. The test
  split is the same whatever the share.

  Args:
    seed: seed of the split, a non-negative whole number.
    validation_share: see `counts`.
  """
  from sklearn import datasets  # Takes 0.5 s to import.

  # Pixels are whole numbers from 0 to 16.
  pixels, classes = datasets.load_digits(return_X_y=True)
  images = np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 16
  labels = np.asarray(classes, np.int32)

  # Testing comes first, so that its images do not depend on the share
  random = np.random.default_rng(seed)
  rest, test = holdout.stratified(labels, TEST_COUNT, random)
  rest, test = random.permutation(rest), random.permutation(test)
  held = counts(validation_share)[1]
  train, validation = (
    rest[rows] for rows in holdout.stratified(labels[rest], held, random)
  )
  return Digits(
    *(
      jnp.asarray(part)
      for rows in (train, validation, test)
      for part in (images[rows], labels[rows])
    )
  )


def train_batch(
  key: jax.Array,
  digits: Digits,
  batch_size: int,
  resolution: int,
  difficulty: Difficulty = _DEFAULT,
) -> tuple[jax.Array, jax.Array]:
  """Random training images float32 [B, R, R, 1] and labels int32 [B].

  Source images are drawn with replacement. Call it inside the compiled step
  with `jax.random.fold_in(data_key, step)` as key. 64 images at 32x32 take
  0.5 ms on one CPU core.
  """
  if batch_size < 1:
    raise ValueError(f"batch_size is {batch_size}, expected at least 1")
  index_key, render_key = jax.random.split(key)
  indices = jax.random.randint(
    index_key, (batch_size,), 0, len(digits.train_images)
  )
  images = canvas.render(
    render_key, digits.train_images, indices, resolution, difficulty
  )
  return images, digits.train_labels[indices]


def calibration_set(
  key: jax.Array,
  digits: Digits,
  count: int,
  resolution: int,
  difficulty: Difficulty = _DEFAULT,
) -> tuple[jax.Array, jax.Array]:
  """`count` images and labels of the training split, for calibrating ranges.

  No source image comes twice before every one has come once.
  """
  if count < 1:
    raise ValueError(f"calibration count is {count}, expected at least 1")
  order_key, render_key = jax.random.split(key)
  order = jax.random.permutation(order_key, len(digits.train_images))
  indices = order[jnp.arange(count) % len(order)]
  images = _render(
    render_key, digits.train_images, indices, resolution, difficulty
  )
  return images, digits.train_labels[indices]


def held_out(
  digits: Digits,
  split: Literal["validation", "test"],
  resolution: int,
  difficulty: Difficulty = _DEFAULT,
  renders_per_image: int = 4,
  seed: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """Images float32 [N k, R, R, 1] of a split, and labels int32 [N k].

  Fixed by the arguments. The k = `renders_per_image` renders of one source
  image share its label but nothing else; image n is a render of source image
  n % N, see `sources`.
  """
  if renders_per_image < 1:
    raise ValueError(
      f"renders_per_image is {renders_per_image}, expected at least 1"
    )
  images, labels = {
    "validation": (digits.validation_images, digits.validation_labels),
    "test": (digits.test_images, digits.test_labels),
  }[split]
  key = jax.random.key(seed)
  if split == "validation":
    key = jax.random.fold_in(key, 1)  # other places and noise than in the test
  indices = sources(len(images), renders_per_image)
  return _render(key, images, indices, resolution, difficulty), labels[indices]


def sources(count: int, renders_per_image: int) -> np.ndarray:
  """int64 [N k]: the source of each image of `held_out`, N = `count`."""
  return np.tile(np.arange(count), renders_per_image)
