"""What activations are like on calibration data, in one pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import INPUT, INPUT_SITE, Net
from fbq.quantizers import histograms
from fbq.quantizers.histograms import Histogram
from fbq.train.steps import compile_once

Array = jax.Array
Observe = Callable[..., Mapping[str, histograms.Batch]]


def observer(net: Net) -> Observe:
  """A compiled `observe(variables, images) -> {activation site: counts}`.

  Sites are in the order of the network.
  One float forward pass that counts every tensor that has a precision, the
  image too, as its quantizer finds it: behind the ReLU where it cannot be
  negative.
  """
  model = Model(net)
  owners = {INPUT_SITE: INPUT} | {
    f"{node.name}.out": node.name
    for node in net.nodes
    if net.site_of[node.name] == f"{node.name}.out"
  }

  @compile_once
  def observe_in_order(variables, images):
    _, seen = model.apply(variables, images, False, mutable=["intermediates"])
    counts = []
    for site, name in owners.items():
      if name == INPUT:
        x = images
      else:
        x = jnp.asarray(seen["intermediates"][name][0])
        x = x if net.is_signed[site] else jax.nn.relu(x)
      counts.append(histograms.count(x))
    return counts

  # What is compiled gives mappings in the order of their keys.
  return lambda variables, images: dict(
    zip(owners, observe_in_order(variables, images), strict=True)
  )


def calibrate(
  observe: Observe, variables: Mapping[str, Any], batches: Sequence[Array]
) -> dict[str, Histogram]:
  """{activation site: histogram} of a float network, the image's included.

  Ranges of every rule, form and bit-width come from these, by
  `histogram_rules.range_of`. They depend on no order of batches or images, but
  for the average over batches.

  Args:
    observe: compiled counts of a batch, from `observer`.
    variables: variables of the float network.
    batches: images [B, H, W, C] each, all of one shape.

  Raises:
    ValueError: no batches, or a tensor with values that are not finite; names
      the first of them in the order of the network.
  """
  if not batches:
    raise ValueError("no calibration batches, expected one or more")
  variables = jax.tree.map(np.asarray, dict(variables))  # no weak types
  found = [observe(variables, images) for images in batches]
  return {
    site: histograms.merge(
      f"calibration data of {site!r}", [batch[site] for batch in found]
    )
    for site in found[0]
  }
