"""The search by a softmax mixture of precisions: EdMIPS, PLiNIO.

One logit for each precision of a group. A layer computes one convolution, of
the mixed tensors (docs/facts/quantization.md 7).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import Net
from fbq.quantizers import uniform
from fbq.quantizers.bayesian_bits import LADDER
from fbq.quantizers.mixtures import mixed_quantize
from fbq.schemes import ranges
from fbq.schemes.groups import GateGroups
from fbq.schemes.scheme import Call

Array = jax.Array
SAMPLING = ("none", "soft", "hard")


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Weighs the 2-, 4- and 8-bit tensors by softmax(logits / temperature).

  Data: float [], the temperature. A run has it as "temperature", float [2], at
  its first step and its last, "temperature_steps" apart, and falling
  geometrically between.

  Attributes:
    groups: which sites share logits.
    sampling: "none"; "soft", the softmax of logits with Gumbel noise; or
      "hard", the precision that the noise makes the largest, with the soft
      gradient. One draw per group and step.
  """

  groups: GateGroups
  sampling: str = "none"

  def __post_init__(self):
    if self.sampling not in SAMPLING:
      raise ValueError(
        f"sampling is {self.sampling!r}, expected one of {SAMPLING}"
      )

  def noise(self, key: Array, batch: int) -> Array | None:
    """Gumbel noise [G, 3]."""
    del batch
    if self.sampling == "none":
      return None
    return jax.random.gumbel(key, (self.groups.count, len(LADDER)))

  def data(self, run: Mapping[str, Array], step: Array) -> Array:
    first, last = run["temperature"]
    done = jnp.clip(step / run["temperature_steps"], 0.0, 1.0)
    return first * (last / first) ** done

  def start(self) -> dict[str, Array]:
    """Logits b / 8: PLiNIO's, shares of 0.23, 0.29 and 0.48 at 1."""
    logits = np.array(LADDER, np.float32) / LADDER[-1]
    return {"logits": jnp.tile(logits, (self.groups.count, 1))}

  def distribution(
    self, variables: Mapping[str, Any], data: Array | None = None
  ) -> Array:
    """Shares [G, 3] of the precisions, without noise; at 1 if no `data`."""
    logits = variables["gates"]["logits"]
    return jax.nn.softmax(logits if data is None else logits / data)

  def quantizer(self, call: Call) -> "_MixtureQuantizer":
    logits = call.variable("gates", "logits", lambda: self.start()["logits"])
    if call.noise is not None:
      logits = logits + call.noise
    shares = self.distribution({"gates": {"logits": logits}}, call.data)
    if self.sampling == "hard" and call.noise is not None:
      hard = jax.nn.one_hot(jnp.argmax(shares, -1), len(LADDER))
      # In this order so that the value is exactly `hard`.
      shares = hard + (shares - jax.lax.stop_gradient(shares))
    rows = self.groups.rows(call.net)
    return _MixtureQuantizer(call, rows, shares, ranges.activation_ranges(call))

  def assignment(
    self, net: Net, variables: Mapping[str, Any]
  ) -> dict[str, int]:
    """The precision of the largest logit."""
    largest = np.argmax(np.asarray(variables["gates"]["logits"]), axis=-1)
    return self.groups.assignment(net, np.array(LADDER)[largest])


class _MixtureQuantizer(NamedTuple):
  call: Call
  rows: Mapping[str, int]
  shares: Array  # [G, 3]
  ranges: Mapping[str, Array]

  def weight(self, kernel, node):
    range_ = ranges.learned_weight_range(self.call, kernel, node)
    _, p4, p8 = self.shares[self.rows[f"{node.name}.weight"]]
    return mixed_quantize(kernel, range_, (p4, p8), True)

  def activation(self, x, site):
    net, range_ = self.call.net, self.ranges[site]
    if site in net.fixed_bits:
      bits = jnp.int32(net.fixed_bits[site])
      return uniform.quantize(x, range_, bits, net.is_signed[site])
    _, p4, p8 = self.shares[self.rows[site]]
    return mixed_quantize(x, range_, (p4, p8), net.is_signed[site])

  def weight_unit(self, kernel, node):
    range_ = ranges.learned_weight_range(self.call, kernel, node)
    return uniform.step(range_, LADDER[-1], True)

  def activation_unit(self, site):
    return ranges.finest_step(self.call.net, self.ranges, site)
