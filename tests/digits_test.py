"""The rendered digits against a per-pixel oracle, and what a split promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq.data import canvas, digits
from fbq.data.canvas import Difficulty

# Compiled: op by op, a render takes seconds.
render = jax.jit(canvas.render, static_argnums=(3, 4))
draw = jax.jit(canvas.draw, static_argnums=(2, 3, 4))
EASY = Difficulty(noise=0.0, fragments=0)


@pytest.fixture(scope="module")
def data():
  return digits.load(0, 0.2)


def bilinear(image, y, x):
  """Interpolated value of `image` at a point; 0 outside. For one pixel."""
  total = 0.0
  top, left = int(np.floor(y)), int(np.floor(x))
  for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
    for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
      if 0 <= row < 8 and 0 <= column < 8:
        total += share_y * share_x * float(image[row, column])
  return total


def paint_by_pixel(scene, images, resolution, brightest_fragment):
  """The canvas of a scene, one pixel at a time, without matrices."""
  out = np.zeros((resolution, resolution))
  pieces = []
  for f in range(len(scene.fragment_index)):
    piece = np.zeros((8, 8))
    r0, c0 = (
      int(scene.fragment_first_row[f]),
      int(scene.fragment_first_column[f]),
    )
    r1 = r0 + int(scene.fragment_rows[f])
    c1 = c0 + int(scene.fragment_columns[f])
    piece[r0:r1, c0:c1] = images[int(scene.fragment_index[f])][r0:r1, c0:c1]
    pieces.append(piece)
  for p in range(resolution):
    for q in range(resolution):

      def at(image, top, left, scale, p=p, q=q):
        return bilinear(
          image, (p + 0.5 - top) / scale - 0.5, (q + 0.5 - left) / scale - 0.5
        )

      ink = at(images[int(scene.index)], scene.top, scene.left, scene.scale)
      clutter = sum(
        scene.fragment_contrast[f]
        * at(
          piece,
          scene.fragment_top[f],
          scene.fragment_left[f],
          scene.fragment_scale[f],
        )
        for f, piece in enumerate(pieces)
      )
      clutter = min(clutter, brightest_fragment * scene.contrast)
      value = scene.background + ink * scene.contrast + (1 - ink) * clutter
      out[p, q] = min(max(value + scene.noise[p, q], 0), 1)
  return out


@pytest.mark.parametrize("resolution", [20, 32])
def test_paint_equals_per_pixel_interpolation(data, resolution):
  difficulty = Difficulty(fragments=5)
  images = np.asarray(data.train_images)
  for seed in range(4):
    scene = draw(
      jax.random.key(seed), jnp.int32(3), len(images), resolution, difficulty
    )
    got = canvas.paint(scene, data.train_images, resolution, difficulty)
    scene = jax.tree.map(np.asarray, scene)
    want = paint_by_pixel(
      scene, images, resolution, difficulty.fragment_contrast[1]
    )
    assert got.shape == (resolution, resolution, 1)
    np.testing.assert_allclose(got[..., 0], want, atol=2e-5)


def test_split_is_disjoint_by_source_image_and_complete(data):
  from sklearn.datasets import load_digits

  def rows(images):
    return [np.asarray(image * 16).astype(int).tobytes() for image in images]

  source = rows(load_digits().images / 16)
  assert len(set(source)) == 1797  # So bytes identify a source image.
  splits = [
    rows(np.asarray(images))
    for images in (data.train_images, data.validation_images, data.test_images)
  ]
  assert tuple(map(len, splits)) == (1150, 287, 360) == digits.counts(0.2)
  # Disjoint and complete: as many in all as there are
  assert set().union(*splits) == set(source)
  # The source of every label, too
  label = dict(zip(source, load_digits().target, strict=True))
  labels = data.train_labels, data.validation_labels, data.test_labels
  for found, own in zip(labels, splits, strict=True):
    assert found.tolist() == [label[row] for row in own]


def test_every_class_has_its_share_of_every_split(data):
  train, validation, test = (
    np.bincount(labels, minlength=10)
    for labels in (data.train_labels, data.validation_labels, data.test_labels)
  )
  rest = train + validation
  assert np.abs(test - (rest + test) * 360 / 1797).max() <= 1
  assert np.abs(validation - rest * 287 / 1437).max() <= 1
  # Renders keep the labels of their source images.
  _, labels = digits.held_out(data, "test", 16, EASY, renders_per_image=3)
  np.testing.assert_array_equal(np.bincount(labels), 3 * test)


def test_what_is_tested_on_does_not_depend_on_the_share(data):
  other = digits.load(0, 0.5)
  np.testing.assert_array_equal(other.test_images, data.test_images)
  assert len(other.validation_images) == 718
  with pytest.raises(ValueError, match="holds 1,437 of 1,437 training images"):
    digits.load(0, 0.9999)


def test_what_is_held_out_shows_its_own_split_alone(data):
  """No fragment of another split; NaN would show."""
  for split in ("validation", "test"):
    wrong = {
      f"{other}_images": jnp.full((9, 8, 8), jnp.nan)
      for other in {"train", "validation", "test"} - {split}
    }
    found = digits.held_out(data._replace(**wrong), split, 16)
    expected = digits.held_out(data, split, 16)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert np.isfinite(found[0]).all()


def test_another_seed_is_another_split(data):
  again, other = digits.load(0, 0.2), digits.load(1, 0.2)
  for got, want in zip(again, data, strict=True):
    np.testing.assert_array_equal(got, want)
  assert not np.array_equal(other.test_images, data.test_images)


def test_batch_is_a_function_of_its_key(data):
  compiled = jax.jit(digits.train_batch, static_argnums=(2, 3, 4))
  key = jax.random.key(5)
  first = compiled(key, data, 8, 32, Difficulty())
  second = compiled(key, data, 8, 32, Difficulty())
  other = compiled(jax.random.key(6), data, 8, 32, Difficulty())
  np.testing.assert_array_equal(first[0], second[0])
  np.testing.assert_array_equal(first[1], second[1])
  assert not np.array_equal(first[0], other[0])
  assert first[0].shape == (8, 32, 32, 1)
  assert first[0].dtype == jnp.float32 and first[1].dtype == jnp.int32


def test_batch_equals_renders_of_single_images(data):
  key, indices = jax.random.key(2), jnp.asarray([7, 7, 1100])
  batch = render(key, data.train_images, indices, 24, Difficulty())
  for n, one in enumerate(jax.random.split(key, 3)):
    scene = draw(one, indices[n], 1150, 24, Difficulty())
    image = canvas.paint(scene, data.train_images, 24, Difficulty())
    np.testing.assert_allclose(batch[n], image, atol=1e-5)
  assert not np.allclose(batch[0], batch[1], atol=0.1)


def test_test_set_is_fixed_by_its_seed(data):
  first, labels = digits.held_out(data, "test", 16, seed=3)
  second, _ = digits.held_out(data, "test", 16, seed=3)
  other, _ = digits.held_out(data, "test", 16, seed=4)
  assert first.shape == (1440, 16, 16, 1) and labels.shape == (1440,)
  np.testing.assert_array_equal(first, second)
  assert not np.array_equal(first, other)
  np.testing.assert_array_equal(labels[:360], labels[360:720])


def test_calibration_set_uses_each_training_image_once(data):
  # Without noise, place and contrast, equal sources are equal canvases.
  plain = Difficulty(
    size=(1, 1), background=(0, 0), contrast=(1, 1), noise=0, fragments=0
  )
  images, labels = digits.calibration_set(
    jax.random.key(0), data, 1150, 16, plain
  )
  found = {np.asarray(image).round(3).tobytes() for image in images}
  assert len(found) == 1150
  np.testing.assert_array_equal(
    np.bincount(labels), np.bincount(data.train_labels)
  )


def test_fragments_come_from_other_images_of_the_split():
  # Split of three: the digit is black, so all that is seen is fragments.
  images = jnp.stack([jnp.zeros((8, 8)), jnp.ones((8, 8)), jnp.ones((8, 8))])
  difficulty = Difficulty(background=(0, 0), noise=0, fragments=4)
  indices = jnp.zeros(200, jnp.int32)
  seen = render(jax.random.key(0), images, indices, 16, difficulty)
  assert (seen.max((1, 2, 3)) > 0).all()
  chosen = jax.vmap(lambda key: draw(key, 1, 3, 16, difficulty))(
    jax.random.split(jax.random.key(1), 500)
  ).fragment_index
  counts = np.bincount(np.ravel(chosen), minlength=3)
  assert counts[1] == 0 and counts.sum() == 2000
  assert abs(counts[0] - 1000) < 150  # 6.7 deviations of a fair choice.


def test_fragments_stay_smaller_and_dimmer_than_the_digit():
  difficulty = Difficulty(fragments=8, noise=0, background=(0.1, 0.1))
  scene = jax.vmap(lambda key: draw(key, 0, 50, 32, difficulty))(
    jax.random.split(jax.random.key(0), 300)
  )
  assert (scene.fragment_scale <= scene.scale[:, None]).all()
  assert (scene.fragment_rows <= 5).all() and (scene.fragment_rows >= 3).all()
  assert set(np.ravel(scene.fragment_columns)) == {3, 4, 5}
  for first, length in (
    (scene.fragment_first_row, scene.fragment_rows),
    (scene.fragment_first_column, scene.fragment_columns),
  ):
    assert (first >= 0).all() and (first + length <= 8).all()
  low, high = difficulty.fragment_contrast
  ratio = scene.fragment_contrast / scene.contrast[:, None]
  assert low - 1e-6 <= ratio.min() and ratio.max() <= high + 1e-6
  # Eight white fragments on top of each other are no brighter than one.
  white = jnp.ones((50, 8, 8)).at[0].set(0)
  images = render(
    jax.random.key(3), white, jnp.zeros(64, jnp.int32), 32, difficulty
  )
  assert images.max() <= 0.1 + high * difficulty.contrast[1] + 1e-6


def test_pixels_stay_in_range_and_noise_has_the_given_deviation(data):
  loud = Difficulty(noise=0.5)
  images, _ = digits.held_out(data, "test", 32, loud, renders_per_image=1)
  assert images.min() == 0 and images.max() == 1
  black = jnp.zeros((2, 8, 8))
  grey = Difficulty(background=(0.3, 0.3), noise=0.05)
  images = render(jax.random.key(0), black, jnp.zeros(64, jnp.int32), 32, grey)
  np.testing.assert_allclose(images.mean(), 0.3, atol=1e-3)
  np.testing.assert_allclose(images.std(), 0.05, atol=1e-3)


def test_digit_lies_inside_the_canvas(data):
  scene = jax.vmap(
    lambda key: draw(key, 0, 1437, 32, Difficulty(size=(0.4, 1.0)))
  )(jax.random.split(jax.random.key(0), 500))
  for start in (scene.top, scene.left):
    assert start.min() >= 0
    assert (start + 8 * scene.scale).max() <= 32 + 1e-4
  assert scene.scale.min() < 1.7 and scene.scale.max() > 3.9


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"sise": (0.1, 0.2)}, "unknown settings .'sise'.*fragment_size"),
    ({"size": (0.8, 0.5)}, "size is .*expected 0.1 <= low <= high <= 1"),
    ({"size": 0.5}, "size is 0.5, expected two numbers"),
    ({"size": (0.5, float("nan"))}, "size is .*expected two numbers"),
    ({"contrast": (0, 0.5)}, "cannot be seen"),
    ({"background": (0, 0.5)}, "exceed white"),
    ({"noise": -0.1}, "noise is -0.1"),
    ({"fragments": 2.5}, "fragments is 2.5"),
    ({"fragments": -1}, "fragments is -1"),
    ({"fragment_rows": (2, 8)}, "fragment_rows is .*<= 7"),
    ({"fragment_rows": (2.0, 3.5)}, "whole numbers"),
  ],
)
def test_impossible_difficulty_is_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    Difficulty.from_config(settings)


def test_difficulty_from_a_configuration_file_is_hashable():
  assert hash(Difficulty(size=[0.5, 0.6])) == hash(Difficulty(size=(0.5, 0.6)))


def test_impossible_requests_are_refused(data):
  key, zero = jax.random.key(0), jnp.zeros(1, jnp.int32)
  with pytest.raises(ValueError, match="resolution is 4.*at least 8"):
    render(key, data.train_images, zero, 4, EASY)
  with pytest.raises(ValueError, match=r"expected \[N, 8, 8\]"):
    render(key, jnp.zeros((5, 7, 8)), zero, 16, EASY)
  with pytest.raises(ValueError, match="at least 2"):
    render(key, jnp.zeros((1, 8, 8)), zero, 16, EASY)
  with pytest.raises(ValueError, match="batch_size is 0"):
    digits.train_batch(key, data, 0, 16)
  with pytest.raises(ValueError, match="count is 0"):
    digits.calibration_set(key, data, 0, 16)
  with pytest.raises(ValueError, match="renders_per_image is 0"):
    digits.held_out(data, "test", 16, renders_per_image=0)
