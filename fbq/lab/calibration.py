"""A float network before quantization: variables, activations, ranges."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq import precision
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.quantizers.site_ranges import Ranges, site_ranges
from fbq.schemes.fixed import Fixed


def initial_variables(model: Model, key: jax.Array) -> Mapping[str, Any]:
  """Variables of a model in float mode before training."""
  images = jnp.zeros((2, *model.net.input_shape))
  # The "rbg" generator: threefry's thirty copies take 5 s to compile.
  seed = jax.random.key_data(key)
  key = jax.random.wrap_key_data(jnp.concatenate([seed, seed]), impl="rbg")
  variables = jax.jit(lambda k: model.init(k, images, train=False))(key)
  return {kind: variables.get(kind, {}) for kind in ("params", "batch_stats")}


def calibrate(
  net: Net, variables, images, bits: Sequence[int] = precision.BITS
):
  """({site: {bits: range}}, {activation site: values [N, ...]}) on `images`.

  See `fbq.quantizers.site_ranges`; the values are those before quantizers.

  Args:
    net: the network.
    variables: variables of the float network.
    images: [N, H, W, C].
    bits: precisions to calibrate for.
  """
  tensors = activations(net, variables, images)
  return site_ranges(net, variables["params"], tensors, bits), tensors


def activations(
  net: Net, variables, images, bits: jax.Array | None = None
) -> dict[str, np.ndarray]:
  """{activation site but the image's: values [N, ...]} before quantizers.

  Args:
    net, variables, images: see `calibrate`.
    bits: int [S], bits at which all tensors are quantized on the way, by the
      "ranges" of the variables; None for a float pass.
  """
  model = Model(net) if bits is None else Model(net, Fixed())
  seen = jax.jit(
    lambda v, x, b: model.apply(v, x, False, b, mutable=["intermediates"])[1]
  )(variables, images, bits)["intermediates"]
  return {
    f"{node.name}.out": np.asarray(seen[node.name][0])
    for node in net.nodes
    if net.site_of[node.name] == f"{node.name}.out"
  }


def ranges_at(
  ranges: Ranges, assignment: precision.Precision
) -> dict[str, jax.Array]:
  """The "ranges" of a model at the bits of an assignment.

  Of those sites of `ranges` that the assignment has.
  """
  return {
    site: jnp.asarray(by_bits[assignment[site]])
    for site, by_bits in ranges.items()
    if site in assignment
  }
