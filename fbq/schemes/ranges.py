"""Ranges of tensors: the largest magnitude that a quantizer represents."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fbq.nets.graph import INPUT_SITE, Net, Node
from fbq.quantizers import extremes, shared_steps, uniform
from fbq.schemes.scheme import Call

Array = jax.Array


def activation_ranges(
  call: Call, bits: Mapping[str, Array | int] | None = None
) -> dict[str, Array]:
  """{site: range []} of activations; those of step sites stand in "ranges".

  Args:
    call: call of the model whose ranges are read.
    bits: {site: bits} that the operands of adders are quantized to; those that
      the network fixes if left out.
  """
  start = lambda: jnp.float32(6.0)
  ranges = {
    site: call.variable("ranges", site, start)
    for site, owner in call.net.step_site.items()
    if site == owner != INPUT_SITE
  }
  return shared_steps.of_all_sites(
    call.net, ranges, call.net.fixed_bits if bits is None else bits
  )


def finest_step(net: Net, ranges: Mapping[str, Array], site: str) -> Array:
  """[]: step of an activation of a search, at its fixed bits or at 8.

  Steps of 2 and 4 bits are multiples of that.
  """
  bits = net.fixed_bits.get(site, 8)
  return uniform.step(ranges[site], bits, net.is_signed[site])


def weight_axes(
  kernel: Array, node: Node, per_channel: bool = True
) -> tuple[int, ...]:
  """Axes of a kernel that share a range.

  A classifier's always do: one step for all logits.
  """
  return tuple(range(kernel.ndim - (per_channel and node.op != "linear")))


def weight_range(kernel: Array, node: Node, per_channel: bool = True) -> Array:
  """Largest magnitude per output channel [O]; [] for the classifier.

  At least 1e-8, so that an all-zero channel has a step. A constant to
  gradients.
  """
  axes = weight_axes(kernel, node, per_channel)
  return jnp.maximum(extremes.magnitude(kernel, axes), 1e-8)


def learned_weight_range(
  call: Call, kernel: Array, node: Node, per_channel: bool = True
) -> Array:
  """The range in "ranges", of a shape that broadcasts against `kernel`."""
  site = f"{node.name}.weight"
  range_ = call.variable(
    "ranges", site, weight_range, kernel, node, per_channel
  )
  return jnp.expand_dims(range_, weight_axes(kernel, node, per_channel))


def current_weight_range(
  kernel: Array, node: Node, per_channel: bool = True
) -> Array:
  """The largest magnitude of the moment, a constant to gradients.

  As in the Free Bits authors' search. Broadcasts against `kernel`.
  """
  range_ = weight_range(jax.lax.stop_gradient(kernel), node, per_channel)
  return jnp.expand_dims(range_, weight_axes(kernel, node, per_channel))


def activation_ends(call: Call) -> dict[str, Array]:
  """{site: ends [2]} of activations but for the image, from "averages"."""
  start = lambda: jnp.float32([0.0, 6.0])
  return {
    site: call.variable("averages", site, start)
    for site in call.net.is_signed
    if site != INPUT_SITE
  }


def moved_ends(call: Call, ends: Array, x: Array, site: str, decay: float):
  """[2]: averages of a batch's smallest and largest number, with those of `x`.

  A constant to gradients, and what stands in "averages" from now on (whitepaper
  section 3.1.2). Where the ReLU is the quantizer's to do, the smallest is 0.
  """
  x, ends = jax.lax.stop_gradient((x, ends))
  low, high = extremes.ends(x)
  if not call.net.is_signed[site]:
    low = jnp.float32(0.0)
  seen = jnp.stack([jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)])
  ends = decay * ends + (1.0 - decay) * seen
  call.update("averages", site, ends)
  return ends
