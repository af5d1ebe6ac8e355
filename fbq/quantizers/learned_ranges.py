"""Ranges that are learned by LSQ, TQT and PACT: their start and their gradient.

All quantize by `uniform.quantize`, whose rule "lsq" is the gradient of the
straight-through estimator and "pact" that of the clipped values alone. What
tells the three methods apart otherwise is what is learned, where it starts, and
what is done to its gradient before the optimizer:

          learned           start                      gradient
  LSQ     step              2 E|x| / sqrt(Q_P)         times 1 / sqrt(N Q_P)
  TQT     log2 of range     log2 of the largest |x|    over its own deviation
  PACT    range             any of `range_rules`       plus decay times range

The last column is an optax transformation (PACT's is
`optax.add_decayed_weights`, 1e-3 in quantlib) or, in LSQ, a part of the
quantizer. `qat_rules` makes whole rules of these parts.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fbq.quantizers import calibration

Array = jax.Array
_LEAST = np.float32(1e-8)  # as in `calibration`


def lsq_start(x: np.ndarray, bits: int, signed: bool) -> np.ndarray:
  """[...]: first step of each column of `x` [N, ...], 2 E|x| / sqrt(Q_P).

  Learned step size quantization (arXiv 1902.08153, section 2.1); Q_P is the
  highest code. At least 1e-8. Unsigned, negative numbers count as 0.

  Args:
    x: weights, or activations of the first batch.
    bits: 2 or more if signed, else 1 or more.
    signed: see `uniform.quantize`.

  Raises:
    ValueError: `x` is empty or not finite, or the highest code is not positive.
  """
  highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
  if highest < 1:
    raise ValueError(
      f"{bits} bits, expected {2 if signed else 1} or more: LSQ's first step "
      "is 2 E|x| / sqrt(highest code)"
    )
  x = np.sort(calibration.checked(x), axis=0)  # sums that no order changes
  magnitude = np.abs(x) if signed else np.maximum(x, 0.0)
  step = 2.0 * np.mean(magnitude, axis=0, dtype=np.float64) / np.sqrt(highest)
  return np.maximum(step, _LEAST).astype(np.float32)


@jax.custom_vjp
def scale_gradient(x: Array, scale: Array) -> Array:
  """`x`, whose gradient is multiplied by `scale`; `scale` gets none."""
  del scale
  return x


scale_gradient.defvjp(
  lambda x, scale: (x, scale),
  lambda scale, g: (g * scale, None),
)


def tqt_start(x: np.ndarray) -> np.ndarray:
  """[...]: log2 of the largest magnitude of each column of `x` [N, ...].

  At least log2(1e-8). The threshold's other starts are the `high` of
  `range_rules`, in log2.

  Raises:
    ValueError: `x` is empty or not finite.
  """
  largest = np.abs(calibration.checked(x)).max(axis=0)
  return np.log2(np.maximum(largest, _LEAST))


def tqt_normalized(
  decay: float = 0.9, clip: bool = True
) -> optax.GradientTransformation:
  """Gradients of `log_range` divided by a running deviation of their own.

  g / (sqrt(v) + 1e-5), v the moving average of g^2 without its bias to 0; then
  tanh (TQT, appendix B), so that one rate serves thresholds of all tensors,
  whose gradients' sizes differ by their numbers of elements. Before the
  optimizer, `optax.chain(tqt_normalized(), optax.sgd(rate))`. The state is that
  of Adam without its first moment, which this is.

  Args:
    decay: decay of the moving average.
    clip: whether tanh is taken of what comes out, as in quantlib's recipes.
  """
  normalize = optax.scale_by_adam(b1=0.0, b2=decay, eps=1e-5)
  if not clip:
    return normalize
  tanh = optax.stateless(lambda updates, _: jax.tree.map(jnp.tanh, updates))
  return optax.chain(normalize, tanh)


def keep_positive(
  inner: optax.GradientTransformation, least_share: float = 0.5
) -> optax.GradientTransformation:
  """`inner` whose updates leave at least `least_share` of each variable.

  For steps and ranges that are learned as they are (LSQ, PACT): a large
  gradient could turn them negative, where quantizers have no meaning. What is
  positive stays so, at least 1e-8. Put it around the whole optimizer.
  """
  if not 0 < least_share < 1:
    raise ValueError(f"least_share is {least_share}, expected 0 to 1, neither")

  def limit(update, value):
    least = jnp.maximum((least_share - 1.0) * value, _LEAST - value)
    return jnp.maximum(update, least)

  return optax.chain(
    inner, optax.stateless(functools.partial(jax.tree.map, limit))
  )


def in_log_space(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """`inner` applied to the logarithm of positive variables.

  They stay positive whatever the gradient, and a rate means the same for ranges
  of 0.01 and of 10.
  """

  def change(update, value):
    # exp(-20) - 1 is -1 in float32, which would leave nothing.
    relative = jnp.maximum(jnp.expm1(update), -0.999)
    return jnp.maximum(value * relative, _LEAST - value)

  def update(gradients, state, variables=None):
    gradients = jax.tree.map(jnp.multiply, gradients, variables)
    updates, state = inner.update(gradients, state, variables)
    return jax.tree.map(change, updates, variables), state

  # pyrefly: ignore[bad-argument-type]  # optax's own wrappers do so too
  return optax.GradientTransformation(inner.init, update)
