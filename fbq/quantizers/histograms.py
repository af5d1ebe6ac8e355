"""Histograms of tensors, counted batch by batch where the tensors are.

Bins have widths of powers of two and edges at multiples of them. When numbers
outgrow the bins, pairs of bins are added, which gives exactly the counts of
wider bins: so the bins need not be known beforehand, one pass over the data
will do, and no order of batches or images changes a count.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

Array = jax.Array
# Of either sign. A power of two; the largest magnitude lies in the upper half.
BINS = 4096
_OCTAVES = BINS.bit_length() - 1
_SPARE = 64  # bins for zeros; a power of two
_LEAST_EXPONENT = -100  # of a bin's width: 2^100 is finite


class Batch(NamedTuple):
  """What one batch adds to a histogram; arrays on the device.

  Attributes:
    low: float32 [], least number; NaN if any number is NaN.
    high: float32 [], greatest number; NaN if any number is NaN.
    exponent: int32 [], bins are 2^exponent wide.
    counts: int32 [2 BINS], of the numbers in [j, j + 1) 2^exponent for j from
      -BINS; zeros are not counted.
    zeros: int32 [].
  """

  low: Array
  high: Array
  exponent: Array
  counts: Array
  zeros: Array


class Histogram(NamedTuple):
  """Counts of all numbers of a tensor, over batches.

  Attributes:
    low: least number.
    high: greatest number.
    exponent: see `Batch`; width / largest magnitude is at most 2 / BINS.
    counts: int64 [2 BINS], see `Batch`.
    zeros: numbers that are 0.
    lows: float32 [N], `low` of every batch, in their order.
    highs: float32 [N], `high` of every batch.
  """

  low: float
  high: float
  exponent: int
  counts: np.ndarray
  zeros: int
  lows: np.ndarray
  highs: np.ndarray

  @property
  def width(self) -> float:
    """Width of a bin."""
    return 2.0**self.exponent


def count(x: Array) -> Batch:
  """What `x`, float32 of any shape, adds to a histogram; jittable.

  On a CPU 1.3 ns for a number, where the layer of a MobileNet that makes it
  takes 1.5. Of that 0.7 is the scattered addition: zeros, half of what a ReLU
  makes, go to spare bins in turn, as additions to one and the same place wait
  for each other (1.8). Counting bad numbers and zeros by sums took 3.0.

  Compiled alone: fused into it, the bias and the ReLU that make `x` are found
  again for every number by its place. A pass that counts all tensors of
  MobileNetV1 takes 2.4 float passes so, 3.2 fused (`benchmarks.calibration`).
  """
  with set_xla_metadata(inlineable="false"):
    return _count(x)


@jax.jit
def _count(x: Array) -> Batch:
  low, high = jnp.min(x), jnp.max(x)
  x = jnp.asarray(x).reshape(-1)

  exponent = jnp.maximum(
    _exponent(jnp.maximum(-low, high)) + 1 - _OCTAVES, _LEAST_EXPONENT
  )
  # A product with a power of two is exact, so bins can be added later on.
  place = jnp.floor(x * _power_of_two(-exponent)).astype(jnp.int32) + BINS
  place = jnp.clip(place, 0, 2 * BINS - 1)
  spare = 2 * BINS + (lax.iota(jnp.int32, x.size) & (_SPARE - 1))
  place = jnp.where(x == 0.0, spare, place)
  # A bin for NaN, which XLA's min and max lose on a CPU, see `extremes`; its
  # functions would add half to the time of a count.
  place = jnp.where(jnp.isnan(x), 2 * BINS + _SPARE, place)
  counts = jnp.zeros(2 * BINS + _SPARE + 1, jnp.int32)
  counts = counts.at[place].add(1, mode="promise_in_bounds")

  zeros = jnp.sum(counts[2 * BINS : -1], dtype=jnp.int32)
  low, high = (jnp.where(counts[-1] > 0, jnp.nan, end) for end in (low, high))
  return Batch(low, high, exponent, counts[: 2 * BINS], zeros)


def merge(name: str, batches: Sequence[Batch]) -> Histogram:
  """The histogram of all batches.

  Args:
    name: name of the tensor, for messages.
    batches: what each batch adds, from `count`; one or more.

  Raises:
    ValueError: no batches, or numbers that are not finite.
  """
  if not batches:
    raise ValueError(f"{name}: no batches, expected one or more")
  batches = jax.tree.map(np.asarray, list(batches))
  for i, batch in enumerate(batches):
    if not np.isfinite([batch.low, batch.high]).all():
      raise ValueError(
        f"{name}: values of batch {i} are not finite, from {batch.low} to "
        f"{batch.high}; look at the calibration images and the weights"
      )

  # Bins as wide as those of the widest batch: the others' are joined by twos
  exponent = max(int(batch.exponent) for batch in batches)
  counts = np.zeros(2 * BINS, np.int64)
  for batch in batches:
    # After as many doublings as there are octaves, one bin of either sign is
    # left; more change nothing.
    doublings = min(exponent - int(batch.exponent), _OCTAVES)
    sums = batch.counts.astype(np.int64).reshape(-1, 2**doublings).sum(axis=1)
    start = BINS - len(sums) // 2
    counts[start : start + len(sums)] += sums

  # Ends by batch stay: moving averages are made of them
  lows = np.array([batch.low for batch in batches], np.float32)
  highs = np.array([batch.high for batch in batches], np.float32)
  return Histogram(
    float(lows.min()),
    float(highs.max()),
    exponent,
    counts,
    sum(int(batch.zeros) for batch in batches),
    lows,
    highs,
  )


def _exponent(x: Array) -> Array:
  """int32: 2^exponent <= x < 2^(exponent + 1), from the bits; -127 for 0."""
  return (lax.bitcast_convert_type(x, jnp.int32) >> 23) - 127


def _power_of_two(exponent: Array) -> Array:
  """float32, exact for exponents of -126 to 127."""
  return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)
