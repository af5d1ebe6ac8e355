"""Gated quantizers of Bayesian Bits, fused, with analytic gradients.

`nested_quantize` is the form of the Free Bits authors
(docs/facts/quantization.md 3.2): differences of complete 2-, 4- and 8-bit
quantizers. `residual_quantize` is the original one (arXiv 2005.07093;
docs/facts/quantization.md 1.1): residuals on nested grids. Automatic
differentiation through either keeps every intermediate tensor and costs 8 to 12
ns of processor time per element forward and backward; the closed forms below
keep `x` alone and cost 5 to 7 (`benchmarks/steps.py`).
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fbq.quantizers import uniform

Array = jax.Array

LADDER = (2, 4, 8)


def nested_quantize(
  x: Array,
  range_: Array,
  gates: Sequence[Array],
  signed: bool,
  faithful: bool = False,
) -> Array:
  """Q2(x) + z4 (Q4(x) - Q2(x)) + z4 z8 (Q8(x) - Q4(x)).

  Each Q is a complete quantizer on the grid of `uniform`.

  The authors' code passes the gradient of `x` and of the range through Q2
  alone, so every weight above half of its channel's range, 12 % of a Gaussian
  one's, gets none although its 4- and 8-bit levels follow it
  (docs/facts/quantization.md 3.6). By default the gradient is the one of the
  mixture that is computed: each quantizer passes its own, weighted as in the
  sum. Their training loop also never clears the gradients of the gates, which
  thus add up over the whole run; here every step has its own.

  Args:
    x: tensor of any shape.
    range_: range, positive, one for all precisions; broadcasts against `x`.
    gates: (z4, z8) in [0, 1], each broadcasting against `x`: a scalar, or
      [B, 1, 1, 1] for one draw per sample.
    signed: see `uniform.quantize`.
    faithful: whether gradients are those that the authors' quantizer gives.

  Returns:
    Array of `x`'s shape; differentiable in `x`, `range_` and the gates.
  """
  z4, z8 = gates
  uniform.check_broadcasts(x, range_=range_, z4=z4, z8=z8)
  return _nested(signed, faithful, x, range_, z4, z8)


def static_grid(bits: int, signed: bool) -> tuple[int, int, int]:
  """(lowest code, highest code, steps per range), see `uniform.grid`."""
  if signed:
    return -(1 << bits - 1), (1 << bits - 1) - 1, 1 << bits - 1
  return 0, (1 << bits) - 1, (1 << bits) - 1


def level_codes(x: Array, range_: Array, signed: bool) -> list[Array]:
  """Codes of `x`, as floats, at each precision of the ladder."""
  if signed:
    grids = [static_grid(bits, signed) for bits in LADDER]
    return [
      uniform.round_to_codes(x, range_ / n, lo, hi) for lo, hi, n in grids
    ]
  clipped = jnp.clip(x, 0.0, range_)  # once for all: the ends are common
  return [jnp.round(clipped * (1.0 / s)) for s in level_steps(range_, signed)]


def level_steps(range_: Array, signed: bool) -> list[Array]:
  """Step of each precision of the ladder."""
  return [range_ / static_grid(bits, signed)[2] for bits in LADDER]


def _mix(values: Sequence[Array], z4: Array, z8: Array) -> Array:
  """v2 + z4 (v4 - v2) + z4 z8 (v8 - v4), with one factor for each value."""
  v2, v4, v8 = values
  return (1.0 - z4) * v2 + (z4 * (1.0 - z8)) * v4 + (z4 * z8) * v8


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _nested(signed, faithful, x, range_, z4, z8):
  del faithful
  s2, s4, s8 = level_steps(range_, signed)
  k2, k4, k8 = level_codes(x, range_, signed)
  # The factors are small arrays: three products and two sums for each element.
  return (
    ((1.0 - z4) * s2) * k2
    + ((z4 * (1.0 - z8)) * s4) * k4
    + ((z4 * z8) * s8) * k8
  )


def _nested_forward(signed, faithful, x, range_, z4, z8):
  return _nested(signed, faithful, x, range_, z4, z8), (x, range_, z4, z8)


def _nested_backward(signed, faithful, residuals, g):
  """Gradients from one sum for each precision, over what gates and range share.

  The gates stay outside of the sums: inside they would be broadcast to the size
  of `x` in memory, which made the search step of MobileNetV1 a quarter slower.
  """
  x, range_, z4, z8 = residuals
  codes = level_codes(x, range_, signed)
  q2, q4, q8 = (
    k * s for k, s in zip(codes, level_steps(range_, signed), strict=True)
  )

  # Where the gradient passes to `x`. Precisions of unsigned tensors all end at
  # the range, those of signed ones at different codes.
  inside = []
  for bits in LADDER if signed else LADDER[:1]:  # unsigned: one range for all
    low, high, steps = static_grid(bits, signed)
    ends = (low / steps) * range_, (high / steps) * range_
    inside.append(uniform.is_inside(x, *ends, signed).astype(g.dtype))
  inside = inside * 3 if len(inside) == 1 else inside

  # Sums go no further than gates and ranges need them.
  small = jnp.broadcast_shapes(range_.shape, z4.shape, z8.shape)
  small = (1,) * (x.ndim - len(small)) + small
  total = lambda v: uniform.sum_to(v, small)
  gains = total(g * (q4 - q2)), total(g * (q8 - q4))

  # The two rules of the gradient, see `nested_quantize`.
  if faithful:  # slope and range of Q2 alone, the range where it clips
    slope = inside[0]
    drange = total(jnp.where(inside[0] > 0, 0.0, g * q2)) / range_
  else:  # y is homogeneous of degree 1 in (x, range)
    slope = inside[0] if not signed else _mix(inside, z4, z8)
    sums = [
      total(g * (q - m * x)) for q, m in zip((q2, q4, q8), inside, strict=True)
    ]
    drange = _mix(sums, z4, z8) / range_
  return (
    g * slope,
    uniform.sum_to(drange, range_.shape),
    uniform.sum_to(gains[0] + z8 * gains[1], z4.shape),
    uniform.sum_to(z4 * gains[1], z8.shape),
  )


_nested.defvjp(_nested_forward, _nested_backward)

# Ratio of each residual step to the one below: s4 = s2 / 5, s8 = s4 / 17, ...
_STEP_RATIOS = {4: 5.0, 8: 17.0, 16: 257.0, 32: 65537.0}


def residual_quantize(
  x: Array, max_: Array, gates: Sequence[Array], signed: bool
) -> Array:
  """z2 (x2 + z4 (x4 + z8 (x8 + z16 (x16 + z32 x32)))), the original form.

  x2 rounds `x` to a step of 2 max / 3 (signed) or max / 3, and each x_b rounds
  what is left to a step 2^(b/2) + 1 times finer, so the signed grid is
  symmetric: 2 bits are {-1, 0, 1}.

  Args:
    x: tensor of any shape.
    max_: largest magnitude, positive.
    gates: (z2, z4, ...) up to z32, in [0, 1]; z2 prunes and may be one per
      output channel. A shorter sequence ends the recursion.
    signed: whether `x` has a sign.

  Returns:
    Array of `x`'s shape; differentiable in `x`, `max_` and the gates.
    Gradients: dx = g z2 [inside]; d max = sum g (y - z2 x [inside]) / max;
    those of the gates from the residuals.
  """
  named = {f"gates[{i}]": gate for i, gate in enumerate(gates)}
  uniform.check_broadcasts(x, max_=max_, **named)
  return _residual(signed, x, max_, tuple(gates))


def _residuals(x: Array, max_: Array, count: int, signed: bool):
  """The clipped ends and [x2, x4, ...], in the authors' order of operations."""
  high = (1.0 - 1e-7) * max_  # keeps x / s2 below 1.5
  low = -high if signed else jnp.zeros_like(high)
  clipped = high - jax.nn.relu(high - low - jax.nn.relu(x - low))
  step = (2.0 if signed else 1.0) * max_ / 3.0
  # The product with 1 / s2 can round a clipped value up to the tie at 1.5 that
  # the authors' 1 - 1e-7 keeps a division below; the code is clipped for that.
  top = 1.0 if signed else 3.0
  parts = [step * uniform.round_to_codes(clipped, step, -top, top)]
  left = clipped - parts[0]
  for ratio in list(_STEP_RATIOS.values())[: count - 1]:
    step = step / ratio
    parts.append(step * jnp.round(left * (1.0 / step)))
    left = left - parts[-1]
  return low, high, parts


def _nest(parts: Sequence[Array], gates: Sequence[Array]) -> list[Array]:
  """[z2 (x2 + ...), z4 (x4 + ...), ...]; the first is the quantized tensor."""
  total, found = jnp.zeros_like(parts[0]), []
  for part, gate in zip(reversed(parts), reversed(gates), strict=True):
    total = gate * (part + total)
    found.append(total)
  return found[::-1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _residual(signed, x, max_, gates):
  _, _, parts = _residuals(x, max_, len(gates), signed)
  return _nest(parts, gates)[0]


def _residual_forward(signed, x, max_, gates):
  return _residual(signed, x, max_, gates), (x, max_, gates)


def _residual_backward(signed, residuals, g):
  """Gradients from one sum for each part, over what gates and range share.

  As in `_nested_backward` the gates stay outside of the sums: whatever they
  multiply follows from sums of g x2, g x4, ... and g (x2 - x [inside]).
  """
  x, max_, gates = residuals
  low, high, parts = _residuals(x, max_, len(gates), signed)
  inside = ((x > low) & (x < high)).astype(g.dtype)
  small = jnp.broadcast_shapes(max_.shape, *map(jnp.shape, gates))
  small = (1,) * (x.ndim - len(small)) + small
  sums = [uniform.sum_to(g * part, small) for part in parts]
  nested = _nest(sums, gates)
  # y - z2 x [inside], of which x2 - x [inside] cancels before it is summed.
  first = uniform.sum_to(g * (parts[0] - inside * x), small)
  above = nested[1] if len(gates) > 1 else jnp.zeros(small, g.dtype)
  dmax = gates[0] * (first + above) / max_
  dgates, before = [], jnp.ones((), g.dtype)
  for i, gate in enumerate(gates):
    higher = nested[i + 1] if i + 1 < len(gates) else 0.0
    total = before * (sums[i] + higher)
    dgates.append(uniform.sum_to(total, jnp.shape(gate)))
    before = before * gate
  return (
    g * (gates[0] * inside),
    uniform.sum_to(dmax, max_.shape),
    tuple(dgates),
  )


_residual.defvjp(_residual_forward, _residual_backward)
