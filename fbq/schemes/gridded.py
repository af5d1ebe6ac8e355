"""Every tensor on a grid that is data: post-training quantization."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.nets.graph import INPUT_SITE, Net
from fbq.quantizers import affine
from fbq.schemes.scheme import Call

Array = jax.Array


class SiteGrid(NamedTuple):
  """How one tensor is quantized.

  Attributes:
    grid: grid of the tensor, its fields arrays [O] for weights, with O the
      channels of the kernel's last axis, or [] for activations.
    on: bool [], whether the tensor is quantized at all.
  """

  grid: affine.Grid
  on: Array


@dataclasses.dataclass(frozen=True)
class Gridded:
  """Quantizes every tensor to a grid that is data, nothing is learned.

  Data: {site: SiteGrid} of all sites of the net, see `data`; a run has it as
  "grids". Form, granularity, range and bit-width are all in the numbers, so one
  compiled function serves every recipe, weights or activations alone included.
  """

  def noise(self, key: Array, batch: int) -> None:
    del key, batch

  def data(self, run: Mapping, step: Array) -> dict[str, SiteGrid]:
    del step
    return run["grids"]

  def quantizer(self, call: Call) -> "_GriddedQuantizer":
    given = call.data or {}
    missing = [site for site in call.net.workload.sites if site not in given]
    if missing:
      raise ValueError(
        f"{call.net.name}: no grids for {missing[:5]}, expected a SiteGrid for "
        "every site; leave tensors in float by on=False (fbq.schemes.gridded)"
      )
    return _GriddedQuantizer(call, given)


class _GriddedQuantizer(NamedTuple):
  call: Call
  grids: Mapping[str, SiteGrid]

  def weight(self, kernel, node):
    return self._quantize(kernel, f"{node.name}.weight")

  def activation(self, x, site):
    # The ReLU is ours to do, also where the tensor stays in float. Images are
    # no ReLU's.
    if not self.call.net.is_signed[site] and site != INPUT_SITE:
      x = jax.nn.relu(x)
    return self._quantize(x, site)

  def weight_unit(self, kernel, node):
    return self._unit(f"{node.name}.weight")

  def activation_unit(self, site):
    return self._unit(site)

  def _unit(self, site):
    grid, on = self.grids[site]
    return jnp.where(on, grid.step, 1.0)

  def _quantize(self, x, site):
    grid, on = self.grids[site]
    return jnp.where(on, affine.quantize(x, grid), x)


def data(
  net: Net, grids: Mapping[str, affine.Grid | None]
) -> dict[str, SiteGrid]:
  """{site: SiteGrid} of every site, of shapes that depend on the net alone.

  Args:
    net: the network.
    grids: {site: grid}, with fields [O] or [] (for all channels) for weights,
      [] for activations; None, or no entry, leaves a tensor in float.

  Raises:
    ValueError: a site that the net does not have, or a shape that does not fit.
  """
  channels = {
    f"{node.name}.weight": (_out_channels(net, node),)
    for node in net.nodes
    if node.has_weights
  }

  # A misspelt site would stay in float without a word.
  unknown = sorted(set(grids) - set(net.workload.sites))
  if unknown:
    raise ValueError(f"{net.name}: grids for {unknown[:5]}, which are no sites")

  # Every site gets arrays of the same shapes and types, quantized or not: then
  # all recipes run in one compiled function.
  result = {}
  for site in net.workload.sites:
    grid = grids.get(site)
    shape = channels.get(site, ())
    given = _IDLE if grid is None else grid
    spread = lambda x, shape=shape: np.array(
      np.broadcast_to(np.asarray(x, np.float32), shape)
    )
    try:
      fields = jax.tree.map(spread, given)
    except ValueError as error:
      raise ValueError(f"grid of {site!r}: {error}") from error
    on: Any = np.bool_(grid is not None)
    result[site] = SiteGrid(fields, on)
  return result


def _out_channels(net: Net, node) -> int:
  """Size of a kernel's last axis: 1 for a channel_conv, one kernel for all."""
  return net.workload.layers[net.workload.index[node.name]].out_channels


# Of a tensor that stays in float: any numbers will do.
_IDLE: Any = affine.Grid(*np.array([1, 0, 0, 1, 0, 1], np.float32))
