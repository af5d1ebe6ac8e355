"""L3 -> L2 tiling: how DORY cuts a layer that does not fit L2.

Up to four attempts, each cutting more of the layer: weights over output
channels, output over rows, both (tiler_conv2d.py:57-215). What is cut lies in
L3 and is double buffered in L2; an output cut over rows is left in L3. Sizes
grow with what L2 holds, so the first attempt that has any solution is the first
whose smallest tile fits; its tiles are enumerated, with the solver's tie rule.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwsim.pulp.geometry import (
  ADD,
  DEPTHWISE,
  Bits,
  Geometry,
  Number,
  channel_step,
  rest,
)
from hwsim.pulp.kernels import CORES
from hwsim.pulp.l1_bytes import bias_bytes, constants_bytes
from hwsim.pulp.search import first_best
from hwsim.pulp.target import Constants

# What DORY tries in turn: input in L3, weights cut over output channels, output
# cut over rows. It starts with an input in L3 only where the layer before left
# its output there.
_PLANS = (
  (False, True, False),
  (False, False, True),
  (False, True, True),
  (True, False, False),
  (True, False, True),
  (True, True, False),
  (True, True, True),
)


class L2Tile(NamedTuple):
  """How much of a layer is in L2 at once.

  Attributes:
    out_channels: output channels whose weights are in L2.
    in_height, out_height: rows of the input and of the output in L2.
    input_in_l3: whether the input is fetched from L3.
  """

  out_channels: Number
  in_height: Number
  out_height: Number
  input_in_l3: Number

  def is_whole(self, layer: Geometry) -> Number:
    """Whether L3 is not touched while the layer runs."""
    return (
      ~self.input_in_l3
      & (self.out_channels == layer.out_channels)
      & (self.in_height == layer.in_height)
      & (self.out_height == layer.out_height)
    )


class _Sizes(NamedTuple):
  """Bytes of a row of input and of output, and of an output channel."""

  x: Number
  y: Number
  channel: Number  # weights and bias
  constants: Number  # k and lambda


def tile_l2(
  layer: Geometry, bits: Bits, target: Constants, input_in_l3: Number
) -> tuple[L2Tile, Number]:
  """The part of a layer that DORY holds in L2, and whether there is one.

  The input is in L2 if anything fits beside it, as where a layer is benchmarked
  alone; otherwise it comes from L3. After a layer whose output was left in L3
  (`input_in_l3`) it always does. DORY has no L3 tiling of additions.
  """
  sizes = _sizes(layer, bits, target)
  inputs = jnp.where(layer.op == ADD, 2, 1)  # DORY's check forgets the second
  whole_bytes = (
    inputs * layer.in_height * sizes.x
    + layer.out_height * sizes.y
    + layer.out_channels * sizes.constants
    + jnp.floor(
      layer.out_channels * layer.weights_per_channel * bits.weight / 8
    )
    + bias_bytes(layer, bits, target)
  )
  fits = (whole_bytes <= target.l2_budget_bytes) & ~input_in_l3

  plan, has_plan = _first_plan(layer, sizes, target, input_in_l3)
  part, found = _best(layer, bits, sizes, target, plan, ~fits & has_plan)
  whole = L2Tile(layer.out_channels, layer.in_height, layer.out_height, False)
  tile = jax.tree.map(lambda a, b: jnp.where(fits, a, b), whole, part)
  return tile, fits | found


def inner_slice(layer: Geometry, part: L2Tile) -> Geometry:
  """An inner slice of a layer, as DORY's L1 tiler sees it.

  DORY chooses one L1 tile for the whole layer and uses it in every slice
  (HW_node.py:71-100). It takes the rows of an inner slice with the padding of
  the whole layer, so that with padding no tile may hold all rows of a slice.
  """
  cuts_rows = part.out_height < layer.out_height
  span = layer.kernel_height - layer.stride
  rows = jnp.floor((part.in_height - span) / layer.stride)
  cuts_input = part.in_height < layer.in_height
  is_depthwise = layer.op == DEPTHWISE
  channels = jnp.where(is_depthwise, part.out_channels, layer.in_channels)
  return layer._replace(
    in_channels=channels,
    out_channels=part.out_channels,
    in_height=jnp.where(
      cuts_rows, part.out_height * layer.stride + span, part.in_height
    ),
    out_height=jnp.where(cuts_input, rows, part.out_height),
    l2_height=part.in_height,
  )


def _sizes(layer, bits, target) -> _Sizes:
  channel = jnp.floor(layer.weights_per_channel * bits.weight / 8)
  bias = jnp.floor(bias_bytes(layer, bits, target) / layer.out_channels)
  return _Sizes(
    layer.in_channels * layer.in_width * bits.input / 8,
    layer.out_channels * layer.out_width * bits.output / 8,
    channel + bias,
    constants_bytes(layer, bits, target),
  )


def _bytes(sizes, plan, n, h_in, h_out):
  """Bytes of a tile in L2; what is cut is double buffered."""
  input_in_l3, cut_n, cut_h = plan
  return (
    (1 + input_in_l3) * h_in * sizes.x
    + (1 + cut_h) * h_out * sizes.y
    + (1 + cut_n) * n * (sizes.channel + sizes.constants)
  )


def _first_plan(layer, sizes, target, input_in_l3):
  """The first of `_PLANS` whose smallest tile fits, and whether one does."""
  from_l3, cut_n, cut_h = plans = np.array(_PLANS).T
  n = jnp.where(cut_n, 1, layer.out_channels)
  h_in = jnp.where(from_l3, layer.kernel_height, layer.in_height)
  h_out = jnp.where(cut_h, 1, layer.out_height)
  possible = _bytes(sizes, plans, n, h_in, h_out) <= target.l2_budget_bytes
  possible &= jnp.where(
    from_l3, layer.kernel_height <= layer.in_height, ~input_in_l3
  )
  possible &= ~cut_n | layer.has_weights  # DORY cuts pools over rows only
  possible &= layer.op != ADD
  chosen = jnp.argmax(possible)
  return tuple(jnp.asarray(plans)[:, chosen]), jnp.any(possible)


def _best(layer, bits, sizes, target, plan, is_needed):
  """The tile of greatest objective among those of a plan."""
  # Rows of the input that are tried must divide those of the output, of which
  # they make exactly a tile if both are cut
  input_in_l3, cut_n, cut_h = plan
  strides = jnp.floor((layer.in_height - layer.kernel_height) / layer.stride)
  count_h = jnp.where(
    input_in_l3, strides + 1, jnp.where(cut_h, layer.out_height, 1)
  )
  least_h = jnp.where(cut_h, 1, layer.out_height)
  least_in = jnp.where(input_in_l3, layer.kernel_height, layer.in_height)
  least = _bytes(sizes, plan, 0, least_in, least_h)
  per_n = 2 * (sizes.channel + sizes.constants)
  most_n = jnp.floor((target.l2_budget_bytes - least) / per_n)
  most_n = jnp.where(per_n > 0, most_n, layer.out_channels)
  count_n = jnp.where(cut_n, jnp.minimum(most_n, layer.out_channels), 1)

  def decode(number):
    n_index = jnp.floor(number / count_h)
    h_index = number - n_index * count_h
    n = jnp.where(cut_n, n_index + 1, layer.out_channels)
    h_in = jnp.where(
      input_in_l3,
      layer.kernel_height + h_index * layer.stride,
      layer.in_height,
    )
    h_out = jnp.where(cut_h, h_index + 1, layer.out_height)
    return n, h_in, h_out, h_index + 1

  def score(number):
    n, h_in, h_out, rows = decode(number)
    size = _bytes(sizes, plan, n, h_in, h_out)
    value = size + _preference(layer, bits, sizes, target, n, h_in, h_out)
    fits = size <= target.l2_budget_bytes
    fits &= ~input_in_l3 | (rest(layer.out_height, rows) == 0)
    return jnp.where(fits, value, -1)

  count = jnp.where(is_needed, count_n * count_h, 0)
  best, found = first_best(count, score)
  n, h_in, h_out, _ = decode(best)
  return L2Tile(n, h_in, h_out, input_in_l3), found


def _preference(layer, bits, sizes, target, n, h_in, h_out):
  """Terms of DORY's objective besides the size of the tile."""
  height, channels = layer.out_height, layer.out_channels
  in_l1 = _l1_bytes(layer, bits, sizes, n, h_in, h_out) < target.l1_budget_bytes
  weighted = (
    100_000_000 * in_l1
    + 100_000 * rest(h_out - 1, 8)
    + 100_000 * (rest(n, 4) == 0)
    + 1_000_000 * (rest(channels, n) == 0)
    + 1_000_000 * (rest(height, h_out) == 0)
    + 100_000 * (h_out == height)
    + 10_000 * (n == channels)
  )
  pooled = 200_000 * rest(h_out - 1, 8) + 200_000 * rest(h_in - 1, 4)
  return jnp.where(layer.has_weights, weighted, pooled)


def _l1_bytes(layer, bits, sizes, n, h_in, h_out):
  """Bytes a tile would take in L1 without double buffering, as DORY counts."""
  narrowest = jnp.minimum(jnp.minimum(bits.input, bits.weight), bits.output)
  step = channel_step(narrowest)
  is_depthwise = layer.op == DEPTHWISE
  padded = layer.in_channels + layer.top + layer.bottom
  column = CORES * layer.kernel_height * (padded + 1) * step
  unpacked = jnp.where(bits.weight != 8, 32 * 8 * 8 * layer.area * step, 0)
  im2col = 2 * CORES * layer.area * layer.in_channels
  weights = layer.in_channels * layer.area * bits.weight / 8
  y = jnp.floor(n * h_out * layer.out_width * bits.output / 8)
  return (
    h_in * sizes.x
    + y
    + jnp.floor(jnp.where(is_depthwise, weights, weights * n))
    + n * sizes.constants
    + jnp.where(is_depthwise, column + unpacked, im2col)
    + 20
  )
