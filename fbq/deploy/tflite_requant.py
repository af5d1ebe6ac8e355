"""Requantization as TFLite has it: code = zero + round(m (k acc + b)).

`m` is a product of scales, any positive number, and `b` an integer bias: the
offset of a channel, batch norm's, can only be a multiple of `m`. That is coarse
where weights and inputs have few bits: one accumulator may be several codes. So
weights are multiplied by the largest integer `k` that their type holds, which
their scale takes back: a bias then has steps of 1 / k accumulator.

LiteRT's kernels round differently: XNNPACK's once, the plain convolutions
twice, which moves a threshold by at most one of `k acc` (docs/facts/
mlperf_tiny.md 3). Thresholds are therefore put as far from both neighbours as
they go (`fbq.deploy.requant` says what a threshold is).
"""

from typing import NamedTuple

import numpy as np

from fbq.deploy import requant as rq
from fbq.deploy.integer import IntegerNet
from fbq.nets.graph import Node

# Multipliers that kernels take: XNNPACK fails at 2^8. Steeper ones have hardly
# a code between their ends, so they may as well be this steep.
_LEAST, _MOST = 2.0**-31, 2.0**7
_LARGEST_SUM = 2**30


class Stored(NamedTuple):
  """The constants of a layer as a file has them.

  Attributes:
    weight: int64 [h, w, I, O] or [I, O]; ones for a mean, [h, w, 1, C].
    bits: bits that they are stored in, 4 or 8.
    scale: float32 [O], what a weight of 1 stands for.
    bias: int64 [O], in products of an input and a weight.
    is_equal: bool [O], channels whose code is the exact one for every
      accumulator there can be, if it is rounded once.
    clipped: weights that a file has one nearer to 0: 128, which a negative
      batch norm makes of -128, and -128 where all processors are to run it.
  """

  weight: np.ndarray
  bits: int
  scale: np.ndarray
  bias: np.ndarray
  is_equal: np.ndarray
  clipped: int


class Scaled(NamedTuple):
  """Constants of `round(multiplier (factor acc + bias))`, and what they miss.

  Attributes:
    factor: int64 [C], what weights are multiplied by after they were negated
      where the slope is negative; 0 of a channel that has one code.
    bias: int64 [C].
    multiplier: float64 [C], positive.
    differing: int64 [C], sum over all accumulators there can be of the
      difference from the exact code.
  """

  factor: np.ndarray
  bias: np.ndarray
  multiplier: np.ndarray
  differing: np.ndarray


def store(
  network: IntegerNet, node: Node, int4: bool, portable: bool = True
) -> Stored:
  """The constants of a layer with weights, or of a mean.

  Args:
    network: network in integers.
    node: the layer.
    int4: whether weights of 4 and 2 bits are stored in 4, where they fit.
    portable: whether int8 ends at -127, as TFLite's specification has it:
      kernels may add two products in 16 bits, which -128 times -128 twice
      overflows. Else weights of -128 stay what they are.

  Raises:
    ValueError: as `fit`.
  """
  # A mean is a sum by ones
  bits, is_mean = 8, node.op == "avg_pool"
  if is_mean:
    height, width, channels = network.net.shapes[node.inputs[0]]
    window = node.kernel or (height, width)
    weight = np.ones((*window, 1, channels), np.int64)
  else:
    weight = network.layers[node.name]["weight"].astype(np.int64)
    if int4 and network.bits[f"{node.name}.weight"] <= 4:
      bits = 4

  # Negated where codes fall: 8 of -8 does not fit 4 bits, 128 no byte
  channels = weight.shape[-1]
  spread = lambda values: np.broadcast_to(values, channels)
  affine = rq.Affine(*map(spread, network.affine[node.name]))
  reach = rq.Range(*map(spread, network.reach[node.name]))
  weight = weight * np.where(affine.slope < 0, -1, 1)
  ends = weight.reshape(-1, channels)
  low, high = ends.min(0), ends.max(0)
  if bits == 4 and high.max() > 7:
    bits = 8
  most = 2 ** (bits - 1) - 1
  least = most + (bits == 4)  # TFLite has no -128
  largest = np.minimum(
    least // np.maximum(-low, 1), most // np.maximum(high, 1)
  )

  found = fit(affine, reach, *network.ends(node.name), largest, is_mean)
  weight = weight * found.factor
  lowest = -most if bits == 8 and portable else -most - 1
  is_clipped = (weight > most) | (weight < lowest)
  is_whole = ~is_clipped.reshape(-1, channels).any(0)
  read, made = (network.step(name) for name in (node.inputs[0], node.name))
  return Stored(
    np.clip(weight, lowest, most),
    bits,
    np.asarray(found.multiplier * made / read, np.float32),
    found.bias,
    (found.differing == 0) & is_whole,
    int(is_clipped.sum()),
  )


def fit(
  affine: rq.Affine,
  reach: rq.Range,
  low: int,
  high: int,
  largest: np.ndarray,
  half_up: bool = False,
) -> Scaled:
  """The constants whose codes differ from the exact ones least often.

  Args:
    affine: what an accumulator stands for, in codes: the reference.
    reach: accumulators there can be.
    low, high: lowest and highest code of the output.
    largest: int64 [C], largest factor that the weights' type holds.
    half_up: how the reference rounds ties, see `rq.reference_codes`.

  Raises:
    ValueError: a channel whose constants are too large for TFLite.
  """
  sign = np.where(affine.slope < 0, -1, 1)
  slope, reach = np.abs(affine.slope), rq.mirrored(reach, sign)
  affine = rq.Affine(slope, affine.offset)
  wanted = rq.reference_thresholds(affine, reach, low, high, half_up)
  codes = np.arange(low + 1, high + 1)[:, None] - 0.5

  # No sum may overflow
  span = np.maximum(np.abs(reach.low), np.abs(reach.high))
  factor = np.clip(largest, 1, np.maximum(_LARGEST_SUM // (span + 1), 1))

  # A channel of one code needs no weights, and its slope may be anything.
  is_flat = rq.is_constant(affine, reach, low, high, half_up)
  usable = np.where(slope > 0, slope, 1)
  start = np.rint(factor * affine.offset / usable)
  is_flat &= (
    (slope / factor < _LEAST)
    | (slope / factor > _MOST)
    | (np.abs(start) > _LARGEST_SUM)
  )
  code = rq.reference_codes(reach.low, affine, low, high, half_up)
  found = _nearest(factor, usable, start, codes, wanted, reach, half_up)
  factor, bias, multiplier, differing = (
    np.where(is_flat, flat, value)
    for flat, value in zip((0, code, 1.0, 0), found, strict=True)
  )
  _check(bias, multiplier)
  factor, bias, differing = (
    x.astype(np.int64) for x in (factor, bias, differing)
  )
  return Scaled(factor, bias, multiplier, differing)


def _nearest(factor, slope, start, codes, wanted, reach, is_mean):
  """(factor, bias, multiplier, differing) of the nearest staircase found.

  That of a mean keeps its slope: biases that turn ties are enough, and a reader
  knows it by its slope.
  """

  def distance(bias, multiplier):
    with np.errstate(over="ignore"):
      first = np.ceil((codes / multiplier - bias) / factor)
    first = np.clip(first, reach.low, reach.high + 1)
    return np.abs(first - wanted).sum(0)

  # What differs counts first. Then what differs if kernels are off by one, up
  # or down: that favours thresholds halfway between two sums.
  steepest = np.minimum(slope / factor, _MOST)
  best, bias, multiplier = np.full(len(slope), np.inf), start, steepest
  differing = np.zeros(len(slope))
  for step in (0, 1, -1, factor // 4, -(factor // 4)):
    trial = start + step
    scales = [steepest]
    if not is_mean:
      scales += _centred(trial, factor, steepest, codes, wanted, reach)
    for scale in scales:
      apart = distance(trial, scale)
      near = distance(trial + 1, scale) + distance(trial - 1, scale)
      total = apart + near * 2.0**-20
      is_better = total < best
      best = np.where(is_better, total, best)
      bias = np.where(is_better, trial, bias)
      multiplier = np.where(is_better, scale, multiplier)
      differing = np.where(is_better, apart, differing)
  return factor, bias, multiplier, differing


def _centred(bias, factor, other, codes, wanted, reach):
  """Multipliers [C] that put thresholds halfway between sums, with a bias.

  The median of those that do so for one threshold, and the middle of those that
  put every threshold between its sums; `other` where there are none.
  """
  inside = (wanted > reach.low) & (wanted <= reach.high)
  centre = factor * (wanted - 0.5) + bias
  usable = inside & (centre * codes > 0)
  with np.errstate(divide="ignore", invalid="ignore"):
    wanted_scale = np.where(usable, codes / centre, np.nan)
    ends = (codes / (centre + side * factor / 2) for side in (1, -1))
    low, high = (np.where(usable, end, np.nan) for end in ends)
  count = usable.sum(0)
  ordered = np.sort(wanted_scale, axis=0)  # NaN last
  median = np.take_along_axis(ordered, count[None] // 2, axis=0)[0]
  median = np.where(count > 0, np.minimum(median, _MOST), other)

  bottom = np.max(np.where(usable, np.minimum(low, high), -np.inf), axis=0)
  top = np.min(np.where(usable, np.maximum(low, high), np.inf), axis=0)
  is_bound = (bottom > 0) & (top < np.inf) & (bottom < top)
  with np.errstate(invalid="ignore"):
    middle = (bottom + top) / 2
  return [median, np.where(is_bound, np.minimum(middle, _MOST), other)]


def _check(bias, multiplier):
  is_good = (np.abs(bias) <= _LARGEST_SUM) & (multiplier >= _LEAST)
  if not is_good.all():
    worst = int(np.argmin(is_good))
    raise ValueError(
      f"channel {worst} needs a bias of {bias[worst]:.4g} sums of "
      f"{multiplier[worst]:.4g} codes, expected up to {_LARGEST_SUM:.4g} of "
      f"{_LEAST:.2g} at least; lower the range of the layer's output"
    )
