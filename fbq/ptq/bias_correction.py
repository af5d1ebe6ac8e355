"""Biases that undo the mean error of quantization."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import Net
from fbq.schemes.scheme import Scheme

Array = jax.Array
Variables = Mapping[str, Any]
# What the model sows comes before a ReLU, but after these.
_AFTER_FUNCTION = ("gelu", "sigmoid")


def correct(
  model: Model,
  variables: Variables,
  reference: Variables,
  batches: Sequence[Array],
  data: Any = None,
) -> dict[str, Any]:
  """`variables` whose biases give every channel the float network's mean.

  Rounding weights adds an error to a layer's outputs whose mean over the data
  is not zero (Data-free quantization, arXiv 1906.04721, section 4.2). Here it
  is measured on calibration data and not derived from batch norms (their
  appendix D): layer by layer in the order of the network, each after those
  before it are corrected, the mean over images and pixels of outputs before the
  activation function, float minus quantized, is added to the bias.

  Layers without a bias stay as they are, and those of a GELU or a sigmoid,
  whose outputs before the function are not seen.

  Args:
    model: model of the quantized network, with batch norms folded. Under the
      scheme `Fixed` weights and activations are quantized; without a scheme
      `variables` hold weights that are quantized already.
    variables: variables of `model`.
    reference: variables of the float network, of the same net.
    batches: images, [B, H, W, C] each, all of one shape.
    data: data of the model's scheme, such as the bits of every site.

  Raises:
    ValueError: the net has batch norms, or there are no batches.
  """
  # Said before any pass over the images.
  net = model.net
  if not batches:
    raise ValueError("no calibration batches, expected one or more")
  if any(node.norm for node in net.nodes):
    raise ValueError(
      f"net {net.name!r} has batch norms, which hide biases before them; fold "
      "them first (fbq.ptq.folding.fold)"
    )

  # One float pass gives the means of all layers.
  targets = _means(_channel_means(net, None), reference, batches, None)
  means = _channel_means(net, model.scheme)
  params = dict(variables["params"])

  # The quantized network is passed again for every layer, since each mean
  # depends on the corrections before it.
  for node in net.nodes:
    if not node.bias or node.activation in _AFTER_FUNCTION:
      continue
    found = _means(means, {**variables, "params": params}, batches, data)

    # A layer scale comes after the bias, so the shift is divided by it. Where
    # it is 0 no bias is seen.
    shift = targets[node.name] - found[node.name]
    if node.layer_scale:
      scale = np.asarray(params[f"{node.name}_scale"], np.float64)
      shift = np.where(scale == 0, 0.0, shift / np.where(scale == 0, 1, scale))

    bias = np.asarray(params[f"{node.name}_bias"], np.float64) + shift
    params[f"{node.name}_bias"] = bias.astype(np.float32)
  return {**variables, "params": params}


@functools.lru_cache(maxsize=16)
def _channel_means(
  net: Net, scheme: Scheme | None
) -> Callable[..., dict[str, Array]]:
  """A compiled `means(variables, images, data) -> {node with a bias: [C]}`.

  Kept: every recipe and seed for the same network uses it again.
  """

  model = Model(net, scheme)

  def means(variables, images, data):
    _, seen = model.apply(
      variables, images, False, data=data, mutable=["intermediates"]
    )
    result = {}
    for node in net.nodes:
      if node.bias:
        x = jnp.asarray(seen["intermediates"][node.name][0])
        result[node.name] = jnp.mean(x, range(x.ndim - 1))
    return result

  return jax.jit(means)


def _means(means, variables, batches, data) -> dict[str, np.ndarray]:
  """Over all batches, in float64.

  Variables go through numpy, which knows no weak types: a bias that is computed
  would compile `means` anew.
  """
  variables = jax.tree.map(np.asarray, dict(variables))
  found = [means(variables, images, data) for images in batches]
  return jax.tree.map(
    lambda *x: np.mean(np.asarray(x, np.float64), axis=0), *found
  )
