"""Handwritten digits on cluttered canvases: real images that need no download.

The 1,797 handwritten 8x8 digits that ship with scikit-learn are split by source
image and rendered (`fbq.data.canvas`) over fragments of other digits of the
same split. Every draw comes from an explicit key: a batch is a function of its
key, and the test set is a function of its seed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.data import canvas
from fbq.data.canvas import Difficulty

CLASSES = 10
TRAIN_COUNT = 1437
TEST_COUNT = 360

_DEFAULT = Difficulty()
_render = jax.jit(canvas.render, static_argnums=(3, 4))


class Digits(NamedTuple):
  """Source images float32 [N, 8, 8] in [0, 1] and labels int32 [N] per split.

  N is 1,437 for training and 360 for testing; the splits share no source image.
  """

  train_images: jax.Array
  train_labels: jax.Array
  test_images: jax.Array
  test_labels: jax.Array


def load(seed: int) -> Digits:
  """The digits as device arrays, split 1,437 / 360 by source image.

  Stratified: a class has the same share of both splits, to one image.

  Args:
    seed: seed of the split, a non-negative whole number.
  """
  from sklearn import datasets  # Takes 0.5 s to import.

  # Pixels are whole numbers from 0 to 16.
  pixels, classes = datasets.load_digits(return_X_y=True)
  random = np.random.default_rng(seed)
  order = random.permutation(len(classes))
  order = order[np.argsort(classes[order], kind="stable")]
  # Evenly spaced places in an order sorted by class are a stratified sample.
  places = (np.arange(TEST_COUNT) + 0.5) * len(order) / TEST_COUNT
  is_test = np.zeros(len(order), bool)
  is_test[places.astype(int)] = True
  train = random.permutation(order[~is_test])
  test = random.permutation(order[is_test])
  images = np.asarray(pixels, np.float32).reshape(-1, 8, 8) / 16
  labels = np.asarray(classes, np.int32)
  return Digits(
    *(
      jnp.asarray(part)
      for part in (images[train], labels[train], images[test], labels[test])
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


def test_set(
  digits: Digits,
  resolution: int,
  difficulty: Difficulty = _DEFAULT,
  renders_per_image: int = 4,
  seed: int = 0,
) -> tuple[jax.Array, jax.Array]:
  """Test images float32 [360 k, R, R, 1] and labels, fixed by the arguments.

  The k = `renders_per_image` renders of one source image share its label but
  nothing else; image n is a render of source image n % 360.
  """
  if renders_per_image < 1:
    raise ValueError(
      f"renders_per_image is {renders_per_image}, expected at least 1"
    )
  count = len(digits.test_images)
  indices = jnp.tile(jnp.arange(count), renders_per_image)
  images = _render(
    jax.random.key(seed), digits.test_images, indices, resolution, difficulty
  )
  return images, digits.test_labels[indices]
