"""What activations are like on calibration data, in one pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.model import Model
from fbq.nets.graph import INPUT, INPUT_SITE, Net
from fbq.quantizers import histogram_rules, histograms, shared_steps
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


def ranges(
  net: Net,
  seen: Mapping[str, Histogram],
  bits: Sequence[int],
  rule: str = "least_squares",
  percent: float = 99.99,
  given: Mapping[str, tuple[float, float]] = {},  # noqa: B006  never changed
) -> dict[str, dict[int, np.ndarray]]:
  """{step site of activations: {bits: range}}, without the image's.

  Args:
    net: the network.
    seen: histograms from `calibrate`.
    bits: precisions to tell ranges for.
    rule: one of `histogram_rules.RULES`.
    percent: percentage of the rule "percentile".
    given: {site: (lowest, highest)} of ranges that are known, such as those of
      a quantized file; they hold at all bits.
  """
  found: dict[str, dict[int, np.ndarray]] = {}
  for b in bits:
    alone: dict[str, Any] = {}
    for site, signed in net.is_signed.items():
      if site == INPUT_SITE:
        continue
      form = "symmetric" if signed else "unsigned"
      low, high = given.get(site) or histogram_rules.range_of(
        seen[site], rule, b, form, percent
      )
      # Of a given range both ends are codes; the highest of signed ones is a
      # step below the range.
      if signed and site in given:
        high = high * 2 ** (b - 1) / (2 ** (b - 1) - 1)
      largest = max(-low, high) if signed else high
      alone[site] = np.float32(max(largest, 1e-8))
    shared = shared_steps.of_step_sites(net, alone, dict.fromkeys(alone, b))
    for site, range_ in shared.items():
      found.setdefault(site, {})[b] = np.asarray(range_, np.float32)
  return found
