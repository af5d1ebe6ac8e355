"""Batch norm in quantization-aware training: two ways.

  absorb               plain batch norm after quantized weights. Deployment puts
                       it into the requantization of each channel (PULP), so
                       nothing needs to be folded.
  correct_then_freeze  the whitepaper's (arXiv 1806.08342, section 3.2.2), for
                       targets that fold: what is quantized are the weights
                       times gamma / sigma of the long term.

The whitepaper corrects the folded weights' outputs by sigma / sigma_batch and
takes the batch's statistics from a second convolution with weights in float.
Both are the same as to quantize folded, unfold, and normalize as ever, with the
statistics of the quantized convolution instead; which costs two products of
the kernel's size. With one symmetric range for each channel it quantizes
exactly as "absorb" does, but for the grid's lowest code where gamma < 0; what
remains is the freeze.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array
EPSILON = 1e-5
MOMENTUM = 0.9
ABSORB, CORRECT = "absorb", "correct_then_freeze"
MODES = (ABSORB, CORRECT)


class FreezableNorm(nn.Module):
  """Batch norm over the last axis, whose statistics can be frozen by data.

  Variables and arithmetic are those of `nn.BatchNorm`.

  Attributes:
    channels: size of the last axis.
  """

  channels: int

  def setup(self):
    shape = (self.channels,)
    self.scale = self.param("scale", nn.initializers.ones, shape)
    self.bias = self.param("bias", nn.initializers.zeros, shape)
    self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    self.var = self.variable("batch_stats", "var", jnp.ones, shape)

  def fold(self) -> Array:
    """[C]: gamma / sigma of the long term, a constant to gradients.

    At least 1e-6 in magnitude, so that a channel can be unfolded.
    """
    fold = self.scale * jax.lax.rsqrt(self.var.value + EPSILON)
    fold = jnp.where(jnp.abs(fold) < 1e-6, 1e-6, fold)
    return jax.lax.stop_gradient(fold)

  def __call__(self, x: Array, train: bool, frozen: Array | bool) -> Array:
    """`x` [.., C] normalized.

    Args:
      x: array of any shape whose last axis has `channels`.
      train: whether the batch's statistics are used, which then move the
        long-term ones.
      frozen: bool [], whether the long-term statistics are used all the same,
        and stay.
    """
    mean, var = self.mean.value, self.var.value
    if train:
      axes = tuple(range(x.ndim - 1))
      batch_mean = jnp.mean(x, axes)
      square = jnp.mean(jnp.square(x), axes)
      batch_var = jnp.maximum(0.0, square - jnp.square(batch_mean))
      if not self.is_initializing():
        for kept, seen in ((self.mean, batch_mean), (self.var, batch_var)):
          moved = MOMENTUM * kept.value + (1.0 - MOMENTUM) * seen
          kept.value = jnp.where(frozen, kept.value, moved)
      mean = jnp.where(frozen, mean, batch_mean)
      var = jnp.where(frozen, var, batch_var)
    slope = self.scale * jax.lax.rsqrt(var + EPSILON)
    return (x - mean) * slope + self.bias
