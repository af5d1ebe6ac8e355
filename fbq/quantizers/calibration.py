"""Ranges from data: the one of least squared error at each precision."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

# (x [N, ...], bits, signed) -> the range [...] of each column.
Start = Callable[[np.ndarray, int, bool], np.ndarray]
BITS = (2, 4, 8)
# Candidate ranges as shares of the largest magnitude.
_SHARES = np.linspace(0.04, 1.0, 49)


def shares(bits: int, signed: bool) -> np.ndarray:
  """[K]: candidate ranges as shares of the largest magnitude, rising.

  The highest code of signed integers stands for less than the range, half of it
  at 2 bits, so a range above the largest magnitude can be the best.
  """
  if not signed:
    return _SHARES
  steps = 2 ** (bits - 1)
  return np.append(_SHARES, np.linspace(1.0, steps / (steps - 1), 9)[1:])


def mean_squared_errors(
  x: np.ndarray, largest: np.ndarray, bits: int, signed: bool
) -> np.ndarray:
  """[K, ...]: error of `bits`-bit quantization for each candidate range.

  Args:
    x: [N, ...]; errors are means over N.
    largest: [...], the largest magnitude of each column of `x`.
    bits: bits of the codes of `uniform`.
    signed: see `uniform.quantize`.
  """
  steps = 2 ** (bits - 1) if signed else 2**bits - 1
  low, high = (-steps, steps - 1) if signed else (0, steps)
  errors = []
  for share in shares(bits, signed):
    step = (share * largest / steps).astype(np.float32)
    y = np.clip(np.rint(x / step), low, high) * step
    errors.append(np.mean((y - x) ** 2, axis=0, dtype=np.float64))
  return np.stack(errors)


def checked(x: np.ndarray) -> np.ndarray:
  """`x` as float32.

  Raises:
    ValueError: `x` is empty or has values that are not finite.
  """
  x = np.asarray(x, np.float32)
  if x.size == 0 or not np.isfinite(x).all():
    raise ValueError(
      "calibration data must be finite and not empty, got "
      f"{x.size} values, {int(np.sum(~np.isfinite(x)))} of them not finite"
    )
  return x


def best_range(x: np.ndarray, bits: int, signed: bool) -> np.ndarray:
  """[...]: the range of least squared error for each column of `x` [N, ...].

  At least 1e-8, so that a tensor of zeros has a step.

  Raises:
    ValueError: `x` is empty or has values that are not finite.
  """
  x = checked(x)
  x = x if signed else np.maximum(x, 0.0)  # the quantizer is the ReLU too
  x = np.sort(x, axis=0)  # sums, and so ties, that no order of the data changes
  largest = np.maximum(np.abs(x).max(axis=0), np.float32(1e-8))
  errors = mean_squared_errors(x, largest, bits, signed)
  # The last of equals: the widest range that is as good.
  best = len(errors) - 1 - np.argmin(errors[::-1], axis=0)
  return (shares(bits, signed)[best] * largest).astype(np.float32)


def activation_ranges(
  tensors: Mapping[str, np.ndarray],
  is_signed: Mapping[str, bool],
  bits: Sequence[int] = BITS,
  samples: int = 65_536,
  start: Start = best_range,
) -> dict[str, dict[int, np.ndarray]]:
  """{site: {bits: range []}} from activations on calibration data.

  Args:
    tensors: site -> values of any shape, before their quantizer.
    is_signed: site -> whether its integers are signed.
    bits: precisions to calibrate for.
    samples: values used of each tensor, drawn at random from a fixed seed.
    start: function that gives the range of a tensor's values.
  """
  found = {}
  random = np.random.default_rng(0)
  for site, values in tensors.items():
    values = np.asarray(values).reshape(-1)
    if len(values) > samples:
      # Not evenly spaced: a stride that channels divide would see one of them.
      values = random.choice(values, samples, replace=False, shuffle=False)
    found[site] = {b: start(values, b, is_signed[site]) for b in bits}
  return found


def weight_ranges(
  kernel: np.ndarray,
  per_channel: bool,
  bits: int,
  start: Start = best_range,
) -> np.ndarray:
  """Range [O] of each output channel of a kernel [..., O], or [] of all."""
  kernel = np.asarray(kernel)
  columns = (-1, kernel.shape[-1]) if per_channel else (-1,)
  return start(kernel.reshape(columns), bits, True)
