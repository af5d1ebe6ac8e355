"""Errors clustered by source, against sums written out and against chance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fbq.train.evaluation import Judged, clustered_error, over_seeds


def written_out(values, clusters):
  """The variance of a mean as a double sum over pairs of one cluster."""
  mean = sum(values) / len(values)
  pairs = sum(
    (x - mean) * (y - mean)
    for x, a in zip(values, clusters, strict=True)
    for y, b in zip(values, clusters, strict=True)
    if a == b
  )
  count = len(set(clusters))
  return math.sqrt(max(pairs, 0) * count / (count - 1)) / len(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=2))
def test_error_is_the_sum_over_pairs_of_a_cluster(pairs):
  values, clusters = map(list, zip(*pairs, strict=True))
  if len(set(clusters)) == 1:
    assert math.isnan(clustered_error(values, clusters))
    return
  expected = written_out(values, clusters)
  assert clustered_error(values, clusters) == pytest.approx(expected, abs=1e-9)


def test_independent_images_have_the_binomial_error():
  right = np.arange(200) % 10 > 0
  judged = Judged(right, np.arange(200))
  assert judged.accuracy == 0.9
  assert judged.error == pytest.approx(math.sqrt(0.9 * 0.1 / 199))


def test_renders_that_agree_count_as_one():
  """Four copies of each image tell no more than one of each."""
  right = np.arange(50) % 5 > 0
  once = Judged(right, np.arange(50))
  copies = Judged(np.tile(right, 4), np.tile(np.arange(50), 4))
  assert copies.accuracy == once.accuracy
  assert copies.error == pytest.approx(once.error)
  apart = Judged(copies.right, np.arange(200))
  assert apart.error == pytest.approx(once.error * math.sqrt(49 / 199))


def test_the_error_of_a_loss_is_that_of_the_difference():
  sources = np.tile(np.arange(6), 2)
  reference = Judged(np.array([1, 1, 1, 1, 0, 0] * 2, bool), sources)
  found = Judged(np.array([1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0], bool), sources)
  # By source: 0, 2, 0, 0, 0 and -1 images are lost, of 12; 1/6 of a source
  loss, error = found.loss_to(reference)
  assert loss == pytest.approx(1 / 12)
  squares = 4 * (1 / 6) ** 2 + (11 / 6) ** 2 + (7 / 6) ** 2
  assert error == pytest.approx(math.sqrt(6 / 5 * squares) / 12)
  same, none = reference.loss_to(reference)
  assert same == none == 0


def test_the_error_is_what_repetition_shows():
  """Sources differ in how hard they are: 600 test sets of 100 x 4 renders."""
  random = np.random.default_rng(0)
  sources = np.tile(np.arange(100), 4)
  means, errors = [], []
  for _ in range(600):
    hard = random.beta(1.0, 0.2, 100)
    right = random.random((4, 100)) < hard
    judged = Judged(right.ravel(), sources)
    means.append(judged.accuracy)
    errors.append(judged.error)
  assert np.mean(errors) == pytest.approx(np.std(means), rel=0.06)
  binomial = math.sqrt(np.mean(means) * (1 - np.mean(means)) / 400)
  assert np.std(means) > 1.4 * binomial


@settings(max_examples=40, deadline=None)
@given(
  st.integers(1, 4),
  st.lists(st.integers(0, 3), min_size=3, max_size=9),
  st.integers(0, 2**32 - 1),
)
def test_errors_over_seeds_cluster_in_two_ways(seeds, sources, seed):
  """By pairs that share a source, a seed, or both."""
  if len(set(sources)) == 1:
    return
  values = np.random.default_rng(seed).integers(-1, 2, (seeds, len(sources)))
  found = over_seeds(values, np.array(sources))
  assert found.value == pytest.approx(values.mean())
  flat = values.ravel().tolist()
  of_source = sources * seeds
  of_seed = [s for s in range(seeds) for _ in sources]
  both = list(zip(of_source, of_seed, strict=True))
  variance = written_out(flat, of_source) ** 2
  freedom = len(set(sources)) - 1
  if seeds > 1:
    by_seed, by_both = (written_out(flat, c) ** 2 for c in (of_seed, both))
    variance += max(by_seed - by_both, 0.0)
    freedom = min(freedom, seeds - 1)
  assert found.error == pytest.approx(math.sqrt(variance), abs=1e-9)
  assert found.freedom == freedom


def test_errors_over_seeds_are_what_repetition_shows():
  """Hard images, good seeds, and luck: 400 times 8 seeds of 60 x 3 images."""
  random = np.random.default_rng(1)
  sources = np.tile(np.arange(60), 3)
  means, variances = [], []
  for _ in range(400):
    values = (
      random.normal(0, 0.5, 60)[sources]
      + random.normal(0, 0.1, (8, 1))
      + random.normal(0, 0.5, (8, 180))
    )
    found = over_seeds(values, sources)
    means.append(found.value)
    variances.append(found.error**2)
  expected = 0.5**2 / 60 + 0.1**2 / 8 + 0.5**2 / (8 * 180)
  assert np.var(means) == pytest.approx(expected, rel=0.15)
  assert np.mean(variances) == pytest.approx(expected, rel=0.1)
