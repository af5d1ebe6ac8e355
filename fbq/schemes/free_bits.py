"""The search of the Free Bits authors: gates on a nested quantizer.

arXiv 2307.02894; docs/facts/quantization.md 3.2.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import Net
from fbq.quantizers import bayesian_bits, gates, uniform
from fbq.schemes import ranges
from fbq.schemes.groups import GateGroups
from fbq.schemes.scheme import Call

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class FreeBits:
  """Mixes the 2-, 4- and 8-bit tensors by gates that are drawn.

  Without noise gates are at their median. Ranges of weights are the largest
  magnitudes of the moment.

  Attributes:
    groups: which sites share gates.
    faithful: whether gradients are the authors', see `nested_quantize`.
  """

  groups: GateGroups
  faithful: bool = False

  def noise(self, key: Array, batch: int) -> dict[str, Array]:
    """Uniform in (0, 1): a draw per group, and per sample and group."""
    weights, activations = jax.random.split(key)
    tiny = float(np.finfo(np.float32).tiny)
    draw = lambda k, shape: jax.random.uniform(k, shape, minval=tiny)
    return {
      "weights": draw(weights, (self.groups.count, 2)),
      "activations": draw(activations, (batch, self.groups.count, 2)),
    }

  def data(self, run: Mapping[str, Array], step: Array) -> None:
    del run, step

  def start(self) -> dict[str, Array]:
    return {"logits": jnp.full((self.groups.count, 2), 2.0)}

  def distribution(
    self, variables: Mapping[str, Any], data: None = None
  ) -> Array:
    """Probability [G, 3] of 2, 4 and 8 bits in every group."""
    del data
    logits = variables["gates"]["logits"]
    return gates.level_probabilities(logits, gates.FREE_BITS)

  def quantizer(self, call: Call) -> "_FreeBitsQuantizer":
    logits = call.variable("gates", "logits", lambda: self.start()["logits"])
    if call.noise is None:
      weights = gates.FREE_BITS.mean(logits)
      activations = jnp.broadcast_to(weights, (call.batch, *weights.shape))
    else:
      weights = gates.FREE_BITS.sample(logits, call.noise["weights"])
      activations = gates.FREE_BITS.sample(logits, call.noise["activations"])
    return _FreeBitsQuantizer(
      call.net,
      self.groups.rows(call.net),
      weights,
      activations,
      ranges.activation_ranges(call),
      self.faithful,
    )

  def assignment(
    self, net: Net, variables: Mapping[str, Any]
  ) -> dict[str, int]:
    """The assignment that thresholded gates stand for."""
    logits = jnp.asarray(variables["gates"]["logits"])
    bits = np.asarray(gates.chosen_bits(logits, gates.FREE_BITS))
    return self.groups.assignment(net, bits)


class _FreeBitsQuantizer(NamedTuple):
  """Gates [G, 2] of weights, [B, G, 2] of activations."""

  net: Net
  rows: Mapping[str, int]
  weights: Array
  activations: Array
  ranges: Mapping[str, Array]
  faithful: bool

  def weight(self, kernel, node):
    range_ = ranges.current_weight_range(kernel, node)
    z4, z8 = self.weights[self.rows[f"{node.name}.weight"]]
    return bayesian_bits.nested_quantize(
      kernel, range_, (z4, z8), True, self.faithful
    )

  def activation(self, x, site):
    signed, range_ = self.net.is_signed[site], self.ranges[site]
    if site in self.net.fixed_bits:
      bits = jnp.int32(self.net.fixed_bits[site])
      return uniform.quantize(x, range_, bits, signed)
    z = self.activations[:, self.rows[site]].T
    z4, z8 = z.reshape(2, len(x), *(1,) * (x.ndim - 1))
    return bayesian_bits.nested_quantize(
      x, range_, (z4, z8), signed, self.faithful
    )

  def weight_unit(self, kernel, node):
    range_ = ranges.current_weight_range(kernel, node)
    return uniform.step(range_, bayesian_bits.LADDER[-1], True)

  def activation_unit(self, site):
    return ranges.finest_step(self.net, self.ranges, site)
