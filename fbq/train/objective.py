"""What a network is trained by and judged by: one record for every task.

Training takes the loss, searches the divergence, and whatever compares networks
the metric. A metric is one of a set of images: average precision and mean IoU
are no means over images. So each image leaves its evidence, and the metric is
made of that of all images, or of some: so errors are known by leaving out.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array
Outputs = Any  # what `Model` gives: an array, or {node: array}
Truth = Any  # tree of arrays [B, ...] that go with images [B, H, W, C]


class Objective(NamedTuple):
  """The task of a network.

  Attributes:
    metric_name: name of the metric, as tables show it.
    loss: (outputs, truth) -> (loss [], {name: scalar to be logged}).
    divergence: (outputs of the reference, outputs, temperature) -> [], mean
      over images of the KL divergence of what is told, in nats.
    evidence: compiled by its callers, (outputs, truth) -> tree of arrays [B,
      ...]: what the metric has to know of each image.
    metric: tree of numpy arrays [N, ...] of evidence -> number in [0, 1].
    predictions: (outputs) -> tree of arrays [B, ...]: what is told of images,
      for people and pictures.
    details: like `metric`, {name: number in [0, 1]} of what else is reported.
  """

  metric_name: str
  loss: Callable[[Outputs, Truth], tuple[Array, Mapping[str, Array]]]
  divergence: Callable[[Outputs, Outputs, float], Array]
  evidence: Callable[[Outputs, Truth], Any]
  metric: Callable[[Any], float]
  predictions: Callable[[Outputs], Any]
  details: Callable[[Any], Mapping[str, float]] = lambda evidence: {}


def softened_divergence(
  reference: Array, logits: Array, temperature: float
) -> Array:
  """[...] KL divergence of class probabilities [..., C], softened."""
  chex.assert_equal_shape([reference, logits])
  targets = jax.nn.softmax(reference / temperature)
  softened = [jax.nn.log_softmax(x / temperature) for x in (reference, logits)]
  return jnp.sum(targets * (softened[0] - softened[1]), -1)


def mean_divergence(
  reference: Array, logits: Array, temperature: float
) -> Array:
  """[] mean of `softened_divergence` over images, and pixels if there are."""
  return softened_divergence(reference, logits, temperature).mean()


def _class_loss(logits, labels):
  check_labels(logits, labels)
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
  return loss, {"accuracy": jnp.mean(jnp.argmax(logits, -1) == labels)}


def _is_right(logits, labels):
  check_labels(logits, labels)
  return jnp.argmax(jnp.asarray(logits), -1) == labels


def check_labels(logits: Array, labels: Array) -> None:
  """Raises AssertionError unless labels are [B].

  Labels [B, 1] would be compared with every prediction, without a word.
  """
  chex.assert_shape(
    labels, (len(logits),), custom_message="labels, one for each image"
  )


def _share(right) -> float:
  return int(np.sum(right)) / len(right)


CLASSIFICATION = Objective(
  "accuracy",
  _class_loss,
  mean_divergence,
  _is_right,
  _share,
  lambda logits: jnp.argmax(logits, -1),
)
