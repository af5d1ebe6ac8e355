"""LiteRT's requantizations, written from the facts, of a file's constants.

docs/facts/mlperf_tiny.md, 3.
"""

import math

import numpy as np
from deploy_cases import combine


def sums(node, inputs, stored):
  """int64 sums of products and biases of a convolution, product or mean.

  Args:
    node: the layer.
    inputs: its tensor in codes, padded by 0.
    stored: a `tflite_requant.Stored`.
  """
  if node.op != "avg_pool":
    return combine(node, inputs, stored.weight) + stored.bias
  count = np.prod(node.kernel or inputs[0].shape[1:3])
  total = np.rint(combine(node, inputs) * count).astype(np.int64)
  return total * stored.weight[0, 0, 0] + stored.bias


def codes(total, scales, ends, rule):
  """Codes of sums [..., C].

  Args:
    total: int64 sums.
    scales: float32 steps of what is read [], of weights [C], of what is made.
    ends: lowest and highest code.
    rule: one of those below.
  """
  read, weights, made = scales
  columns = [
    rule(total[..., channel], read, np.float32(scale), made)
    for channel, scale in enumerate(weights)
  ]
  return np.clip(np.stack(columns, -1), *ends)


def near_ties(total, scales):
  """Where float32 may round otherwise than exact numbers."""
  read, weights, made = np.float64(scales[0]), scales[1], np.float64(scales[2])
  value = total * (read * weights.astype(np.float64) / made)
  return np.abs(value % 1 - 0.5) <= np.abs(value) * 2.0**-22


def once(total, read, scale, made):
  """XNNPACK's: a product in float32, ties to even."""
  return np.rint(np.float32(total) * (read * scale / made)).astype(np.int64)


def twice_up(total, read, scale, made):
  """LiteRT's own convolutions on x86: by 2^31, then by what is left."""
  whole, shift = fixed_point(float(read) * float(scale) / float(made))
  high = half_up((total << max(shift, 0)).astype(object) * whole, 31)
  return half_up(high, max(-shift, 0)).astype(np.int64)


def twice_away(total, read, scale, made):
  """LiteRT's plain ones, and those of other processors: ties from zero."""
  return np.sign(total) * twice_up(np.abs(total), read, scale, made)


def fixed_point(multiplier):
  """(q, s) of 2^30 <= q < 2^31 with multiplier ~ q 2^(s - 31)."""
  fraction, shift = math.frexp(multiplier)
  whole = math.floor(fraction * 2**31 + 0.5)
  return (whole // 2, shift + 1) if whole == 2**31 else (whole, shift)


def half_up(number, bits):
  """number / 2^bits in Python's integers, ties upwards."""
  return (number + ((1 << bits) >> 1)) >> bits
