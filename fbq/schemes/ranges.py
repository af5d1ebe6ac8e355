"""Ranges of tensors: the largest magnitude that a quantizer represents."""

import jax
import jax.numpy as jnp

from fbq.nets.graph import INPUT_SITE, Node
from fbq.schemes.scheme import Call

Array = jax.Array


def activation_ranges(call: Call) -> dict[str, Array]:
  """[] of every activation site, from "ranges"; 1 for the image."""
  ranges = {INPUT_SITE: jnp.float32(1.0)}
  for site in call.net.is_signed:
    if site != INPUT_SITE:
      ranges[site] = call.variable("ranges", site, lambda: jnp.float32(6.0))
  return ranges


def weight_axes(kernel: Array, node: Node) -> tuple[int, ...]:
  """Axes of a kernel that share a range."""
  return tuple(range(kernel.ndim - (node.op != "linear")))


def weight_range(kernel: Array, node: Node) -> Array:
  """Largest magnitude per output channel [O]; [] for the classifier.

  At least 1e-8, so that an all-zero channel has a step.
  """
  return jnp.maximum(jnp.max(jnp.abs(kernel), weight_axes(kernel, node)), 1e-8)


def learned_weight_range(call: Call, kernel: Array, node: Node) -> Array:
  """The range in "ranges", of a shape that broadcasts against `kernel`."""
  site = f"{node.name}.weight"
  range_ = call.variable("ranges", site, weight_range, kernel, node)
  return jnp.expand_dims(range_, weight_axes(kernel, node))


def current_weight_range(kernel: Array, node: Node) -> Array:
  """The largest magnitude of the moment, a constant to gradients.

  As in the Free Bits authors' search. Broadcasts against `kernel`.
  """
  range_ = jax.lax.stop_gradient(weight_range(kernel, node))
  return jnp.expand_dims(range_, weight_axes(kernel, node))
