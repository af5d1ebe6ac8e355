"""LSQ and TQT of what their papers learn: a step, and log2 of the range.

The rules of `qat_rules` learn ranges; they are compared with these.
"""

import jax
import jax.numpy as jnp

from fbq.quantizers import learned_ranges, uniform

Array = jax.Array


def lsq_quantize(
  x: Array, step: Array, bits: Array, signed: bool, count: int
) -> Array:
  """`x` rounded to codes times `step`, with LSQ's scaled gradient of the step.

  d y / d step = code - x / step inside, the end's code where clipped (eq. 3),
  times 1 / sqrt(count Q_P) (section 2.2).

  Args:
    x: of any shape.
    step: positive; broadcasts against `x`.
    bits: integer array, broadcasts against `step`; 2 or more if signed.
    signed: see `uniform.quantize`.
    count: N, numbers that share a step: weights, or an image's activations.
  """
  _, highest, steps = uniform.grid(bits, signed)
  step = learned_ranges.scale_gradient(step, 1.0 / jnp.sqrt(count * highest))
  return uniform.quantize(x, step * steps, bits, signed, "lsq")


def tqt_quantize(x: Array, log_range: Array, bits: Array, signed: bool):
  """`x` quantized to a range of 2^log_range, which is positive whatever it is.

  Trained quantization thresholds (arXiv 1903.08066). The gradient of
  `log_range` is ln 2 (sum of g y where clipped, of g (y - x) elsewhere), eq. 8,
  not yet normalized: see `tqt_normalized`. As in quantlib, and not in the
  paper, the range need not be a power of two.

  Args: those of `uniform.quantize`, with log2 of the range.
  """
  return uniform.quantize(x, jnp.exp2(log_range), bits, signed, "lsq")
