"""Cycles of the transfers of a tile between L2 and L1.

The functions take a layer, the output channels `n`, rows and columns of its
tiles, its bits, the target's constants, and whether cycles are `rounded` to
whole ones; see `schedule.l2_cycles`.
"""

import jax.numpy as jnp

from hwsim.pulp.geometry import ADD, DEPTHWISE
from hwsim.pulp.l1_bytes import bias_bytes


def _transfer(size, rate, rounded):
  """Cycles to move a size, in units of a cycle's share, in whole cycles."""
  return jnp.ceil(size / rate) if rounded else size / rate


def _bytes(count, bits):
  return jnp.ceil(count * bits / 8)


def _copy_cycles(
  height,
  width,
  pixel_bytes,
  whole_pixels,
  whole_rows,
  target,
  rounded,
  more_a_line=0.0,
):
  """Cycles to move a [height, width] block of pixels, by how it lies in L2.

  One line if it is contiguous, one per row (a 2D transfer) if its pixels are
  whole, else one per pixel, with a command per row (a 3D transfer); see
  dory_dma.c:143-154.
  """

  row_bytes = jnp.where(whole_rows, height, 1) * width * pixel_bytes
  line_bytes = jnp.where(whole_pixels, row_bytes, pixel_bytes)
  rows = jnp.where(whole_pixels & whole_rows, 1, height)
  lines = rows * jnp.where(whole_pixels, 1, width)
  commands = jnp.where(whole_pixels, 1, height)
  line = _transfer(line_bytes, target.dma_bytes_per_cycle, rounded)
  line = jnp.maximum(target.dma_line_cycles, line) + more_a_line
  return lines * line + commands * target.dma_command_cycles


def load_x_cycles(layer, n, rows, columns, bits, target, rounded):
  """Cycles to fetch the input of a tile."""
  height, width = rows.in_size, columns.in_size
  pooled = layer.op > ADD
  channels = jnp.where(pooled, n, layer.in_channels)
  copy = _copy_cycles(
    height,
    width,
    _bytes(channels, bits.input),
    channels == layer.in_channels,
    width == layer.in_width,
    target,
    rounded,
  )
  copy = jnp.where(layer.op == ADD, 2 * copy, copy)

  commands, each = _planes(n, rows, columns, bits, target, rounded)
  return jnp.where(layer.op == DEPTHWISE, commands * each, copy)


def _planes(n, rows, columns, bits, target, rounded):
  """Transfers of a depthwise input, HWC to CHW: one a byte of channels."""
  rate = target.dma_transpose_bytes_per_cycle
  each = _transfer(rows.in_size * columns.in_size, rate, rounded)
  return _bytes(n, bits.input), each + target.dma_command_cycles


def pushing_cycles(layer, n, rows, columns, bits, target, rounded):
  """Cycles until the last command of a depthwise input is queued."""
  commands, each = _planes(n, rows, columns, bits, target, rounded)
  more = jnp.maximum(commands - target.dma_queue_commands, 0)
  return jnp.where(layer.op == DEPTHWISE, more * each, 0)


def load_w_cycles(layer, n, bits, target, rounded):
  """Weights, k and lambda of a tile of channels; one line each."""
  command, rate = target.dma_command_cycles, target.dma_bytes_per_cycle
  weights = _bytes(n * layer.weights_per_channel, bits.weight)
  cycles = _transfer(weights, rate, rounded) + command
  constants = _bytes(n, target.constant_bits)
  both = 2 * (_transfer(constants, rate, rounded) + command)
  cycles = jnp.where(bits.output == 32, cycles, cycles + both)
  return jnp.where(layer.has_weights, cycles, 0)


def bias_cycles(layer, bits, target, rounded):
  """The bias of a linear layer, fetched once."""
  size = bias_bytes(layer, bits, target)
  cycles = _transfer(size, target.dma_bytes_per_cycle, rounded)
  cycles += target.dma_command_cycles
  cycles = jnp.ceil(cycles) if rounded else cycles
  return jnp.where(size > 0, cycles, 0)


def store_y_cycles(layer, n, rows, columns, bits, target, rounded):
  """Cycles to write the output of a tile."""
  return _copy_cycles(
    rows.out_size,
    columns.out_size,
    _bytes(n, bits.output),
    n == layer.out_channels,
    columns.out_size == layer.out_width,
    target,
    rounded,
    target.dma_store_line_cycles,
  )
