"""Ranges from a histogram in place of the numbers.

Where the rule is one of `range_rules`, what a bin's width `w` (at most 1/2048
of the largest magnitude) can change:

  min_max, moving_average   nothing
  percentile                each end by w / 2 at most
  least_squares             the root mean squared error of the range found is
                            at most w above that of the best one: a number's
                            distance to a grid changes by no more than the
                            number is moved, w / 2 at most
  kullback_leibler          ends at a bin's edge; bins are of this width, where
                            TensorRT has 2,048 up to the largest magnitude
"""

import jax.numpy as jnp
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fbq.quantizers import affine, calibration, divergence, range_rules
from fbq.quantizers.histograms import BINS, Histogram
from fbq.quantizers.range_rules import Range

RULES = (
  "min_max",
  "moving_average",
  "percentile",
  "least_squares",
  "kullback_leibler",
)


_BESIDE = 16  # bins of a code in TensorRT, 2,048 / 128


def range_of(
  histogram: Histogram,
  rule: str,
  bits: int,
  form: str,
  percent: float = 99.99,
  decay: float = 0.99,
) -> Range:
  """The range [] of a tensor for `bits`-bit codes.

  Args:
    histogram: counts of the tensor's numbers.
    rule: name of the rule, one of `RULES`.
    bits: bits of the codes; two of the rules heed them.
    form: form of the grid, one of `affine.FORMS`.
    percent: percentage of the rule `percentile`.
    decay: decay of `moving_average` from batch to batch.

  Raises:
    ValueError: unknown rule, or settings it cannot have.
  """
  symmetric = form in ("symmetric", "restricted")

  # Two of the rules take the data as they are, whatever the codes.
  if rule == "min_max":
    return _extremes(histogram)
  if rule == "moving_average":
    batches = zip(histogram.lows, histogram.highs, strict=True)
    return range_rules.moving_average([Range(*ends) for ends in batches], decay)

  # The others clip. Symmetric forms take both ends alike.
  if rule == "percentile":
    return percentile(histogram, percent, symmetric)
  if rule == "least_squares":
    return least_squares(histogram, bits, form)
  if rule == "kullback_leibler":
    return kullback_leibler(histogram, bits, form != "unsigned")

  raise ValueError(f"rule is {rule!r}, expected one of {RULES}")


def percentile(histogram: Histogram, percent: float, symmetric: bool) -> Range:
  """See `range_rules.percentile`."""
  if not 50 < percent <= 100:
    raise ValueError(f"percentile {percent}, expected above 50, up to 100")
  values, counts = _values(histogram)
  if symmetric:
    high = _quantile(np.abs(values), counts, percent)
    return range_rules.widened(-high, high)
  low = _quantile(values, counts, 100 - percent)
  return range_rules.widened(low, _quantile(values, counts, percent))


def least_squares(histogram: Histogram, bits: int, form: str) -> Range:
  """See `range_rules.least_squares`."""
  shares = calibration.shares(bits, form == "symmetric")
  shares = np.sort(np.asarray(shares, np.float32))
  whole = _extremes(histogram)
  if form in ("symmetric", "restricted"):
    largest = np.maximum(-whole.low, whole.high)
    whole = Range(-largest, largest)
  ends = jnp.asarray(shares * whole.low), jnp.asarray(shares * whole.high)
  grid = affine.grid(*ends, jnp.int32(bits), form)
  step, zero, low, high = (
    np.broadcast_to(np.asarray(field), shares.shape)[:, None]
    for field in grid[:4]
  )
  values, counts = _values(histogram)
  values = values.astype(np.float32)
  codes = np.clip(np.rint(values * (1 / step)) + zero, low, high)
  # In float64, of whole numbers of counts: no order of bins to speak of.
  errors = np.square((codes - zero) * step - values, dtype=np.float64) @ counts
  best = shares[len(shares) - 1 - np.argmin(errors[::-1])]
  return range_rules.widened(best * whole.low, best * whole.high)


def kullback_leibler(histogram: Histogram, bits: int, signed: bool) -> Range:
  """The least divergence of histograms, as TensorRT calibrates activations.

  Zeros are left out: every grid has them, and those of a ReLU would outweigh
  the rest. So would any other value that is common for itself, see
  `without_spikes`. Clips at the end of each bin are tried, from as many bins as
  there are codes; for what is compared see `divergence.divergences`.

  Args:
    histogram: counts of the tensor's numbers.
    bits: bits of the codes, 2 to 11.
    signed: whether magnitudes of numbers of both signs have 2^(bits-1) codes;
      else positive numbers have 2^bits, and negative ones are taken for 0.
  """
  if not 2 <= bits <= 11:
    raise ValueError(
      f"{bits} bits, expected 2 to 11: there can be as few as {BINS // 2} bins"
    )
  counts = histogram.counts[BINS:]
  if signed:
    counts = counts + histogram.counts[:BINS][::-1]
  filled = np.flatnonzero(counts)
  size = filled[-1] + 1 if len(filled) else 0
  codes = 2 ** (bits - 1) if signed else 2**bits
  clip = divergence.best_clip(without_spikes(counts[:size]), codes)
  high = clip * histogram.width
  high = np.float64(high)
  return range_rules.widened(-high if signed else 0.0 * high, high)


def without_spikes(counts: np.ndarray) -> np.ndarray:
  """int64 [N]: what bins hold that are not much fuller than those beside.

  A plain background gives every channel one value for all of it: such bins held
  10 % of a depthwise layer's numbers. Codes spread them over all of their bins,
  which is a divergence of 0.25 to 0.7 nats where other tensors have 0.002 and
  costs no accuracy. The clip then goes where spikes have narrow codes: to 0.19
  of the largest number at 8 bits, 0.03 at 6 (MobileNetV1 on the digits, 92.9
  and 13.9 %; without spikes 96.5 and 96.5, float 96.7 %).

  A bin keeps the median m of the 16 bins to either side and its own, and four
  standard deviations of a count above: m + 4 (sqrt(m) + 1) numbers at most.
  """
  if not len(counts):
    return counts
  beside = sliding_window_view(
    np.pad(counts, _BESIDE, mode="edge"), 2 * _BESIDE + 1
  )
  median = np.median(beside, axis=1).astype(np.int64)
  most = median + np.int64(4 * (np.sqrt(median) + 1))
  return np.minimum(counts, most)


def _extremes(histogram: Histogram) -> Range:
  return range_rules.widened(
    np.float64(histogram.low), np.float64(histogram.high)
  )


def _values(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
  """(middles of bins that are not empty, counts), rising; 0 among them."""
  bins = np.flatnonzero(histogram.counts)
  values = (bins - BINS + 0.5) * histogram.width
  # The ends are known better than to half a bin.
  values = np.clip(values, histogram.low, histogram.high)
  place = np.searchsorted(values, 0.0)
  return (
    np.insert(values, place, 0.0),
    np.insert(histogram.counts[bins], place, histogram.zeros),
  )


def _quantile(
  values: np.ndarray, counts: np.ndarray, percent: float
) -> np.float64:
  """The percentile of numbers given with counts, as `np.percentile` has it."""
  order = np.argsort(values, kind="stable")
  ends = np.cumsum(counts[order])
  place = percent / 100 * (ends[-1] - 1)
  below = np.searchsorted(ends, np.floor(place), side="right")
  above = np.searchsorted(ends, np.ceil(place), side="right")
  first, second = values[order][below], values[order][above]
  return np.float64(first + (second - first) * (place - np.floor(place)))
