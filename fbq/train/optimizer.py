"""One optimizer for each kind of variable."""

from collections.abc import Hashable, Mapping
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

SMALLEST_RANGE = 1e-8  # as in `quantizers.calibration`


def make(
  steps: int,
  learning_rate: float,
  weight_decay: float = 0.0,
  warmup: float = 0.05,
  range_learning_rate: float = 0.0,
  gate_learning_rate: float = 0.0,
  sums_gate_gradients: bool = False,
) -> optax.GradientTransformation:
  """Nesterov's momentum for weights, Adam for ranges and gates.

  Adam on the weights of MobileNetV1-0.25 read 32 % of the digits (default
  difficulty, one trial) after 1,500 steps of 64 images where this reads 85 %.

  Args:
    steps: of the stage; weights and ranges follow a cosine to 0 over them.
    learning_rate: of the weights.
    weight_decay: of the weights, added to their gradient.
    warmup: share of the steps in which the rate rises from 0.
    range_learning_rate: of the logarithm of the ranges, see `in_log_space`.
    gate_learning_rate: of the gates, constant, as in the authors' code.
    sums_gate_gradients: Adam sees the sum of all gradients of the gates so far,
      as in the Free Bits authors' code, which never clears them
      (quantization_facts.md 3.6).

  Returns:
    A transformation of {"params": .., "ranges": .., "gates": ..}, or of those
    of these that a stage trains.
  """

  rise = min(max(1, round(warmup * steps)), steps - 1)

  def cosine(peak):
    return optax.warmup_cosine_decay_schedule(0.0, peak, rise, steps)

  kinds: dict[Hashable, optax.GradientTransformation] = {
    "params": optax.chain(
      optax.add_decayed_weights(weight_decay),
      optax.sgd(cosine(learning_rate), momentum=0.9, nesterov=True),
    ),
    "ranges": in_log_space(optax.adam(cosine(range_learning_rate))),
    "gates": optax.chain(
      optax.trace(1.0) if sums_gate_gradients else optax.identity(),
      optax.adam(gate_learning_rate),
    ),
  }
  return optax.multi_transform(
    kinds, lambda trained: {kind: kind for kind in trained}
  )


def in_log_space(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """`inner` applied to the logarithm of positive variables.

  They stay positive whatever the gradient, and a rate means the same for ranges
  of 0.01 and of 10.
  """

  def change(update, value):
    # exp(-20) - 1 is -1 in float32, which would leave nothing.
    relative = jnp.maximum(jnp.expm1(update), -0.999)
    return jnp.maximum(value * relative, SMALLEST_RANGE - value)

  def update(gradients, state, variables=None):
    gradients = jax.tree.map(jnp.multiply, gradients, variables)
    updates, state = inner.update(gradients, state, variables)
    return jax.tree.map(change, updates, variables), state

  # pyrefly: ignore[bad-argument-type]  # optax's own wrappers do so too
  return optax.GradientTransformation(inner.init, update)


def holding(
  inner: optax.GradientTransformation, kept: Mapping[str, np.ndarray]
) -> optax.GradientTransformation:
  """`inner` that leaves the kernels of pruned channels as they are.

  Args:
    inner: of `make`.
    kept: {node: bool [O]} from `fbq.schemes.pruning.kept_channels`.
  """

  def update(gradients, state, variables=None):
    updates, state = inner.update(gradients, state, variables)
    updates = cast(dict, updates)
    params = dict(updates["params"])
    for name, mask in kept.items():
      params[f"{name}_kernel"] = params[f"{name}_kernel"] * mask
    return {**updates, "params": params}, state

  # pyrefly: ignore[bad-argument-type]  # as above
  return optax.GradientTransformation(inner.init, update)
