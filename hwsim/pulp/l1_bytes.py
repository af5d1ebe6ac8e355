"""Bytes of L1 that a tile takes, as DORY counts them.

Channels are padded to bytes before, so sizes are whole.
"""

from typing import NamedTuple

import jax.numpy as jnp

from hwsim.pulp.geometry import (
  ADD,
  CONV,
  DEPTHWISE,
  LINEAR,
  Bits,
  Geometry,
  Number,
  channel_step,
)
from hwsim.pulp.kernels import CORES
from hwsim.pulp.target import Constants


class TileBytes(NamedTuple):
  """Bytes of a tile are a sum of products of its sizes:

  (x + x_n n) h_in w_in + (y h_out w_out + channel) n + fixed
  """

  x: Number
  x_n: Number
  y: Number
  channel: Number
  fixed: Number

  def of(self, n, h_in, h_out, w_in, w_out):
    x = (self.x + self.x_n * n) * h_in * w_in
    return x + (self.y * h_out * w_out + self.channel) * n + self.fixed


def tile_bytes(layer: Geometry, bits: Bits, target: Constants) -> TileBytes:
  """How DORY counts the bytes of a tile of a layer."""
  buffers = target.double_buffering
  all_inputs, is_depthwise = is_matrix(layer), layer.op == DEPTHWISE
  is_add = layer.op == ADD

  # Inputs: all channels, or as many as there are outputs; two of an addition.
  x = buffers * bits.input / 8
  all_channels = all_inputs | is_add
  x_all = jnp.where(all_channels, x * layer.in_channels, 0)
  x_all = jnp.where(is_add, 2 * x_all, x_all)

  # Weights, k and lambda, patch buffers. DORY writes the tile's channels where
  # the rows of a depthwise column buffer belong; so do we. im2col is reserved
  # for 1x1 kernels and for sub-byte inputs as well.
  step = byte_channels(layer, bits)
  column = CORES * layer.kernel_height * step
  channel = buffers * layer.weights_per_channel * bits.weight / 8
  channel += buffers * constants_bytes(layer, bits, target)
  channel += jnp.where(is_depthwise, column, 0)
  unpacked = jnp.where(bits.weight < 8, buffers * 8 * 8 * layer.area * step, 0)
  fixed = jnp.select(
    [all_inputs, is_depthwise, is_add],
    [
      im2col_bytes(layer) + bias_bytes(layer, bits, target) + 40,
      column * (layer.top + layer.bottom + 1) + 40 + unpacked,
      0,
    ],
    20,
  )
  y = buffers * bits.output / 8
  return TileBytes(x_all, jnp.where(all_channels, 0, x), y, channel, fixed)


def is_matrix(layer: Geometry) -> Number:
  """Whether every output channel reads all input channels."""
  return (layer.op == CONV) | (layer.op == LINEAR)


def byte_channels(layer: Geometry, bits: Bits) -> Number:
  """Channels that fill one byte at the narrowest precision there is."""
  narrowest = jnp.minimum(bits.input, bits.output)
  with_weights = jnp.minimum(narrowest, bits.weight)
  return channel_step(jnp.where(layer.has_weights, with_weights, narrowest))


def fits_whole(layer: Geometry, bits: Bits, target: Constants) -> Number:
  """Whether the layer fits L1 without any double buffering."""
  step = byte_channels(layer, bits)
  column = CORES * layer.kernel_height * step
  column *= layer.l2_height + layer.top + layer.bottom + 1
  unpacked = jnp.where(bits.weight < 8, 8 * layer.area * step, 0)
  extra = jnp.select(
    [layer.op == CONV, layer.op == DEPTHWISE],
    [im2col_bytes(layer) * bits.input / 8, column + unpacked],
    0,
  )
  inputs = jnp.where(layer.op == ADD, 2, 1) * layer.in_channels
  packed = (
    inputs * layer.in_height * layer.in_width * bits.input
    + layer.out_channels * layer.weights_per_channel * bits.weight
    + layer.out_channels * layer.out_height * layer.out_width * bits.output
  )
  constants = layer.out_channels * constants_bytes(layer, bits, target)
  size = jnp.ceil(packed / 8) + bias_bytes(layer, bits, target)
  return size + constants + jnp.floor(extra) <= target.l1_budget_bytes


def im2col_bytes(layer: Geometry):
  """Bytes of a convolution's patch buffers: two 8-bit patches per core."""
  patch = layer.area * layer.in_channels
  return jnp.where(layer.op == CONV, 2 * CORES * patch, 0)


def constants_bytes(layer: Geometry, bits: Bits, target: Constants):
  """k and lambda of one output channel, where outputs are requantized."""
  has_constants = layer.has_weights & (bits.output != 32)
  return jnp.where(has_constants, jnp.floor(2 * target.constant_bits / 8), 0)


def bias_bytes(layer: Geometry, bits: Bits, target: Constants):
  """Bytes of the bias of logits; a requantized layer has its bias in lambda."""
  has_bias = (layer.op == LINEAR) & (bits.output == 32)
  bias = jnp.floor(layer.out_channels * target.bias_bits / 8)
  return jnp.where(has_bias, bias, 0)
