"""What is held out: a stratified sample, and whole sources."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.data import holdout
from fbq.lab import task


@settings(max_examples=100, deadline=None)
@given(
  st.lists(st.integers(0, 4), min_size=4, max_size=60),
  st.floats(0.01, 0.6),
  st.integers(0, 3),
)
def test_a_class_has_its_share_of_what_is_held_out(labels, share, seed):
  labels = np.array(labels)
  count = holdout.count_of(len(labels), share)
  expected = share * len(labels)
  assert abs(count - expected) <= max(0.5, 2 - expected)
  random = np.random.default_rng(seed)
  kept, held = holdout.stratified(labels, count, random)
  assert sorted([*kept, *held]) == list(range(len(labels)))
  assert len(held) == count
  for label in range(5):
    expected = np.sum(labels == label) * count / len(labels)
    assert abs(np.sum(labels[held] == label) - expected) <= 1
  again = holdout.stratified(labels, count, np.random.default_rng(seed))
  assert again[1].tolist() == held.tolist()


def test_any_image_of_a_class_may_be_held_out():
  labels = np.zeros(10, int)
  seen = {
    int(holdout.stratified(labels, 1, np.random.default_rng(seed))[1][0])
    for seed in range(100)
  }
  assert seen == set(range(10))


def test_a_share_of_nothing_or_of_everything():
  assert holdout.count_of(10, 0.0) == 0
  assert holdout.count_of(10, 0.01) == 2  # one has no error
  with pytest.raises(ValueError, match="holds 10 of 10 training images out"):
    holdout.count_of(10, 0.96)


def arrays(images):
  """uint8 [N, 1, 1, 1] images that tell their number, and labels."""
  numbers = np.arange(images, dtype=np.uint8)
  return numbers.reshape(-1, 1, 1, 1), numbers % 2


def numbers_of(batches):
  return [
    int(np.rint(255 * x.item()))
    for images, _, weights in jax.device_get(list(batches))
    for x in images[weights > 0]
  ]


def test_images_of_a_source_lie_in_one_split():
  """Three images of each of twenty films; a film is one class."""
  train, test = arrays(60), arrays(9)
  films = np.arange(60) // 2 % 20 + 100
  train = train[0], films % 2
  made = task.from_arrays(
    train, test, 2, validation_share=0.2, train_sources=films, split_seed=3
  )
  held = numbers_of(made.validation.batches())
  used = [int(x) for x in np.rint(255 * made.calibration_set(
    jax.random.key(0), made.train_count)[0]).ravel()]  # fmt: skip
  assert len(held) == made.validation.count == 12
  assert sorted([*held, *used]) == list(range(60))
  assert not {films[i] for i in held} & {films[i] for i in used}
  assert made.validation.sources().tolist() == [films[i] for i in held]
  assert sum(films[i] % 2 for i in held) == 6  # two films of each class
  sample, feed = made.draws(8, None)
  with feed({"key": jax.random.key(1)}, 0) as fed:
    seen = [sample(None, *next(fed))[0] for _ in range(6)]
  assert {int(x) for x in np.rint(255 * np.concatenate(seen)).ravel()} <= {
    *used
  }
  assert numbers_of(made.test.batches()) == list(range(9))
  assert made.test.sources().tolist() == list(range(9))


def test_a_source_of_both_is_refused():
  train, test = arrays(6), arrays(4)
  films = dict(train_sources=np.arange(6), test_sources=np.arange(5, 9))
  with pytest.raises(ValueError, match=r"sources \[5\] have images for train"):
    task.from_arrays(train, test, 2, **films)
  with pytest.raises(ValueError, match=r"sources \(3,\) of 6 images"):
    task.from_arrays(train, test, 2, train_sources=np.arange(3))
