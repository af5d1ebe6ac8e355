"""Which held-out images a network classifies rightly, and with what error.

Images that were made from one source are right or wrong together, so errors are
clustered by source. Two networks are compared on the same images, so what
counts is the error of their difference.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.train.steps import Array, check_batch, compile_once


class Estimate(NamedTuple):
  """A mean and what is known of its error.

  Attributes:
    value: the mean.
    error: its standard error.
    freedom: degrees of freedom of the error, for Student's t.
  """

  value: float
  error: float
  freedom: int


class Judged(NamedTuple):
  """What a network made of the images of a split.

  Attributes:
    right: bool [N], whether each image was classified rightly.
    sources: int [N], the source that each was made from.
  """

  right: np.ndarray
  sources: np.ndarray

  @property
  def accuracy(self) -> float:
    """Share of the images that are right."""
    return int(self.right.sum()) / len(self.right)

  @property
  def error(self) -> float:
    """Standard error of the accuracy, clustered by source."""
    return clustered_error(self.right, self.sources)

  def loss_to(self, reference: Self) -> tuple[float, float]:
    """(accuracy that the reference has more, its clustered standard error).

    Paired: both were judged on the same images.
    """
    lost = reference.right.astype(float) - self.right
    return float(lost.mean()), clustered_error(lost, self.sources)


def clustered_error(values: np.ndarray, clusters: np.ndarray) -> float:
  """Standard error of the mean of values that hang together within clusters.

    V = G / (G - 1) * sum over clusters of (sum of (x - mean))^2 / N^2

  the cluster-robust variance of a mean (Liang and Zeger, Biometrika 73, 1986;
  Cameron and Miller, J. Human Resources 50, 2015, equations 6 and 12). Where
  every value is its own cluster it is that of independent ones.

  Args:
    values: [N].
    clusters: int [N], the cluster of each value.

  Returns:
    The error; NaN for a single cluster, which tells nothing of others.
  """
  values = np.asarray(values, np.float64)
  _, places = np.unique(clusters, return_inverse=True)
  sums = np.bincount(places, values - values.mean())
  count = len(sums)
  if count < 2:
    return math.nan
  return math.sqrt(count / (count - 1) * (sums @ sums)) / len(values)


def over_seeds(values: np.ndarray, sources: np.ndarray) -> Estimate:
  """Mean of what networks of several seeds did with the same images.

    V = V(by source) + V(by seed) - V(by both), but V(by source) at least

  clustered in two ways, as images are hard for every seed and a seed is good or
  bad at all images; degrees of freedom are one less than the smaller number of
  clusters (Cameron, Gelbach and Miller, J. Business & Economic Statistics 29,
  2011, equation 2.11 and section 2.3). One seed tells nothing of others: then
  it is V(by source).

  Args:
    values: [S, N], of every seed and image.
    sources: int [N], the source of each image.
  """
  seeds, images = np.shape(values)
  of_source = np.tile(np.unique(sources, return_inverse=True)[1], seeds)
  of_seed = np.repeat(np.arange(seeds), images)
  flat = np.ravel(values).astype(np.float64)
  variance = clustered_error(flat, of_source) ** 2
  freedom = int(of_source.max())
  if seeds > 1:
    both = clustered_error(flat, of_source * seeds + of_seed) ** 2
    more = clustered_error(flat, of_seed) ** 2 - both
    variance += max(more, 0.0)
    freedom = min(freedom, seeds - 1)
  return Estimate(float(flat.mean()), math.sqrt(variance), freedom)


def evaluator(model: Model) -> Callable[..., Array]:
  """A compiled `right(variables, images, labels, data) -> bool [B]`.

  Batch norms use their running statistics; `data` is what the model's scheme
  takes, and nothing is drawn.
  """

  def right(variables, images, labels, data=None):
    check_batch(images, labels)
    logits = model.apply(variables, images, train=False, data=data)
    return jnp.argmax(jnp.asarray(logits), -1) == labels

  return compile_once(right)


def right_images(
  right: Callable,
  variables,
  batches: Iterable[tuple[Array, Array, Array]],
  data=None,
) -> np.ndarray:
  """bool [N]: which images are classified rightly, every image counted once.

  Args:
    right: compiled function of `evaluator`.
    variables: variables of the model that `right` evaluates.
    batches: (images, labels, weights) of one shape; what fills the last batch
      has weight 0.
    data: data of the scheme.
  """
  # Fetched at the end: a device does not wait for the host between batches
  found = [
    (right(variables, images, labels, data), weights)
    for images, labels, weights in batches
  ]
  return np.concatenate(
    [r[np.asarray(w) > 0] for r, w in jax.device_get(found)]
  )
