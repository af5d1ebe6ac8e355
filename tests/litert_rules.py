"""LiteRT's requantizations in Python's integers, written from the facts.

docs/facts/mlperf_tiny.md, 3. They need the constants of a file alone.
"""

import math

import numpy as np
from deploy_cases import combine


def codes(node, inputs, stored, steps, ends, rule):
  """Codes that LiteRT makes of codes with a layer's stored constants.

  Args:
    node: convolution, product or mean.
    inputs: its tensor in codes, padded by 0.
    stored: a `tflite_requant.Stored`.
    steps: float32 steps of what is read and of what is made.
    ends: lowest and highest code.
    rule: one of those below.
  """
  if node.op == "avg_pool":
    x = combine(node, inputs)
    count = np.prod(node.kernel or inputs[0].shape[1:3])
    x = np.rint(x * count).astype(np.int64) * stored.weight[0, 0, 0]
  else:
    x = combine(node, inputs, stored.weight)
  sums = x + stored.bias
  made = np.empty_like(sums)
  for channel, scale in enumerate(stored.scale):
    constants = fixed_point(float(steps[0]) * float(scale) / float(steps[1]))
    column = sums[..., channel]
    found = [rule(int(total), *constants) for total in column.flat]
    made[..., channel] = np.reshape(found, column.shape)
  return np.clip(made, *ends)


def fixed_point(multiplier):
  """(q, s) of 2^30 <= q < 2^31 with multiplier ~ q 2^(s - 31)."""
  fraction, shift = math.frexp(multiplier)
  whole = math.floor(fraction * 2**31 + 0.5)
  return (whole // 2, shift + 1) if whole == 2**31 else (whole, shift)


def once(total, whole, shift):
  """XNNPACK's: in one step."""
  return half_up(total * whole, 31 - shift)


def twice_up(total, whole, shift):
  """LiteRT's own convolutions on x86: by 2^31, then by what is left."""
  high = half_up(total * 2 ** max(shift, 0) * whole, 31)
  return half_up(high, max(-shift, 0))


def twice_away(total, whole, shift):
  """LiteRT's plain ones, and those of other processors: ties from zero."""
  sign = -1 if total < 0 else 1
  return sign * twice_up(abs(total), whole, shift)


def half_up(number, bits):
  """number / 2^bits, ties upwards."""
  return (number + ((1 << bits) >> 1)) >> bits
