"""Training towards the answers of the network in floating point."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from fbq.model import Model
from fbq.nets.graph import Net

Array = jax.Array


class Distillation(NamedTuple):
  """How much the teacher counts beside the labels (Hinton, arXiv 1503.02531).

  The loss is (1 - weight) CE + weight T^2 KL(teacher || student), both softened
  by the temperature T; LSQ (arXiv 1902.08153, section 3.6) has the two weigh
  alike at T = 1.

  Attributes:
    weight: 0 to 1.
    temperature: positive.
  """

  weight: float
  temperature: float = 1.0

  def loss(self, cross_entropy: Array, student: Array, teacher: Array) -> Array:
    """The loss [].

    Args:
      cross_entropy: [], cross-entropy of the student with the labels.
      student: logits [B, classes] of the network that is trained.
      teacher: logits [B, classes] of the float network, a constant to
        gradients.
    """
    chex.assert_equal_shape([student, teacher])
    targets = jax.nn.softmax(teacher / self.temperature)
    softened = [
      jax.nn.log_softmax(logits / self.temperature)
      for logits in (teacher, student)
    ]
    divergence = jnp.sum(targets * (softened[0] - softened[1]), -1).mean()
    return cross_entropy + self.weight * (
      self.temperature**2 * divergence - cross_entropy
    )


def teacher_logits(
  net: Net, variables: Mapping[str, Any], images: Array
) -> Array:
  """Logits [B, classes] of the float network as it is evaluated.

  A constant to gradients. The pass takes a third of a float step.

  Args:
    net: network in floating point.
    variables: "params" and "batch_stats" of the model of `net`.
    images: [B, H, W, C].
  """
  logits = Model(net).apply(variables, images, train=False)
  return jax.lax.stop_gradient(jnp.asarray(logits))
