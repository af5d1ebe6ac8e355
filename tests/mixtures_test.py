"""Quantizers of mixed precisions against their definition, written twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import AS_SHIPPED
from golden_cases import close

from fbq.quantizers import uniform
from fbq.quantizers.mixtures import fractional_quantize, mixed_quantize

BITS = (2, 4, 8)
X = 0.9 * jax.random.normal(jax.random.key(0), (5, 3, 4))
G = jax.random.normal(jax.random.key(1), X.shape)
RANGES = {
  "tensor": jnp.float32(1.1),
  "channel": jnp.float32([[[0.7, 1.0, 1.3, 2.0]]]),
}


def straight_through(x, range_, bits, signed):
  """One precision, by automatic differentiation."""
  steps = 2.0 ** (bits - 1) if signed else 2.0**bits - 1.0
  ends = (-steps, steps - 1) if signed else (0.0, steps)
  scaled = jnp.clip(x / (range_ / steps), *ends)
  rounded = scaled + jax.lax.stop_gradient(jnp.round(scaled) - scaled)
  return rounded * (range_ / steps)


def numpy_levels(x, range_, signed):
  """The three quantized tensors in double precision, level by level."""
  x, range_ = np.asarray(x, np.float64), np.asarray(range_, np.float64)
  range_ = np.broadcast_to(range_, x.shape)
  found = []
  for bits in BITS:
    if signed:
      levels = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) / 2 ** (bits - 1)
    else:
      levels = np.arange(2**bits) / (2**bits - 1)
    grid = levels * range_[..., None]
    nearest = np.abs(grid - x[..., None]).argmin(-1)
    found.append(np.take_along_axis(grid, nearest[..., None], -1)[..., 0])
  return found


def weigh(levels, shares):
  return sum(s * q for s, q in zip(shares, levels, strict=True))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", RANGES)
def test_mixed_value_and_gradients(kind, signed):
  range_, shares = RANGES[kind], (jnp.float32(0.3), jnp.float32(0.45))
  ours = lambda x, r, p4, p8: mixed_quantize(x, r, (p4, p8), signed)
  y, vjp = jax.vjp(ours, X, range_, *shares)
  levels = numpy_levels(X, range_, signed)
  close(y, weigh(levels, (0.25, 0.3, 0.45)))

  def plain(x, r, p4, p8):
    q = [straight_through(x, r, bits, signed) for bits in BITS]
    return q[0] + p4 * (q[1] - q[0]) + p8 * (q[2] - q[0])

  expected = jax.vjp(plain, X, range_, *shares)[1](G)
  found = vjp(G)
  for mine, other in zip(found, expected, strict=True):
    assert mine.shape == other.shape
    close(mine, other)
  close(found[2], np.sum(G * (levels[1] - levels[0])))
  close(found[3], np.sum(G * (levels[2] - levels[0])))
  close(jax.jit(ours, compiler_options=AS_SHIPPED)(X, range_, *shares), y, 1e-6)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("index", [0.0, 0.3, 1.0, 1.75, 2.0])
@pytest.mark.parametrize("kind", RANGES)
def test_fractional_value_and_gradients(kind, index, signed):
  range_ = RANGES[kind]
  k = min(int(index), 1)
  t = index - k
  ours = lambda x, r, i: fractional_quantize(x, r, i, signed)
  y, vjp = jax.vjp(ours, X, range_, jnp.float32(index))
  levels = numpy_levels(X, range_, signed)[k : k + 2]
  close(y, weigh(levels, (1 - t, t)))

  def plain(x, r, i):
    q, more = (straight_through(x, r, b, signed) for b in BITS[k : k + 2])
    return q + (i - k) * (more - q)

  expected = jax.vjp(plain, X, range_, jnp.float32(index))[1](G)
  for mine, other in zip(vjp(G), expected, strict=True):
    assert mine.shape == other.shape
    close(mine, other)
  close(vjp(G)[2], np.sum(G * (levels[1] - levels[0])))
  close(
    jax.jit(ours, compiler_options=AS_SHIPPED)(X, range_, jnp.float32(index)),
    y,
    1e-6,
  )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("form", ["mixed", "fractional"])
def test_a_whole_choice_is_the_uniform_quantizer_exactly(form, level, signed):
  """On ties and on the ends of the range too, and in its gradients."""
  steps = 2.0 ** (BITS[level] - 1) if signed else 2.0 ** BITS[level] - 1
  ties = (jnp.arange(-2 * steps, 2 * steps) + 0.5) / steps
  x = jnp.concatenate([X.ravel(), ties, jnp.float32([-1.0, 0.0, 1.0])])
  if form == "mixed":
    shares = [jnp.float32(level == i) for i in (1, 2)]
    chosen = lambda x, r: mixed_quantize(x, r, shares, signed)
  else:
    index = jnp.float32(level)
    chosen = lambda x, r: fractional_quantize(x, r, index, signed)
  bits = jnp.int32(BITS[level])
  fixed = functools.partial(uniform.quantize, bits=bits, signed=signed)
  y, vjp = jax.vjp(chosen, x, jnp.float32(1.0))
  expected, expected_vjp = jax.vjp(fixed, x, jnp.float32(1.0))
  np.testing.assert_array_equal(y, expected)
  g = jax.random.normal(jax.random.key(2), x.shape)
  np.testing.assert_array_equal(vjp(g)[0], expected_vjp(g)[0])
  close(vjp(g)[1], expected_vjp(g)[1])
