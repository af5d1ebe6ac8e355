"""A layer as the simulator sees it: numbers that a compiled function takes."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from hwsim.workload import Layer

OPS = ("conv", "depthwise", "linear", "add", "avg_pool", "max_pool")
CONV, DEPTHWISE, LINEAR, ADD, AVG_POOL, MAX_POOL = range(len(OPS))

Number = Any  # a number, or an array of float64 that may be traced


class Geometry(NamedTuple):
  """Sizes of one layer, or of a part of one; scalars of float64.

  Whole numbers below 2^53 are exact in float64, and so are the sums, products
  and rounded quotients that the simulator makes of them.

  Attributes:
    op: position in `OPS`.
    out_height, out_width: given, not derived. DORY tiles an inner slice of a
      layer with the padding of the whole layer, which the slice does not make
      outputs of.
    top, bottom, left, right: rows and columns of zeros.
    l2_height: input rows that L2 holds; those of a slice are fewer where only
      the output is cut.
  """

  op: Number
  in_channels: Number
  out_channels: Number
  in_height: Number
  in_width: Number
  out_height: Number
  out_width: Number
  kernel_height: Number
  kernel_width: Number
  stride: Number
  top: Number
  bottom: Number
  left: Number
  right: Number
  l2_height: Number

  @property
  def area(self):
    """Values of a filter per input channel."""
    return self.kernel_height * self.kernel_width

  @property
  def has_weights(self):
    return self.op <= LINEAR

  @property
  def weights_per_channel(self):
    """Weights of one output channel."""
    inputs = jnp.where(self.op == DEPTHWISE, 1, self.in_channels)
    return jnp.where(self.has_weights, inputs * self.area, 0)


class Bits(NamedTuple):
  """Bits of input, weights and output: 2, 4, 8; or 32, of an output only."""

  input: Number
  weight: Number
  output: Number


def of_layer(layer: Layer) -> Geometry:
  """The sizes of a layer whose operator the kernels have, as plain numbers."""
  return Geometry(
    OPS.index(layer.op),
    layer.in_channels,
    layer.out_channels,
    layer.in_height,
    layer.in_width,
    layer.out_height,
    layer.out_width,
    layer.kernel_height,
    layer.kernel_width,
    layer.stride,
    *layer.padding,
    layer.in_height,
  )


def pad_channels(layer: Geometry, bits: Bits) -> Geometry:
  """The layer with channels that fill whole bytes, as it is deployed.

  Rule of the published benchmark (quantlib generate_bench_spec.py:36-40): input
  channels to whole bytes at both input and weight precision, output channels at
  output precision. Operators with one channel count take the narrowest.
  """
  of_ends = jnp.minimum(bits.input, bits.output)
  of_weights = jnp.minimum(bits.input, bits.weight)
  is_matrix = (layer.op == CONV) | (layer.op == LINEAR)
  common = jnp.where(layer.op == DEPTHWISE, of_weights, bits.input)
  common = jnp.minimum(common, of_ends)
  into = jnp.where(is_matrix, of_weights, common)
  out = jnp.where(is_matrix, bits.output, common)
  return layer._replace(
    in_channels=whole_bytes(layer.in_channels, into),
    out_channels=whole_bytes(layer.out_channels, out),
  )


def whole_bytes(channels, bits):
  """The fewest channels, no fewer than these, that fill bytes."""
  step = channel_step(bits)
  return jnp.ceil(channels / step) * step


def channel_step(bits):
  """Channels that fill one byte."""
  return jnp.maximum(1, jnp.floor(8 / bits))


def rest(number, divisor):
  """What is left of a whole number; `%` of floats is many times slower."""
  return number - divisor * jnp.floor(number / divisor)
