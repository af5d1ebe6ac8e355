"""Ranges of tensors of which some share a quantization step.

A step belongs to a tensor, and the operands of an adder share one, see
`Net.step_site`: so a kernel adds their codes as they are. A range is a step
times a number of steps, which depends on bits and on signs.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from fbq.nets.graph import INPUT_SITE, Net
from fbq.quantizers import uniform

Array = jax.Array


def of_all_sites(
  net: Net, ranges: Mapping[str, Array], bits: Mapping[str, Array | int]
) -> dict[str, Array]:
  """[] of the activation sites of given step sites; 1 of the image.

  What shares a step has it to the last bit, if its quantizers divide as this
  function does: an unsigned tensor's times a power of two is the range of a
  signed one, exactly.

  Args:
    net: the network.
    ranges: ranges of step sites, all or some, without the image's.
    bits: bits of the operands of adders at least; those of one adder are equal.
  """
  known = {INPUT_SITE: jnp.float32(1.0), **ranges}
  return {
    site: known[owner]
    if _same_grid(net, site)
    else known[owner] / _steps(net, owner, bits) * _steps(net, site, bits)
    for site, owner in net.step_site.items()
    if owner in known
  }


def of_step_sites(
  net: Net, ranges: Mapping[str, Array], bits: Mapping[str, Array | int]
) -> dict[str, Array]:
  """[] of every step site but the image's: the largest step that one needs.

  Args:
    net: the network.
    ranges: range that each activation site but the image's would have alone.
    bits: see `of_all_sites`.
  """
  found: dict[str, Array] = {}
  for site, range_ in ranges.items():
    owner = net.step_site[site]
    if owner == INPUT_SITE:
      continue
    if not _same_grid(net, site):
      range_ = range_ / _steps(net, site, bits) * _steps(net, owner, bits)
    found[owner] = jnp.maximum(found.get(owner, range_), range_)
  return found


def _same_grid(net, site):
  """Whether a site has the range of its step site, too."""
  return net.is_signed[site] == net.is_signed[net.step_site[site]]


def _steps(net, site, bits):
  return uniform.grid(jnp.asarray(bits[site]), net.is_signed[site])[2]
