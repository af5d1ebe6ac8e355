"""One optimizer for each kind of variable."""

from collections.abc import Hashable, Mapping, Sequence
from typing import cast

import jax.numpy as jnp
import numpy as np
import optax

from fbq.quantizers import qat_rules


def make(
  steps: int,
  learning_rate: float,
  weight_decay: float = 0.0,
  warmup: float = 0.05,
  drops: Sequence[float] = (),
  range_learning_rate: float = 0.0,
  gate_learning_rate: float = 0.0,
  sums_gate_gradients: bool = False,
  range_rule: qat_rules.Rule = qat_rules.LOG_LSQ,
  weights: str = "momentum",
) -> optax.GradientTransformation:
  """Nesterov's momentum for weights, Adam for gates, a rule for ranges.

  Adam on the weights of MobileNetV1-0.25 read 32 % of the digits (default
  difficulty, one trial) after 1,500 steps of 64 images where this reads 85 %.

  Args:
    steps: steps of the stage; the rates of weights and ranges follow a cosine
      to 0 over them, or fall by `drops`.
    learning_rate: peak rate of the weights.
    weight_decay: factor of the weights that is added to their gradient.
    warmup: share of the steps in which these rates rise from 0.
    drops: shares of the steps, rising, after each of which these rates fall to
      a tenth, in place of the cosine: (0.4, 0.7, 0.9) of 100 epochs are those
      after 40, 70 and 90.
    range_learning_rate: peak rate of the ranges, in the unit that their rule
      says.
    gate_learning_rate: rate of the gates, constant, as in the authors' code.
    sums_gate_gradients: Adam sees the sum of all gradients of the gates so far,
      as in the Free Bits authors' code, which never clears them
      (docs/facts/quantization.md 3.6).
    range_rule: what the ranges follow; without ranges any.
    weights: what the weights follow, "momentum" or "adamw".

  Returns:
    A transformation of {"params": .., "ranges": .., "gates": ..}, or of those
    of these that a stage trains.
  """

  # At least one step rises and one falls, in a stage of two steps too.
  rise = min(max(1, round(warmup * steps)), steps - 1)
  falls = {round(share * steps): 0.1 for share in drops}

  # `drops` are shares, so that a shorter run falls at the same places.
  def schedule(peak):
    if not drops:
      return optax.warmup_cosine_decay_schedule(0.0, peak, rise, steps)
    fall = optax.piecewise_constant_schedule(peak, falls)
    return lambda count: fall(count) * jnp.minimum(1.0, (count + 1) / rise)

  # Ranges that no rule learns are no variables of a stage; any optimizer will
  # do for them.
  ranges = range_rule.optimizer or optax.sgd
  kinds: dict[Hashable, optax.GradientTransformation] = {
    "params": optax.adamw(schedule(learning_rate), weight_decay=weight_decay)
    if weights == "adamw"
    else optax.chain(
      optax.add_decayed_weights(weight_decay),
      optax.sgd(schedule(learning_rate), momentum=0.9, nesterov=True),
    ),
    "ranges": ranges(schedule(range_learning_rate)),
    "gates": optax.chain(
      optax.trace(1.0) if sums_gate_gradients else optax.identity(),
      optax.adam(gate_learning_rate),
    ),
  }

  # Kinds that a stage does not train have no state.
  return optax.multi_transform(
    kinds, lambda trained: {kind: kind for kind in trained}
  )


def holding(
  inner: optax.GradientTransformation, kept: Mapping[str, np.ndarray]
) -> optax.GradientTransformation:
  """`inner` that leaves the kernels of pruned channels as they are.

  Args:
    inner: optimizer of `make`.
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
