"""The original Bayesian Bits: gates on residuals, learned ranges, pruning.

arXiv 2005.07093 and its code; docs/facts/quantization.md 1.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import Net, Node
from fbq.quantizers import extremes, gates, uniform
from fbq.quantizers.bayesian_bits import LADDER, residual_quantize
from fbq.schemes import ranges
from fbq.schemes.groups import GateGroups
from fbq.schemes.scheme import Call

Array = jax.Array
LEVELS = (2, 4, 8, 16, 32)
START = 6.0  # of every logit: P(gate > 0) = 0.9995
DEAD = -2.0  # logits at or below it are dead in the authors' code


@dataclasses.dataclass(frozen=True)
class BayesianBits:
  """Adds residuals of 4, 8, ... bits to 2-bit tensors as gates allow.

  In training gates are drawn once per tensor and step, or are a hard sigmoid of
  their logits if the scheme is `deterministic` or no noise is given; out of it
  they are open or closed, as `assignment` reads them. Which of weights, gates
  and ranges learn is up to `train_step`: the published post-training variants
  train ("gates",) and ("gates", "ranges").

  Attributes:
    groups: which sites share gates.
    ladder: the precisions, 2, 4, 8 and at most up to 16 or 32. Assignments of
      more than 8 bits run nowhere here: `fbq.precision` refuses them.
    prunes: give every output channel of the weights, the classifier's excepted,
      a gate that can close for good; see `fbq.schemes.pruning`.
    deterministic: the authors' `--gating-method fixed`.
    faithful: as the authors' code where it does otherwise: gates at or below
      -2 are closed, with all above, and see no gradient but the regularizer's;
      weights have one range per tensor rather than per output channel, which
      starts at their maximum rather than their largest magnitude.
  """

  groups: GateGroups
  ladder: tuple[int, ...] = LADDER
  prunes: bool = False
  deterministic: bool = False
  faithful: bool = False

  def __post_init__(self):
    if len(self.ladder) < 2 or self.ladder != LEVELS[: len(self.ladder)]:
      raise ValueError(
        f"ladder is {self.ladder}, expected the first two or more of {LEVELS}"
      )

  @property
  def _shape(self) -> tuple[int, int]:
    return self.groups.count, len(self.ladder) - 1

  def noise(self, key: Array, batch: int) -> dict[str, Array] | None:
    """Uniform in (0, 1) for weights and for activations [G, K - 1], and a key
    for the channels."""
    del batch
    if self.deterministic:
      return None
    weights, activations, channels = jax.random.split(key, 3)
    return {
      "weights": _uniform(weights, self._shape),
      "activations": _uniform(activations, self._shape),
      "channels": channels,
    }

  def data(self, run: Mapping[str, Array], step: Array) -> None:
    del run, step

  def start(self) -> dict[str, Array]:
    """Logits of the precisions; those of channels start by themselves."""
    return {"logits": jnp.full(self._shape, START)}

  def distribution(
    self, variables: Mapping[str, Any], data: None = None
  ) -> Array:
    """Probability [G, K] of every precision of the ladder."""
    del data
    logits = variables["gates"]["logits"]
    return gates.level_probabilities(logits, gates.BAYESIAN_BITS)

  def quantizer(self, call: Call) -> "_BayesianBitsQuantizer":
    logits = call.variable("gates", "logits", lambda: self.start()["logits"])
    noise = call.noise or {}
    return _BayesianBitsQuantizer(
      self,
      call,
      self.groups.rows(call.net),
      self.gate(logits, noise.get("weights"), call.train),
      self.gate(logits, noise.get("activations"), call.train),
      ranges.activation_ranges(call),
    )

  def gate(self, logits: Array, noise: Array | None, train: bool) -> Array:
    """Gates in [0, 1] of the shape of `logits`."""
    distribution = gates.BAYESIAN_BITS
    if not train:
      return distribution.is_open(logits).astype(logits.dtype)
    if noise is None:
      return distribution.mean(logits)
    z = distribution.sample(logits, noise)
    return jnp.where(logits <= DEAD, 0.0, z) if self.faithful else z

  def can_prune(self, node: Node) -> bool:
    """Whether the output channels of a weighted node have gates."""
    return self.prunes and not node.is_output

  def assignment(
    self, net: Net, variables: Mapping[str, Any]
  ) -> dict[str, int]:
    """The assignment that thresholded gates stand for."""
    logits = jnp.asarray(variables["gates"]["logits"])
    bits = gates.chosen_bits(logits, gates.BAYESIAN_BITS, self.ladder)
    return self.groups.assignment(net, np.asarray(bits))


class _BayesianBitsQuantizer(NamedTuple):
  """Gates [G, K - 1] of weights and of activations."""

  scheme: BayesianBits
  call: Call
  rows: Mapping[str, int]
  weights: Array
  activations: Array
  ranges: Mapping[str, Array]

  def weight(self, kernel, node):
    site, max_ = f"{node.name}.weight", self._largest(kernel, node)
    z2 = jnp.ones((), kernel.dtype)
    if self.scheme.can_prune(node):
      z2 = self._channels(kernel, site)
    higher = self.weights[self.rows[site]]
    return residual_quantize(kernel, max_, [z2, *higher], True)

  def _largest(self, kernel, node):
    if not self.scheme.faithful:
      return ranges.learned_weight_range(self.call, kernel, node)
    start = lambda: jnp.maximum(extremes.ends(kernel)[1], 1e-8)
    return self.call.variable("ranges", f"{node.name}.weight", start)

  def _channels(self, kernel, site):
    """Gates [O] of the output channels."""
    shape = kernel.shape[-1:]
    start = lambda: jnp.full(shape, START)
    logits = self.call.variable("gates", f"{site}.channels", start)
    noise = None
    if self.call.noise is not None:
      position = self.call.net.workload.sites.index(site)
      key = jax.random.fold_in(self.call.noise["channels"], position)
      noise = _uniform(key, shape)
    # Dead gates are those of the precisions alone.
    if noise is not None and self.call.train:
      return gates.BAYESIAN_BITS.sample(logits, noise)
    return self.scheme.gate(logits, None, self.call.train)

  def activation(self, x, site):
    net, range_ = self.call.net, self.ranges[site]
    signed = net.is_signed[site]
    if site in net.fixed_bits:
      bits = jnp.int32(net.fixed_bits[site])
      return uniform.quantize(x, range_, bits, signed)
    z = self.activations[self.rows[site]]
    one = jnp.ones((), x.dtype)
    return residual_quantize(x, range_, [one, *z], signed)

  # Of 8 bits; those of 2 and 4 are multiples of it.
  def weight_unit(self, kernel, node):
    return self._largest(kernel, node) * (2.0 / 255.0)

  def activation_unit(self, site):
    net, range_ = self.call.net, self.ranges[site]
    if site in net.fixed_bits:
      bits, signed = net.fixed_bits[site], net.is_signed[site]
      return uniform.step(range_, bits, signed)
    return range_ * ((2.0 if net.is_signed[site] else 1.0) / 255.0)


def _uniform(key, shape):
  tiny = float(np.finfo(np.float32).tiny)
  return jax.random.uniform(key, shape, minval=tiny)
