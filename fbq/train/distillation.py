"""Training towards the answers of the network in floating point."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

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

  def loss(self, task_loss: Array, divergence: Array) -> Array:
    """The loss [].

    Args:
      task_loss: [], loss of the student by the truth, such as cross-entropy.
      divergence: [], that of the student from the teacher, a constant to
        gradients, softened by the temperature; see `Objective.divergence`.
    """
    return task_loss + self.weight * (
      self.temperature**2 * divergence - task_loss
    )


def teacher_outputs(
  net: Net, variables: Mapping[str, Any], images: Array
) -> Any:
  """Outputs of the float network as it is evaluated, such as logits.

  A constant to gradients. The pass takes a third of a float step.

  Args:
    net: network in floating point.
    variables: "params" and "batch_stats" of the model of `net`.
    images: [B, H, W, C].
  """
  outputs = Model(net).apply(variables, images, train=False)
  return jax.lax.stop_gradient(outputs)
