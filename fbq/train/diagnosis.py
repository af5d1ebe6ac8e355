"""What was not finite first, when a loss is not."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from fbq.model import Model
from fbq.train import steps

Array = jax.Array


def first_bad_tensor(
  model: Model, sample, state: steps.State, run: Mapping[str, Array], given=()
) -> str:
  """Names what is not finite first in the step to come, which is `given`.

  Runs outside of the compiled step, once, when a loss is not finite.
  """
  model = model.clone(axis_name=None)  # whole batches, on one device
  culprit = bad_variable(model, state.variables)
  if culprit is not None:
    return f"{culprit}, as the step before left it"
  key, noise_key = jax.random.split(jax.random.fold_in(run["key"], state.step))
  images, _ = sample(key, *given)
  if not _is_finite(images):
    return "the images"
  _, seen = model.apply(
    state.variables,
    images,
    train=True,
    **steps.inputs_of(model, run, state.step, noise_key, len(images)),
    mutable=["batch_stats", "averages", "intermediates"],
  )
  for node in model.net.nodes:
    if not _is_finite(seen["intermediates"][node.name][0]):
      return f"the output of layer {node.name!r}"
  return "the loss itself (all layers are finite)"


def bad_variable(
  model: Model,
  variables: steps.Variables,
  kinds: Sequence[str] = ("params", "ranges", "averages", "gates"),
) -> str | None:
  """Names the layer that first made a variable not finite, None if none did.

  Gradients run from the last layer to the first and spoil all on their way, so
  of the layers with bad variables the last one is where it began.

  Args:
    model: model that has the variables.
    variables: variables of the model by kind.
    kinds: kinds to look at; a training step does not read batch_stats.
  """
  for node in reversed(model.net.nodes):
    own = {"_kernel", "_bias", "_norm", ".weight", ".out"}
    for kind in kinds:
      for name in sorted(node.name + suffix for suffix in own):
        if not _is_finite(variables.get(kind, {}).get(name, ())):
          return f"{kind}[{name!r}] of layer {node.name!r}"
  for kind in kinds:
    if not _is_finite(variables.get(kind, ())):
      return kind
  return None


def _is_finite(tree) -> bool:
  return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))
