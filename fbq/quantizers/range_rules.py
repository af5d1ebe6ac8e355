"""Ranges from data by the rules that the literature compares.

Every rule is a function of `x` [N, ...]: it gives a `Range` of [...], one for
each column, from the N numbers in it; `columns` makes such an `x` of a tensor.
No order of the N numbers changes a range. Ranges contain 0 and are never empty:
what is constant has the range from 0 to it, and a column of zeros one of 1e-8.
All raise ValueError for data that are empty or not finite.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fbq.quantizers import affine, calibration

# Statistics-aware weight binning (arXiv 1807.06964, eq. 6): codes -> (c1, c2)
# of range = c1 sqrt(E[w^2]) - c2 E|w|. The paper has no more than 4 bits; these
# are of quantlib (pact_controllers.py, `_sawb_asymm_lut`), whose odd numbers of
# codes are those of the restricted form.
SAWB = {
  3: (2.58072, 1.68371),
  4: (4.74932, 3.32860),
  7: (6.99146, 6.34798),
  8: (8.26900, 7.36509),
  15: (12.04287, 12.07040),
  16: (12.06485, 11.86833),
  31: (14.71474, 15.13775),
  32: (15.47646, 15.98616),
  63: (20.78714, 22.60234),
  64: (21.96366, 24.03408),
  127: (27.15792, 30.50641),
  128: (28.26410, 31.87972),
  255: (35.48044, 40.89530),
  256: (36.15292, 41.73554),
}


class Range(NamedTuple):
  """What `affine.grid` takes.

  Attributes:
    low: float32 [...], 0 or less.
    high: float32 [...], 0 or more.
  """

  low: np.ndarray
  high: np.ndarray


def columns(x: np.ndarray, per_channel: bool) -> np.ndarray:
  """[N, C] of a tensor [..., C] for a range per channel, else [N]."""
  x = np.asarray(x)
  return x.reshape((-1, x.shape[-1]) if per_channel else (-1,))


def min_max(x: np.ndarray) -> Range:
  """All of the data: nothing is clipped."""
  x = calibration.checked(x)
  return widened(x.min(axis=0), x.max(axis=0))


def moving_average(batches: Sequence[Range], decay: float = 0.99) -> Range:
  """The average of the ranges of batches, the last ones most.

  What the whitepaper takes for activations (section 3.1.2). Unlike the other
  rules it depends on the order, of the batches, not of what is in them. It
  starts from the first batch, so no correction for a start from 0 is needed.

  Args:
    batches: ranges of batches in their order, from `min_max`.
    decay: share that the average keeps at each batch, 0 to below 1.
  """
  if not batches or not 0 <= decay < 1:
    raise ValueError(
      f"{len(batches)} batches with decay {decay}, expected one or more and a "
      "decay of 0 to below 1"
    )
  low, high = (np.asarray(end, np.float64) for end in batches[0])
  for batch in batches[1:]:
    low = decay * low + (1 - decay) * batch.low
    high = decay * high + (1 - decay) * batch.high
  return widened(low, high)


def percentile(x: np.ndarray, percent: float, symmetric: bool) -> Range:
  """Without the `100 - percent` of data that are largest.

  Args:
    x: [N, ...].
    percent: above 50, up to 100.
    symmetric: whether the magnitudes are cut; else either end, by as much.
  """
  if not 50 < percent <= 100:
    raise ValueError(f"percentile {percent}, expected above 50, up to 100")
  x = calibration.checked(x)
  if symmetric:
    high = np.percentile(np.abs(x), percent, axis=0)
    return widened(-high, high)
  low, high = np.percentile(x, [100 - percent, percent], axis=0)
  return widened(low, high)


def least_squares(
  x: np.ndarray,
  bits: int,
  form: str,
  shares: np.ndarray | None = None,
  shared: bool = False,
) -> Range:
  """The share of `min_max` with the least squared error at `bits` bits.

  Both ends shrink alike. Of equals the widest.

  Args:
    x: [N, ...].
    bits: bits of the codes.
    form: form of the grid, one of `affine.FORMS`.
    shares: [K], candidates as shares of the whole; by default those of
      `calibration.shares`.
    shared: whether all columns take one share, that of the least error of all,
      as in MQBench and quantlib; else each column its own.
  """
  x = np.sort(calibration.checked(x), axis=0)  # sums that no order changes
  if shares is None:
    shares = calibration.shares(bits, form == "symmetric")
  shares = np.sort(np.asarray(shares, np.float32))

  # What is shrunk: symmetric grids reach as far on both sides
  whole = min_max(x)
  if form in ("symmetric", "restricted"):
    largest = np.maximum(-whole.low, whole.high)
    whole = Range(-largest, largest)

  # The error of every share; of equals the last is the widest
  scale = shares.reshape(-1, *[1] * whole.low.ndim)
  tried = _grid(Range(scale * whole.low, scale * whole.high), bits, form)
  errors = np.stack(
    [
      np.mean((_rounded(x, one) - x) ** 2, axis=0, dtype=np.float64)
      for one in zip(*tried, strict=True)
    ]
  )
  if shared:
    errors = errors.reshape(len(shares), -1).mean(axis=1)
  best = shares[len(shares) - 1 - np.argmin(errors[::-1], axis=0)]
  return widened(best * whole.low, best * whole.high)


def sawb(x: np.ndarray, bits: int, form: str) -> Range:
  """The range fitted to the first and second moments (SAWB, arXiv 1807.06964).

  The fit is good for many numbers of a bell-shaped distribution. It is the
  difference of two moments that are alike: at 8 bits of 45 and 42 times the
  mean magnitude, so that 2 % of either is a quarter of the range. From the 9
  weights of a depthwise channel it made 0 to 4.5 times the largest (MobileNetV1
  on the digits: 27 % instead of 97). `fbq.ptq.recipes` has it for whole layers
  of 2 to 4 bits alone, which the paper fits. Where it is not positive, the
  largest magnitude is taken.

  Args:
    x: weights [N, ...].
    bits: 2 to 8.
    form: "symmetric" or "restricted".
  """
  codes = 2**bits - (form == "restricted")
  if form not in ("symmetric", "restricted") or codes not in SAWB:
    raise ValueError(
      f"SAWB at {bits!r} bits and form {form!r}, expected 2 to 8 bits and "
      "'symmetric' or 'restricted'"
    )
  x = np.sort(calibration.checked(x), axis=0).astype(np.float64)
  of_deviation, of_mean = SAWB[codes]
  deviation = np.sqrt(np.mean(x**2, axis=0))
  high = of_deviation * deviation - of_mean * np.mean(np.abs(x), axis=0)
  high = np.where(high > 0, high, np.abs(x).max(axis=0))
  return widened(-high, high)


def quantized(x: np.ndarray, range_: Range, bits: int, form: str) -> np.ndarray:
  """What `affine.quantize` gives: in numpy, so no shape of `x` is compiled.

  Args:
    x: float32 [..., C], or of any shape for one range.
    range_: range [C] or [].
    bits: bits of the codes.
    form: form of the grid, one of `affine.FORMS`.
  """
  return _rounded(x, _grid(range_, bits, form))


def _grid(range_: Range, bits: int, form: str) -> list[np.ndarray]:
  """(step, zero-point, lowest code, highest code), each of the range's shape.

  One call for all ranges: it takes 1 ms whatever their number.
  """
  ends = jnp.asarray(range_.low), jnp.asarray(range_.high)
  grid = affine.grid(*ends, jnp.int32(bits), form)
  shape = np.shape(range_.low)
  return [np.broadcast_to(np.asarray(field), shape) for field in grid[:4]]


def _rounded(x: np.ndarray, grid: Sequence[np.ndarray]) -> np.ndarray:
  step, zero, low, high = grid
  codes = np.rint(x * (np.float32(1) / step)) + zero
  return (np.clip(codes, low, high) - zero) * step


def widened(low: Any, high: Any) -> Range:
  """The float32 range from `low` to `high`, with 0 in it and not empty."""
  low = np.minimum(low, 0.0)
  high = np.maximum(high, 0.0)
  high = np.where(high - low < 1e-8, 1e-8, high)
  return Range(low.astype(np.float32), high.astype(np.float32))
