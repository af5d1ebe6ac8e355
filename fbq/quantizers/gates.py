"""Hard-concrete gates: which of the nested precisions a tensor uses.

A gate is a random number in [0, 1] with mass on both ends (arXiv 1712.01312).
Gate `k` of a tensor lets the (k+1)-th precision add to the k-th, so the chain 2
-> 4 -> 8 bits has two gates, and a closed gate closes those above it.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class HardConcrete:
  """Distribution of a gate given its logit.

  Attributes:
    temperature: temperature of the binary concrete variable.
    low: lower end of the stretched interval, below 0.
    high: upper end of the stretched interval, above 1.
    closed_below: probability of 0 from which on a gate is closed for good.
  """

  temperature: float
  low: float = -0.1
  high: float = 1.1
  closed_below: float = 0.34

  @property
  def _shift(self) -> float:
    return self.temperature * float(np.log(-self.low / self.high))

  @property
  def threshold(self) -> float:
    """Logit above which `is_open` holds."""
    p = self.closed_below
    return self._shift - float(np.log(p / (1 - p)))

  def sample(self, logits: Array, uniform: Array) -> Array:
    """Gates drawn with noise `uniform` in (0, 1), of the broadcast shape."""
    noise = jnp.log(uniform) - jnp.log1p(-uniform)
    s = jax.nn.sigmoid((noise + logits) / self.temperature)
    return jnp.clip(s * (self.high - self.low) + self.low, 0.0, 1.0)

  def mean(self, logits: Array) -> Array:
    """The gate at the median of its noise: the deterministic mode."""
    return self.sample(logits, jnp.float32(0.5))

  def probability_open(self, logits: Array) -> Array:
    """P(gate > 0), of the shape of `logits`."""
    return jax.nn.sigmoid(logits - self._shift)

  def is_open(self, logits: Array) -> Array:
    """Whether each gate stays open after the search, as bool."""
    return jax.nn.sigmoid(self._shift - logits) < self.closed_below


# docs/facts/quantization.md 1.3: thresholds at -0.9353 and, 3.2, -0.5356.
BAYESIAN_BITS = HardConcrete(temperature=2.0 / 3.0)
FREE_BITS = HardConcrete(temperature=0.5)


def chain(gates: Array) -> Array:
  """Products z_1, z_1 z_2, ... along the last axis; same shape."""
  return jnp.cumprod(gates, axis=-1)


def level_probabilities(logits: Array, distribution: HardConcrete) -> Array:
  """Probability of each nested precision, [..., G + 1] from logits [..., G]."""
  at_least = chain(distribution.probability_open(logits))
  one = jnp.ones_like(at_least[..., :1])
  more = jnp.concatenate([at_least, jnp.zeros_like(one)], axis=-1)
  return jnp.concatenate([one, at_least], axis=-1) - more


def chosen_bits(
  logits: Array, distribution: HardConcrete, bits: Sequence[int] = (2, 4, 8)
) -> Array:
  """Bit-width of each tensor once its gates are thresholded.

  Args:
    logits: [..., G] for G = len(bits) - 1 gates.
    distribution: distribution that the gates are drawn from.
    bits: the nested precisions, rising.

  Returns:
    int32 [...]; a closed gate closes those above it.
  """
  is_open = distribution.is_open(logits).astype(jnp.int32)
  return jnp.asarray(bits)[jnp.sum(jnp.cumprod(is_open, axis=-1), axis=-1)]


def expected_bops(
  weight_logits: Array,
  activation_logits: Array,
  scale: Array,
  distribution: HardConcrete = FREE_BITS,
  bits: Sequence[int] = (2, 4, 8),
) -> Array:
  """Bit-operations regularizer of Free Bits: docs/facts/quantization.md 3.2.

  sum_l scale_l [sum_b b P(w_l has b bits or more) + the same for a_l], over the
  bits that gates guard. A tensor that several layers read counts for each.

  Args:
    weight_logits: [L, G] gates of the weights of each layer.
    activation_logits: [L, G] gates of the tensor each layer reads. For an
      operand of fixed precision pass logits of -inf or +inf.
    scale: [L] multiply-accumulates over those of the largest layer.
  """
  at_least_w = chain(distribution.probability_open(weight_logits))
  at_least_a = chain(distribution.probability_open(activation_logits))
  guarded = jnp.asarray(bits[1:], jnp.float32)
  # No matrix product: `chain` ends in strided slices on a GPU, see `fbq.ops`.
  levels = jnp.sum((at_least_w + at_least_a) * guarded, axis=-1)
  return jnp.sum(scale * levels)


def bayesian_bits_prior(
  logits: Array, level_weights: Array, pruning_logits: Array | None = None
) -> Array:
  """The regularizer of the original Bayesian Bits for one tensor.

  q_2 w_2 + q_2 q_4 w_4 + ... with q_b = P(gate b > 0), the mean over channels
  where output channels can be pruned, and 1 for the first term where they can
  not (docs/facts/quantization.md 1.4).

  Args:
    logits: [G], logits of the gates for 4, 8, ... bits.
    level_weights: [G + 1], b MACs / max MACs for b = 2, 4, 8, ..., or ones.
    pruning_logits: [C], logits of the gates of the output channels, or None.
  """
  at_least = chain(BAYESIAN_BITS.probability_open(logits))
  higher = jnp.sum(level_weights[1:] * at_least)
  if pruning_logits is None:
    return 1.0 + higher
  keep = BAYESIAN_BITS.probability_open(pruning_logits)
  return jnp.mean(keep * (level_weights[0] + higher))
