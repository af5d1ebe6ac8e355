"""What block formats do to tensors: squared error, and what becomes zero."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import INPUT_SITE, Net
from fbq.quantizers import bfp
from fbq.schemes.block_float import BlockFloat, weight_axes, window_axes
from fbq.schemes.microscaling import Microscaling

Tensors = Mapping[str, np.ndarray]


class Noise(NamedTuple):
  """What `F` formats do to one tensor.

  Attributes:
    squared: float64 [F], ||Q(x) - x||^2; of an activation, the images' mean.
    zeroed: float64 [F], share of the elements other than 0 that become 0.
  """

  squared: np.ndarray
  zeroed: np.ndarray


def tops(net: Net, tensors: Tensors) -> np.ndarray:
  """int32 [S]: the largest exponent of every activation, 0 for weights.

  Args:
    net: the network.
    tensors: activation site -> values, as for `noises`.
  """
  found = np.zeros(len(net.workload.sites), np.int32)
  for i, site in enumerate(net.workload.sites):
    if site in tensors:
      found[i] = int(_top(_after_relu(net, tensors, site)))
  return found


def noises(
  net: Net,
  params: Mapping[str, Any],
  tensors: Tensors,
  formats: Sequence[tuple[int, int, int]],
  scheme: BlockFloat | Microscaling,
) -> dict[str, Noise]:
  """What every format does to every tensor of a network.

  Args:
    net: the network.
    params: parameters of the model of `net`.
    tensors: activation site -> values [N, ...] before its ReLU and quantizer,
      of the image too.
    formats: (X, SE, block size) of each of `F` formats, rows of the scheme.
    scheme: scheme that says along what blocks run and how they round.
  """
  # Said before any tensor is quantized.
  lacking = [
    site
    for site in net.workload.sites
    if not site.endswith(".weight") and site not in tensors
  ]
  if lacking:
    raise ValueError(f"{net.name}: no calibration data for {lacking}")

  # A kernel counts once. An activation counts as the mean over images, whose
  # blocks never reach into another image.
  found = {}
  nodes = {f"{n.name}.weight": n for n in net.nodes if n.has_weights}
  for site in net.workload.sites:
    if site in nodes:
      x = jnp.asarray(params[f"{nodes[site].name}_kernel"])
      axis, over = weight_axes(nodes[site], x.ndim, scheme.spans_kernel)
      images = 1
    else:
      x = _after_relu(net, tensors, site)
      if (view := net.block_view.get(site)) is not None:
        x = view.of(x)
      axis, over = -1, window_axes(scheme.window, x.ndim)
      images = len(x)

    # One compiled program for each shape: formats are data, so a loop over them
    # compiles nothing.
    top = _top(x)
    geometry = (scheme, axis, tuple(over.items()))
    pairs = [
      _compare(*geometry, x, top, np.array(f, np.int32)) for f in formats
    ]
    squared, zeroed = np.array(jax.device_get(pairs), np.float64).T
    found[site] = Noise(squared / images, zeroed)
  return found


def _after_relu(net, tensors, site):
  x = jnp.asarray(tensors[site], jnp.float32)
  return x if site == INPUT_SITE or net.is_signed[site] else jax.nn.relu(x)


_top = jax.jit(bfp.top_exponent)  # else ten small programs for every shape


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _compare(scheme, axis, over, x, top, format_):
  """(squared error, share that becomes zero) of one format int32 [3]."""
  y = scheme.rounded(x, format_, axis, dict(over), top)
  some = x != 0
  lost = jnp.sum(some & (y == 0)) / jnp.maximum(jnp.sum(some), 1)
  return jnp.sum(jnp.square(y - x)), lost
