"""Weights rounded for a layer's outputs, at several precisions in one program.

AdaRound (arXiv 2004.10568) on second moments of what the layer reads, in place
of batches: every step sees all of the data and costs a product of matrices.
Then coordinate descent over the codes, each moved to the best of the grid while
others stay (QuantEase, arXiv 2309.01885), which may leave the two neighbours.
MLPerf Tiny's keyword spotting, 10 layers at one precision: 0.5 s, where steps
on batches take minutes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
_BOTTOM, _TOP = -0.1, 1.1  # ends of the sigmoid before it is clipped, eq. 23
_BLOCK = 64  # codes between two products of matrices
_TRIES = 2  # sweeps of coordinate descent for a range that is tried
_SWEEPS = 20
# Share of the steps before roundings are driven to 0 and 1; how strongly they
# are, and the rate of Adam. Both larger than with batches: no step is noisy.
_WARMUP, _STRENGTH, _RATE = 0.2, 0.1, 0.03
# Ranges that are tried, as shares of that of least squared error of weights.
SHARES = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35)


class Rounded(NamedTuple):
  """Weights of a layer at `K` precisions.

  Attributes:
    codes: int8 [K, G, n, O].
    step: float32 [K, G, 1, O], what a code of 1 stands for.
    error: float64 [K], squared error of the layer's outputs, the mean over
      places and output channels, of `Moments.target`.
    nearest_error: float64 [K], likewise if weights are rounded to the nearest.
  """

  codes: np.ndarray
  step: np.ndarray
  error: np.ndarray
  nearest_error: np.ndarray


def round_columns(
  inputs: np.ndarray,
  target: np.ndarray,
  step: np.ndarray,
  bits: tuple[int, ...],
  per_channel: bool = True,
  steps: int = 1000,
  rows: np.ndarray | None = None,
) -> Rounded:
  """Codes of least error of the outputs, at every precision.

  Args:
    inputs: float32 [K, G, n, n], moments of what is read.
    target: float32 [K, G, n, O], weights in float.
    step: float32 [K, G, 1, O], steps to begin with.
    bits: `K` precisions; codes are -2^(b-1) .. 2^(b-1) - 1.
    per_channel: whether each column may have a range of its own; else all of
      the layer have one.
    steps: steps of AdaRound; 0 for coordinate descent alone.
    rows: float32 [K, G, N, n], whose product is `inputs` but for its diagonal:
      steps then take 2 N n O products, not n n O. Half of all that rounding
      MobileNetV2 takes is of its classifier, which reads one row an image.
  """
  low = np.array([-(2.0 ** (b - 1)) for b in bits], np.float32)
  found = _program(steps, per_channel)(
    inputs, target, step.astype(np.float32), low, -low - 1, rows
  )
  codes, chosen, error, nearest = (np.asarray(x) for x in found)
  count = target.shape[1] * target.shape[3]
  return Rounded(
    codes.astype(np.int8),
    chosen,
    error.sum(axis=(1, 2), dtype=np.float64) / count,
    nearest.sum(axis=(1, 2), dtype=np.float64) / count,
  )


@functools.lru_cache(maxsize=8)
def _program(steps: int, per_channel: bool):
  """Compiled once for a shape, for all precisions together."""

  def of_precision(inputs, target, step, low, high, rows):
    # Some ranges with a few sweeps each: the best one of every channel
    tried = jnp.asarray(SHARES)[:, None, None, None] * step
    position = target / tried
    start = jnp.clip(jnp.round(position), low, high)
    descend = functools.partial(_descend, low=low, high=high, sweeps=_TRIES)
    codes = jax.vmap(lambda p, s: descend(inputs, p, s))(position, start)
    errors = jax.vmap(lambda p, c, s: _errors(inputs, c - p, s))(
      position, codes, tried
    )
    if not per_channel:
      errors = jnp.sum(errors, axis=(1, 2), keepdims=True)
    best = jnp.argmin(errors, axis=0)
    step = jnp.asarray(SHARES)[best][:, None, :] * step
    position = target / step

    # From the nearest and from AdaRound's; of each column the better
    nearest = jnp.clip(jnp.round(position), low, high)
    starts = [nearest]
    if steps:
      starts.append(_adaround(inputs, position, low, high, steps, rows))
    ends = jnp.stack(
      [_descend(inputs, position, s, low, high, _SWEEPS) for s in starts]
    )
    errors = jnp.stack([_errors(inputs, q - position, step) for q in ends])
    better = jnp.argmin(errors, axis=0)[None, :, None]
    codes = jnp.take_along_axis(ends, better, 0)[0]
    return (
      codes,
      step,
      jnp.min(errors, axis=0),
      _errors(inputs, nearest - position, step),
    )

  return jax.jit(jax.vmap(of_precision))


def _errors(inputs: Array, off: Array, step: Array) -> Array:
  """[G, O]: squared error of outputs whose weights are `off` steps away."""
  away = jnp.einsum("gij,gjo->gio", inputs, off)
  return jnp.sum(off * away, axis=1) * jnp.square(step[:, 0])


def _adaround(
  inputs: Array,
  position: Array,
  low: Array,
  high: Array,
  steps: int,
  rows: Array | None = None,
) -> Array:
  """[G, n, O] codes: rounded up or down by Adam on the shares h (eq. 21-24).

  The error is in units of what one rounding makes on average, so that one rate
  and one strength serve every layer. Gradients are written out.
  """
  below = jnp.floor(position)
  diagonal = jnp.einsum("gii->gi", inputs)
  level = jnp.maximum(jnp.mean(diagonal, axis=1), 1e-30)[:, None, None]
  if rows is None:
    product = functools.partial(jnp.einsum, "gij,gjo->gio", inputs / level)
  else:
    more = (diagonal - jnp.sum(jnp.square(rows), axis=1))[:, :, None] / level

    def product(off):
      made = jnp.einsum("gri,gio->gro", rows / level, off)
      return jnp.einsum("gri,gro->gio", rows, made) + more * off

  sigmoid = (position - below - _BOTTOM) / (_TOP - _BOTTOM)

  def stretched(v):
    return jax.nn.sigmoid(v) * (_TOP - _BOTTOM) + _BOTTOM

  def update(i, state):
    v, mean, square = state
    wide = stretched(v)
    share = jnp.clip(wide, 0.0, 1.0)
    code = below + share
    off = jnp.clip(code, low, high) - position
    is_inside = (code >= low) & (code <= high)
    slope = 2.0 * product(off) * is_inside

    # What drives shares to 0 and 1: an exponent that falls from 20 to 2
    time = jnp.clip((i / steps - _WARMUP) / (1.0 - _WARMUP), 0.0, 1.0)
    exponent = 2.0 + 18.0 * 0.5 * (1.0 + jnp.cos(time * jnp.pi))
    side = 2.0 * share - 1.0
    pull = -2.0 * exponent * jnp.sign(side) * jnp.abs(side) ** (exponent - 1)
    slope += jnp.where(i < _WARMUP * steps, 0.0, _STRENGTH) * pull

    # The slope of the clipped sigmoid, then Adam
    s = jax.nn.sigmoid(v)
    slope *= s * (1.0 - s) * (_TOP - _BOTTOM) * ((wide > 0.0) & (wide < 1.0))
    mean = 0.9 * mean + 0.1 * slope
    square = 0.999 * square + 0.001 * jnp.square(slope)
    first = mean / (1.0 - 0.9 ** (i + 1.0))
    second = square / (1.0 - 0.999 ** (i + 1.0))
    return v - _RATE * first / (jnp.sqrt(second) + 1e-8), mean, square

  zeros = jnp.zeros_like(position)
  start = jnp.log(sigmoid / (1.0 - sigmoid)), zeros, zeros
  v, _, _ = jax.lax.fori_loop(0, steps, update, start)
  return jnp.clip(below + (stretched(v) >= 0.5), low, high)


def _descend(inputs, position, start, low, high, sweeps):
  """[G, n, O]: each code in turn at its best, others as they are."""
  size = position.shape[1]
  block = min(size, _BLOCK)
  rest = -size % block

  # Codes that are added stay where they are: nothing reads them
  inputs = jnp.pad(inputs, ((0, 0), (0, rest), (0, rest)))
  diagonal = jnp.maximum(jnp.einsum("gii->gi", inputs), 1e-30)
  position, start = (
    jnp.pad(x, ((0, 0), (0, rest), (0, 0))) for x in (position, start)
  )

  def one_group(inputs, diagonal, position, start):
    slope = inputs @ (start - position)

    def of_block(i, state):
      codes, slope = state
      at = i * block
      own = jax.lax.dynamic_slice(inputs, (at, at), (block, block))
      scale = jax.lax.dynamic_slice(diagonal, (at,), (block,))
      near = jax.lax.dynamic_slice_in_dim(codes, at, block)
      slopes = jax.lax.dynamic_slice_in_dim(slope, at, block)

      def of_code(j, inner):
        moved, slopes = inner
        best = jnp.round(moved[j] - slopes[j] / scale[j])
        change = jnp.clip(best, low, high) - moved[j]
        slopes = slopes + own[:, j][:, None] * change[None]
        return moved.at[j].add(change), slopes

      moved, _ = jax.lax.fori_loop(0, block, of_code, (near, slopes))
      rows = jax.lax.dynamic_slice_in_dim(inputs, at, block, axis=1)
      slope = slope + rows @ (moved - near)
      return jax.lax.dynamic_update_slice_in_dim(codes, moved, at, 0), slope

    blocks = (size + rest) // block
    return jax.lax.fori_loop(
      0,
      sweeps,
      lambda _, state: jax.lax.fori_loop(0, blocks, of_block, state),
      (start, slope),
    )[0]

  found = jax.vmap(one_group)(inputs, diagonal, position, start)
  return found[:, :size]
