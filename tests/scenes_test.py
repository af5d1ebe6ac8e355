"""Scenes: what is painted, where it is said to be, and which split it is of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq.data import digits, scene_draw, scenes

EASY = scene_draw.Difficulty(
  noise=0.0, texture=0.0, fragments=0, objects=(3, 3)
)
DIGITS = digits.load(0, 0.2)


def made(difficulty=EASY, split="test", seed=0, renders=1):
  found = scenes.held_out(DIGITS, split, 48, difficulty, renders, seed)
  return jax.tree.map(np.asarray, found)


def test_boxes_are_those_of_masks_by_brute_force():
  found = made()
  objects = found.objects
  assert objects.is_object.mean() > 0.9
  for image in range(20):
    for g in np.flatnonzero(objects.is_object[image]):
      rows, columns = np.nonzero(objects.masks[image, g])
      expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
      assert objects.boxes[image, g].tolist() == expected


def test_the_class_map_is_made_of_masks_that_share_no_pixel():
  found = made()
  objects = found.objects
  assert objects.masks.sum(1).max() == 1
  labels = (objects.classes + 1)[:, :, None, None] * objects.masks
  is_whole = objects.is_object.all(1)  # a digit hardly seen is no object
  assert is_whole.sum() > 50
  np.testing.assert_array_equal(
    labels.max(1)[is_whole], found.class_map[is_whole]
  )


def test_ink_stands_out_on_an_even_canvas():
  found = made(dataclasses.replace(EASY, objects=(1, 1)))
  background = np.median(found.images, (1, 2, 3))
  apart = np.abs(found.images[..., 0] - background[:, None, None])
  assert apart[found.class_map > 0].min() > 0.4 * EASY.contrast[0] - 1e-3
  assert np.median(apart[found.class_map == 0]) < 1e-6


def test_splits_share_no_source_image_and_groups_no_digit():
  count = scenes.groups(len(DIGITS.test_images), EASY)
  assert count == 120 and len(scenes.sources(360, EASY, 2)) == 240
  once, twice = made(), made(renders=2)
  np.testing.assert_array_equal(
    twice.objects.classes[:120], twice.objects.classes[120:]
  )
  np.testing.assert_array_equal(
    once.objects.classes, twice.objects.classes[:120]
  )
  assert (twice.images[:120] != twice.images[120:]).any((1, 2, 3)).all()
  # Every source image is in one group: all classes as often as in the split
  np.testing.assert_array_equal(
    np.bincount(once.objects.classes.ravel(), minlength=10),
    np.bincount(np.asarray(DIGITS.test_labels), minlength=10),
  )


def test_a_batch_is_a_function_of_its_key():
  batch = lambda seed: scenes.train_batch(
    jax.random.key(seed), DIGITS, 4, 32, scene_draw.Difficulty()
  )
  first, again, other = batch(0), batch(0), batch(1)
  np.testing.assert_array_equal(first.images, again.images)
  assert (first.images != other.images).any((1, 2, 3)).all()
  assert first.images.dtype == jnp.float32
  assert 0 <= first.images.min() and first.images.max() <= 1
  counts = np.asarray(first.objects.is_object.sum(1))
  assert (counts >= 1).all() and (counts <= 5).all()


def test_digits_keep_apart_where_there_is_room():
  unit = np.random.default_rng(0).random((2, 2, 12)).astype(np.float32)
  size = np.array([8.0, 8.0], np.float32)
  top, left = map(
    np.asarray, scene_draw._places(jnp.asarray(unit), size, size, 2, 40)
  )
  apart = max(abs(top[0] - top[1]), abs(left[0] - left[1]))
  assert apart >= 8


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("objects", (0, 3), "1 <= low"),
    ("objects", (1.5, 3), "whole numbers"),
    ("contrast", (0.0, 0.3), "0.01 <= low"),
    ("noise", -1, r"number in \[0, 1\]"),
    ("fragments", 0.5, "whole number"),
  ],
)
def test_impossible_scenes_are_refused(field, value, message):
  with pytest.raises(ValueError, match=f"difficulty: {field} is .*{message}"):
    scene_draw.Difficulty(**{field: value})
  with pytest.raises(ValueError, match="unknown settings"):
    scene_draw.Difficulty.from_config({"nose": 1})
