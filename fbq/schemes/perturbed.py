"""A floating-point network with something added to its tensors."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax

from fbq.schemes.scheme import Call

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Perturbed:
  """Adds to tensors what is given: for derivatives by tensors that no variable.

  Data: {site: array of the tensor's shape}; other tensors stay as they are. An
  activation is changed behind its ReLU, where it would be quantized, and before
  pools that share its site.
  """

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping[str, Array], step: Array) -> None:
    del run, step

  def quantizer(self, call: Call) -> "_PerturbedQuantizer":
    return _PerturbedQuantizer(call, dict(call.data or {}), set())


class _PerturbedQuantizer(NamedTuple):
  call: Call
  added: Mapping[str, Array]
  seen: set[str]

  def weight(self, kernel, node):
    return self._add(kernel, f"{node.name}.weight")

  def activation(self, x, site):
    if site in self.seen:  # a pool of the tensor with that site
      return x
    self.seen.add(site)
    return self._add(
      x if self.call.net.is_signed[site] else jax.nn.relu(x), site
    )

  def weight_unit(self, kernel, node):
    del kernel, node
    return 1.0

  def activation_unit(self, site):
    del site
    return 1.0

  def _add(self, x, site):
    if site not in self.added:
      return x
    added = self.added[site]
    if added.shape != x.shape:
      raise ValueError(
        f"{site!r} has shape {x.shape}, what is added to it {added.shape}"
      )
    return x + added
