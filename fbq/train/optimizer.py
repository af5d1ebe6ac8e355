"""One optimizer for each kind of variable."""

import jax
import jax.numpy as jnp
import optax


def make(
  steps: int,
  learning_rate: float,
  weight_decay: float = 0.0,
  warmup: float = 0.05,
  range_learning_rate: float = 0.0,
  gate_learning_rate: float = 0.0,
) -> optax.GradientTransformation:
  """Adam for weights, ranges and gates, each with its own rate.

  Args:
    steps: of the stage; weights and ranges follow a cosine to 0 over them.
    learning_rate: of the weights.
    weight_decay: decoupled, of the weights.
    warmup: share of the steps in which the rate rises from 0.
    range_learning_rate: of the logarithm of the ranges, see `in_log_space`.
    gate_learning_rate: of the gates, constant, as in the authors' code.

  Returns:
    A transformation of {"params": .., "ranges": .., "gates": ..}, or of those of
    these that a stage trains.
  """

  def cosine(peak):
    return optax.warmup_cosine_decay_schedule(
      0.0, peak, max(1, round(warmup * steps)), steps
    )

  kinds = {
    "params": optax.adamw(cosine(learning_rate), weight_decay=weight_decay),
    "ranges": in_log_space(optax.adam(cosine(range_learning_rate))),
    "gates": optax.adam(gate_learning_rate),
  }
  return optax.multi_transform(
    kinds, lambda trained: {kind: kind for kind in trained}
  )


def in_log_space(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """`inner` applied to the logarithm of positive variables.

  They stay positive whatever the gradient, and a rate means the same for ranges of
  0.01 and of 10.
  """

  def update(gradients, state, variables=None):
    gradients = jax.tree.map(jnp.multiply, gradients, variables)
    updates, state = inner.update(gradients, state, variables)
    relative = lambda update, value: value * jnp.expm1(update)
    return jax.tree.map(relative, updates, variables), state

  return optax.GradientTransformation(inner.init, update)
