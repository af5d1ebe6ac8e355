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
    net: without batch norms.
  """
  model = Model(net, gridded.Gridded())

  def see(variables, images, data):
    _, seen = model.apply(
      variables, images, False, data=data, mutable=["intermediates"]
    )
    unused: Any = None  # the scheme has no variables
    quantizer = gridded.Gridded().quantizer(
      Call(net, unused, False, len(images), data, None)
    )
    made = {
      name: jnp.asarray(x[0]) for name, x in seen["intermediates"].items()
    }

    def read(name):  # what `Model` makes of a tensor before it is read
      site = net.site_of[name] or ""  # logits, without one, are not read
      if name == INPUT:
        return quantizer.activation(images, site)
      x = made[name]
      if net.node[name].activation == "relu" and net.is_signed[site]:
        x = jax.nn.relu(x)
      return x if name in net.parts else quantizer.activation(x, site)

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
    see: of `tensors`.
    net: without batch norms.
    params: of the float network.
    data: grids of all sites.
    batches: images, all of one shape.
    key: draws the images of steps.
    settings: of AdaRound.
  """
  in_float = gridded.data(net, {})
  rounded = {name: np.asarray(x) for name, x in params.items()}
  original = dict(rounded)

  def gather(params, data, name, which):
    parts = [see({"params": params}, x, data)[name][which] for x in batches]
    return np.concatenate([np.asarray(part) for part in parts])

  for index, node in enumerate(net.nodes):
    if not node.has_weights or node.activation not in ("relu", "none"):
      continue
    grid, on = data[f"{node.name}.weight"]
    if not on:
      continue
    found = adaround.round_layer(
      *(net, node.name, rounded, grid),
      gather(rounded, data, node.name, 0),
      gather(original, in_float, node.name, 1),
      jax.random.fold_in(key, index),
      settings,
    )
    rounded[f"{node.name}_kernel"] = found.kernel
  return rounded
