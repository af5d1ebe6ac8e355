"""What a network makes of held-out images, and with what error it is known.

Images that were made from one source are right or wrong together, so errors are
clustered by source. Two networks are compared on the same images, so what
counts is the error of their difference.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from fbq.model import Model
from fbq.train.objective import CLASSIFICATION, Objective
from fbq.train.steps import Array, check_images, compile_once

_PARTS = 20  # into which sources are dealt, to leave out one at a time


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


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
  """What a network made of the images of a split.

  Attributes:
    evidence: tree of arrays [N, ...], see `fbq.train.objective`; of a
      classifier bool [N], whether each image was classified rightly.
    sources: int [N], the source that each was made from.
    objective: task that it was judged by.
  """

  evidence: Any
  sources: np.ndarray
  objective: Objective = CLASSIFICATION

  @property
  def right(self) -> np.ndarray:
    """bool [N], which images a classifier has right."""
    assert self.objective is CLASSIFICATION, self.objective.metric_name
    return self.evidence

  @property
  def accuracy(self) -> float:
    """Metric of the task, 0 to 1: of classifiers the share that is right."""
    return self.objective.metric(self.evidence)

  @property
  def details(self) -> dict[str, float]:
    """What else is reported of a task, such as AP50."""
    return dict(self.objective.details(self.evidence))

  @property
  def error(self) -> float:
    """Standard error of the metric, clustered by source."""
    if self.objective is CLASSIFICATION:
      return clustered_error(self.right, self.sources)
    return left_out_error(self.left_out)

  def loss_to(self, reference: Self) -> tuple[float, float]:
    """(metric that the reference has more, its clustered standard error).

    Paired: both were judged on the same images.
    """
    if self.objective is CLASSIFICATION:
      lost = reference.right.astype(float) - self.right
      return float(lost.mean()), clustered_error(lost, self.sources)
    lost = reference.left_out - self.left_out
    return reference.accuracy - self.accuracy, left_out_error(lost)

  @functools.cached_property
  def left_out(self) -> np.ndarray:
    """[G] metrics, each without the images of a part of the sources."""
    _, places = np.unique(self.sources, return_inverse=True)
    parts = places % min(_PARTS, places.max() + 1)
    rest = lambda part: jax.tree.map(lambda x: x[parts != part], self.evidence)
    metrics = [self.objective.metric(rest(p)) for p in range(parts.max() + 1)]
    return np.array(metrics)


def left_out_error(left_out: np.ndarray) -> float:
  """Standard error of a number that is known without each of `G` parts.

  The delete-a-group jackknife (Kott, J. Official Statistics 17, 2001, eq. 1);
  NaN for a single part.
  """
  count = len(left_out)
  if count < 2:
    return math.nan
  apart = left_out - left_out.mean()
  return math.sqrt((count - 1) / count * (apart @ apart))


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


def compared(
  judged: Sequence[Judged], reference: Sequence[Judged]
) -> tuple[Estimate, Estimate]:
  """(metric, metric that the reference has more), means over seeds.

  Paired: all were judged on the same images. Where the metric is no mean over
  images errors are those of leaving out parts of the sources, of all seeds at
  once; that of seeds is added as in `over_seeds`:

    V = V(by source) + V(by seed) - V(by both), but V(by source) at least

  Args:
    judged: a network of each seed.
    reference: what it is compared with, of the same seeds.
  """
  first = judged[0]
  if first.objective is CLASSIFICATION:
    right = np.stack([one.right for one in judged]).astype(float)
    lost = np.stack([one.right for one in reference]) - right
    return over_seeds(right, first.sources), over_seeds(lost, first.sources)
  own = np.array([one.accuracy for one in judged])
  without = np.stack([one.left_out for one in judged])
  more = np.array([one.accuracy for one in reference]) - own
  lost = np.stack([one.left_out for one in reference]) - without
  return _left_out_over_seeds(own, without), _left_out_over_seeds(more, lost)


def _left_out_over_seeds(values: np.ndarray, left_out: np.ndarray) -> Estimate:
  """Mean over seeds of numbers [S] that are known without each part [S, G]."""
  seeds, parts = left_out.shape
  variance = left_out_error(left_out.mean(0)) ** 2
  freedom = max(1, parts - 1)
  if seeds > 1:
    both = sum(left_out_error(one) ** 2 for one in left_out) / seeds**2
    variance += max(values.var(ddof=1) / seeds - both, 0.0)
    freedom = min(freedom, seeds - 1)
  return Estimate(float(values.mean()), math.sqrt(variance), freedom)


def evaluator(
  model: Model, objective: Objective = CLASSIFICATION
) -> Callable[..., Any]:
  """A compiled `right(variables, images, truth, data) -> evidence [B, ...]`.

  Batch norms use their running statistics; `data` is what the model's scheme
  takes, and nothing is drawn. Of classifiers it says which images are right.
  """

  def right(variables, images, truth, data=None):
    check_images(images)
    outputs = model.apply(variables, images, train=False, data=data)
    return objective.evidence(outputs, truth)

  return compile_once(right)


def right_images(
  right: Callable,
  variables,
  batches: Iterable[tuple[Array, Array, Array]],
  data=None,
) -> Any:
  """Evidence [N, ...] of every image, once; of classifiers which are right.

  Args:
    right: compiled function of `evaluator`.
    variables: variables of the model that `right` evaluates.
    batches: (images, truth, weights) of one shape; what fills the last batch
      has weight 0.
    data: data of the scheme.
  """
  # Fetched at the end: a device does not wait for the host between batches
  found = [
    (right(variables, images, truth, data), weights)
    for images, truth, weights in batches
  ]
  counted = [
    jax.tree.map(lambda x, w=w: x[np.asarray(w) > 0], evidence)
    for evidence, w in jax.device_get(found)
  ]
  return jax.tree.map(lambda *parts: np.concatenate(parts), *counted)
