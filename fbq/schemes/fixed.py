"""Every tensor at given bits: what is fine-tuned and deployed."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax

from fbq.quantizers import uniform
from fbq.schemes import ranges
from fbq.schemes.scheme import Call

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Fixed:
  """Quantizes every tensor to bits that are data, with learned ranges.

  Data: int [S], bits of every site in the order of the workload; a run has them
  as "bits".
  """

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping[str, Array], step: Array) -> Array:
    del step
    return run["bits"]

  def quantizer(self, call: Call) -> "_Quantizer":
    if call.data is None:
      raise ValueError(
        "a model of fixed precision was given no bits: pass int [S], the "
        "precision of every site of the workload"
      )
    # Not zip: iterating over more than a hundred fails while tracing.
    bits = {
      site: call.data[i] for i, site in enumerate(call.net.workload.sites)
    }
    return _Quantizer(call, bits, ranges.activation_ranges(call))


class _Quantizer(NamedTuple):
  call: Call
  bits: Mapping[str, Array]
  ranges: Mapping[str, Array]

  def weight(self, kernel, node):
    range_ = ranges.learned_weight_range(self.call, kernel, node)
    bits = self.bits[f"{node.name}.weight"]
    return uniform.quantize(kernel, range_, bits, True)

  def activation(self, x, site):
    signed = self.call.net.is_signed[site]
    return uniform.quantize(x, self.ranges[site], self.bits[site], signed)
