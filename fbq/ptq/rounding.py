"""AdaRound for a whole network, layer by layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import INPUT, Net
from fbq.ptq import adaround
from fbq.schemes import gridded
from fbq.schemes.scheme import Call
from fbq.train.steps import compile_once

Array = jax.Array


def tensors(net: Net) -> Callable[..., dict[str, tuple[Array, Array]]]:
  """A compiled `see(variables, images, data) -> {layer: (inputs, outputs)}`.

  Of every layer with weights: what it reads, quantized, and what it makes
  before its activation function.

  Args:
    net: network without batch norms.
  """
  # Quantized or in float is a matter of `data`: one program serves both.
  model = Model(net, gridded.Gridded())

  def see(variables, images, data):
    _, seen = model.apply(
      variables, images, False, data=data, mutable=["intermediates"]
    )
    unused: Any = None  # the scheme has no variables
    quantizer = gridded.Gridded().quantizer(
      Call(net, unused, False, len(images), data, None)
    )

    # The model sows what a layer makes before its activation function.
    made = {
      name: jnp.asarray(x[0]) for name, x in seen["intermediates"].items()
    }

    def read(name):  # what `Model` makes of a tensor before it is read
      site = net.site_of[name] or ""  # logits, without one, are not read
      if name == INPUT:
        zero = jnp.array(net.image_zero or 0, jnp.float32) / 255
        return quantizer.activation(images, site) - zero
      x = made[name]
      if net.node[name].activation == "relu" and net.is_signed[site]:
        x = jax.nn.relu(x)
      return x if name in net.parts else quantizer.activation(x, site)

    # A layer's input is its first: those with weights read one tensor.
    return {
      node.name: (read(node.inputs[0]), made[node.name])
      for node in net.nodes
      if node.has_weights
    }

  return compile_once(see)


def round_network(
  see: Callable,
  net: Net,
  params: Mapping[str, Any],
  data: Mapping[str, gridded.SiteGrid],
  batches: Sequence[Array],
  key: Array,
  settings: adaround.Settings,
) -> dict[str, Any]:
  """`params` whose kernels are numbers of their grids, rounded by AdaRound.

  Layer by layer in the order of the net: each learns to make of the inputs that
  the layers before it give, quantized, what the float network makes. Layers
  whose weights `data` leaves in float stay; so do those behind a GELU or a
  sigmoid, whose outputs before the function are not seen.

  Args:
    see: compiled function of `tensors`.
    net: network without batch norms.
    params: parameters of the float network.
    data: grids of all sites, from `gridded.data`.
    batches: images, all of one shape.
    key: key that the images of steps are drawn with.
    settings: how each layer is rounded.
  """
  # Targets come from the float network, inputs from the one rounded so far:
  # each layer mends what the layers before it did.
  in_float = gridded.data(net, {})
  rounded = {name: np.asarray(x) for name, x in params.items()}
  original = dict(rounded)

  def gather(params, data, name, which):
    parts = [see({"params": params}, x, data)[name][which] for x in batches]
    return np.concatenate([np.asarray(part) for part in parts])

  # Outputs before a GELU or a sigmoid are not seen, so such a layer stays.
  for index, node in enumerate(net.nodes):
    if not node.has_weights or node.activation not in ("relu", "none"):
      continue
    grid, on = data[f"{node.name}.weight"]
    if not on:
      continue

    # One key for each layer, by its place: leaving one out changes no other.
    found = adaround.round_layer(
      *(net, node.name, rounded, grid),
      gather(rounded, data, node.name, 0),
      gather(original, in_float, node.name, 1),
      jax.random.fold_in(key, index),
      settings,
    )
    rounded[f"{node.name}_kernel"] = found.kernel
  return rounded
