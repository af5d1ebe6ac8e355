"""The search by fractional bits: one real index on the ladder 2, 4, 8.

FracBits' idea (arXiv 2007.02017) on a ladder of precisions that hardware has: a
tensor is the mix of the two precisions around its index.
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
from fbq.quantizers.mixtures import fractional_quantize
from fbq.schemes import ranges
from fbq.schemes.groups import GateGroups
from fbq.schemes.scheme import Call

Array = jax.Array
_LAST = len(LADDER) - 1.0


@dataclasses.dataclass(frozen=True)
class Fractional:
  """Mixes the precisions below and above an index in [0, 2] of each group.

  Attributes:
    groups: which sites share an index.
  """

  groups: GateGroups

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping[str, Array], step: Array) -> None:
    del run, step

  def start(self) -> dict[str, Array]:
    """All at 8 bits."""
    return {"index": jnp.full((self.groups.count,), _LAST)}

  def distribution(
    self, variables: Mapping[str, Any], data: None = None
  ) -> Array:
    """Shares [G, 3] of the precisions, 1 - t and t of the two neighbours."""
    del data
    index = bounded(variables["gates"]["index"])
    k = jnp.clip(jnp.floor(index), 0.0, _LAST - 1.0)
    t = (index - k)[:, None]
    place = jnp.arange(len(LADDER)) - k[:, None]
    return jnp.where(place == 0, 1.0 - t, jnp.where(place == 1, t, 0.0))

  def quantizer(self, call: Call) -> "_FractionalQuantizer":
    index = call.variable("gates", "index", lambda: self.start()["index"])
    return _FractionalQuantizer(
      call,
      self.groups.rows(call.net),
      bounded(index),
      ranges.activation_ranges(call),
    )

  def assignment(
    self, net: Net, variables: Mapping[str, Any]
  ) -> dict[str, int]:
    """The nearest precision; of two as near the higher."""
    index = np.asarray(variables["gates"]["index"])
    nearest = np.clip(np.floor(index + 0.5), 0, _LAST).astype(int)
    return self.groups.assignment(net, np.array(LADDER)[nearest])


class _FractionalQuantizer(NamedTuple):
  call: Call
  rows: Mapping[str, int]
  index: Array  # [G]
  ranges: Mapping[str, Array]

  def weight(self, kernel, node):
    range_ = ranges.learned_weight_range(self.call, kernel, node)
    index = self.index[self.rows[f"{node.name}.weight"]]
    return fractional_quantize(kernel, range_, index, True)

  def activation(self, x, site):
    net, range_ = self.call.net, self.ranges[site]
    if site in net.fixed_bits:
      bits = jnp.int32(net.fixed_bits[site])
      return uniform.quantize(x, range_, bits, net.is_signed[site])
    index = self.index[self.rows[site]]
    return fractional_quantize(x, range_, index, net.is_signed[site])

  def weight_unit(self, kernel, node):
    range_ = ranges.learned_weight_range(self.call, kernel, node)
    return uniform.step(range_, LADDER[-1], True)

  def activation_unit(self, site):
    return ranges.finest_step(self.call.net, self.ranges, site)


@jax.custom_vjp
def bounded(index: Array) -> Array:
  """`index` clipped to the ladder.

  Its gradient passes inside and, outside, where a step against it leads back:
  a plain clip would hold an index that left the ladder for good.
  """
  return jnp.clip(index, 0.0, _LAST)


def _bounded_forward(index):
  return bounded(index), index


def _bounded_backward(index, g):
  leaves = ((index <= 0.0) & (g > 0.0)) | ((index >= _LAST) & (g < 0.0))
  return (jnp.where(leaves, 0.0, g),)


bounded.defvjp(_bounded_forward, _bounded_backward)
