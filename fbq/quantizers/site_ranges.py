"""Ranges of every site of a network at every precision, from data."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fbq.nets.graph import INPUT_SITE, Net
from fbq.quantizers import calibration, shared_steps, uniform

Ranges = Mapping[str, Mapping[int, np.ndarray]]

# A tensor "left in float" is one of 24 bits: float32 has as many, so codes are
# exact and the step is 2^-22 of the largest magnitude or less. A MobileNetV1
# 0.25 trained on the digits then has the float network's logits to 8e-6 of the
# largest, KL divergence 7e-12 nats. 16 bits would do as well, 3e-4 and 3e-8,
# where 4 bits at one site give about 1e-3 nats; 24 cost no more.
FLOAT_BITS = 24


def site_ranges(
  net: Net,
  params: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  bits: Sequence[int] = calibration.BITS,
  start: calibration.Start = calibration.best_range,
  per_channel: bool = True,
) -> dict[str, dict[int, np.ndarray]]:
  """{site: {bits: range}} of weights, and of activations' step sites.

  By default the ranges of least squared error at each of `bits`; at
  `FLOAT_BITS` twice the largest magnitude, so that what other quantizers add is
  not clipped. Of tensors that share a step the largest step; without the
  image's, of range 1.

  Args:
    net: the network.
    params: parameters of the model of `net`, for the weights.
    tensors: activation site -> values [N, ...] before their quantizer.
    bits: precisions to calibrate for.
    start: function that gives the range, such as a rule's of `qat_rules`.
    per_channel: whether weights have a range for each output channel, but for
      the classifier's.

  Raises:
    ValueError: a tensor is missing, empty, or has values that are not finite.
  """
  # Activations: each tensor alone first, then what shares a step together.
  tensors = _checked(net, tensors)
  found = calibration.activation_ranges(
    tensors, net.is_signed, bits, start=start
  )
  for site, values in tensors.items():
    largest = np.max(np.abs(values)) if net.is_signed[site] else np.max(values)
    found[site][FLOAT_BITS] = _twice(largest)
  found = _of_step_sites(net, found, (*bits, FLOAT_BITS))

  # Weights have no step in common with others.
  for node in net.nodes:
    if node.has_weights:
      kernel = np.asarray(params[f"{node.name}_kernel"])
      _check_finite(f"params['{node.name}_kernel']", kernel)
      by_channel = per_channel and node.op != "linear"
      site = f"{node.name}.weight"
      found[site] = {
        b: calibration.weight_ranges(kernel, by_channel, b, start) for b in bits
      }
      axes = tuple(range(kernel.ndim - by_channel))
      found[site][FLOAT_BITS] = _twice(np.max(np.abs(kernel), axes))
  return found


def site_ends(
  net: Net, tensors: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """{activation site: [2]}: the smallest and the largest number, and 0.

  Args:
    net, tensors: network and tensors, see `site_ranges`.

  Raises:
    ValueError: see `site_ranges`.
  """
  found = {}
  for site, values in _checked(net, tensors).items():
    low = min(values.min(), 0.0) if net.is_signed[site] else 0.0
    found[site] = np.array([low, max(values.max(), 0.0)], np.float32)
  return found


def squared_errors(
  net: Net,
  params: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  ranges: Ranges,
  bits: Sequence[int] = calibration.BITS,
) -> dict[str, dict[int, float]]:
  """{free site: {bits: ||Q(x) - x||^2}}: of an activation, the images' mean.

  Args:
    net: the network.
    params: parameters of the model of `net`.
    tensors: activation site -> values [N, ...] before their quantizer.
    ranges: ranges from `site_ranges`.
    bits: precisions to tell the error of.
  """
  # Bits are data: one program for each shape and sign.
  quantize = jax.jit(uniform.quantize, static_argnames="signed")
  result = {}
  for site in net.workload.free_sites:
    name, kind = site.rsplit(".", 1)

    # An activation's error is the mean over images, a kernel's counts once.
    signed = kind == "weight" or net.is_signed[site]
    if kind == "weight":
      x, images = np.asarray(params[f"{name}_kernel"]), 1
    else:
      x, images = np.asarray(tensors[site]), len(tensors[site])
    x = x if signed else np.maximum(x, 0.0)  # the quantizer is the ReLU too

    # Summed in float64, as a tensor may have millions of elements.
    result[site] = {}
    for b in bits:
      y = quantize(x, ranges[site][b], np.int32(b), signed=signed)
      error = np.sum(np.square(np.asarray(y) - x), dtype=np.float64)
      result[site][b] = float(error) / images
  return result


def _checked(net, tensors):
  """Tensors of the network's activation sites, without the image's."""
  wanted = [site for site in net.is_signed if site != INPUT_SITE]
  missing = [site for site in wanted if site not in tensors]
  if missing:
    raise ValueError(f"{net.name}: no calibration data for {missing}")
  for site in wanted:
    _check_finite(f"calibration data of {site!r}", tensors[site])
  return {site: tensors[site] for site in wanted}


def _of_step_sites(net, ranges, bits):
  """`ranges` of activations, of those that share a step the widest."""
  found: dict[str, dict[int, np.ndarray]] = {}
  for b in bits:
    at_b = shared_steps.of_step_sites(
      net,
      {site: by_bits[b] for site, by_bits in ranges.items()},
      dict.fromkeys(ranges, b),
    )
    for site, range_ in at_b.items():
      found.setdefault(site, {})[b] = np.asarray(range_)
  return found


def _twice(largest: np.ndarray) -> np.ndarray:
  return np.maximum(2.0 * largest, 1e-8).astype(np.float32)


def _check_finite(what: str, values: np.ndarray) -> None:
  bad = int(np.sum(~np.isfinite(values)))
  if bad or not np.size(values):
    raise ValueError(
      f"{what}: expected finite values, got {np.size(values)} values, {bad} of "
      "them not finite"
    )
