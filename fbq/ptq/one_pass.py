"""Biases and batch norms of a quantized network set right in one pass."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import Net, Node
from fbq.norms import EPSILON
from fbq.schemes.scheme import Scheme

Array = jax.Array
_SEEN = "statistics"
_WANTED = "wanted"


def correct(
  net: Net,
  scheme: Scheme,
  variables: Mapping[str, Any],
  reference: Mapping[str, Any],
  images: Array,
  data: Any = None,
) -> dict[str, Any]:
  """`variables` whose layers have the float network's means on some images.

  What a layer makes is corrected before the layers behind it read it, so one
  pass does what `bias_correction.correct` does in one for each layer. Batch
  norms are re-estimated: they get the mean and the variance of what the
  quantized layer gives them (HAWQ's and AdaQuant's batch norm tuning).

  Args:
    net: the network.
    scheme: scheme that quantizes it.
    variables: "params", "batch_stats" and those of the scheme.
    reference: the same of the float network.
    images: [N, H, W, C], all in one batch.
    data: data of the scheme, such as the bits of every site.
  """
  wanted = {
    name: seen["mean"]
    for name, seen in _statistics(net, None)(
      _kinds(reference), images, None
    ).items()
    if not net.node[name].norm
  }
  found = _statistics(net, scheme)(
    {**_kinds(variables), _WANTED: wanted}, images, data
  )

  params = dict(variables["params"])
  stats = dict(variables.get("batch_stats", {}))
  for name, seen in jax.tree.map(np.asarray, found).items():
    if net.node[name].norm:
      stats[f"{name}_norm"] = {"mean": seen["mean"], "var": seen["var"]}
    else:
      params[f"{name}_bias"] = (
        np.asarray(params[f"{name}_bias"]) + wanted[name] - seen["mean"]
      )
  return {**variables, "params": params, "batch_stats": stats}


def _kinds(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Numbers without weak types, which would compile again."""
  return jax.tree.map(np.asarray, dict(variables))


@functools.lru_cache(maxsize=8)
def _statistics(net: Net, scheme: Scheme | None) -> Callable:
  """A compiled (variables, images, data) -> {layer: its statistics}."""
  model = _Corrected(net, scheme)

  @jax.jit
  def statistics(variables, images, data):
    _, seen = model.apply(variables, images, False, data, mutable=[_SEEN])
    return {
      name: found[0] for name, found in dict(seen or {}).get(_SEEN, {}).items()
    }

  return statistics


class _Corrected(Model):
  """A model that corrects what its layers make, and tells by what."""

  def _compute(self, node, inputs, quantizer):
    x = super()._compute(node, inputs, quantizer)
    if not _can_be_corrected(node):
      return x
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    if not node.norm:
      self.sow(_SEEN, node.name, {"mean": mean})
      if not self.has_variable(_WANTED, node.name):
        return x
      return x + (self.get_variable(_WANTED, node.name) - mean)

    # As the norm behind it will make of its running statistics what it would
    # have made of these
    var = jnp.mean(jnp.square(x - mean), axes)
    self.sow(_SEEN, node.name, {"mean": mean, "var": var})
    if self.scheme is None:
      return x
    old = self.variables["batch_stats"][f"{node.name}_norm"]
    scale = jnp.sqrt((old["var"] + EPSILON) / (var + EPSILON))
    return (x - mean) * scale + old["mean"]


def _can_be_corrected(node: Node) -> bool:
  return node.has_weights and (
    node.norm or (node.bias and not node.layer_scale)
  )
