"""What every tile of a layer costs: its kernel and its transfers, in cycles.

Tiles of a layer come in at most 2 x 3 x 3 kinds (last channels or not; first,
middle, last rows and columns), so costs are computed per kind and then placed
where tiles of that kind run.
"""

from typing import NamedTuple

import numpy as np

from hwsim.pulp.target import Target
from hwsim.workload import Layer
from pulp_referee.kernels import Tiles, core_cycles
from pulp_referee.tiling_search import Tile, bias_bytes


class Axis(NamedTuple):
  """The kinds of tiles along one axis, and the kind of each tile in order."""

  in_sizes: np.ndarray
  out_sizes: np.ndarray
  before: np.ndarray  # padding the kernel adds in front of, and behind, each
  after: np.ndarray
  order: np.ndarray


class Schedule(NamedTuple):
  """Integer cycles of every tile of a layer, int64[N, H, W] in run order.

  `load_w` does not depend on rows and columns: int64[N]. `waiting` is the part
  of `compute` that the average core waits for the slowest.
  """

  compute: np.ndarray
  waiting: np.ndarray
  load_x: np.ndarray
  load_w: np.ndarray
  store_y: np.ndarray
  pushing: np.ndarray


def schedule(
  layer: Layer, tile: Tile, bits: tuple[int, int, int], target: Target
) -> Schedule:
  """Cycles of the kernel and the transfers of every tile of a layer."""
  # Kernels and transfers are costed once per kind of tile (at most 18), not
  # once per tile.
  n_sizes, n_order = _channel_axis(layer.out_channels, tile.out_channels)
  top, bottom, left, right = layer.padding
  rows = _axis(
    layer.in_height,
    layer.out_height,
    tile.in_height,
    tile.out_height,
    layer.kernel_height,
    layer.stride,
    top,
    bottom,
  )
  columns = _axis(
    layer.in_width,
    layer.out_width,
    tile.in_width,
    tile.out_width,
    layer.kernel_width,
    layer.stride,
    left,
    right,
  )

  # Every combination of kinds, as the kernels receive it.
  n, h, w = (
    axis.ravel()
    for axis in np.meshgrid(
      np.arange(n_sizes.size),
      np.arange(rows.in_sizes.size),
      np.arange(columns.in_sizes.size),
      indexing="ij",
    )
  )
  tiles = Tiles(
    n_sizes[n],
    rows.in_sizes[h],
    columns.in_sizes[w],
    rows.out_sizes[h],
    columns.out_sizes[w],
    rows.before[h],
    rows.after[h],
    columns.before[w],
    columns.after[w],
  )

  # Costs of the kinds, each placed where tiles of that kind run.
  kinds = n_sizes.size, rows.in_sizes.size, columns.in_sizes.size
  place = np.ix_(n_order, rows.order, columns.order)

  def per_tile(values):
    return values.reshape(kinds)[place]

  # The slowest core ends a kernel. Rounded per tile, so that the parts of a
  # layer's cycles add up exactly.
  cores = core_cycles(layer, tiles, *bits, target)
  slowest = cores.max(axis=1)
  waiting = nearest(slowest - cores.mean(axis=1))
  compute = nearest(slowest) + target.barrier_cycles
  return Schedule(
    per_tile(compute),
    per_tile(waiting),
    per_tile(_load_x_cycles(layer, tiles, bits, target)),
    _load_w_cycles(layer, n_sizes, bits, target)[n_order],
    per_tile(_store_y_cycles(layer, tiles, bits, target)),
    per_tile(_pushing_cycles(layer, tiles, bits, target)),
  )


def nearest(cycles):
  """Whole cycles, ties to even, of sums of decimals: a sum that is a tie but
  for the last digits of floats is one."""
  return np.rint(np.round(cycles, 6)).astype(np.int64)


def loads(plan: Schedule) -> np.ndarray:
  """Cycles of the transfers that each iteration starts for the next, [T]."""
  load = np.zeros(plan.load_x.shape, np.int64)
  flat = load.reshape(-1)
  flat[:-1] = plan.load_x.ravel()[1:]
  load[:-1, -1, -1] += plan.load_w[1:]  # the channels change
  return flat


def _channel_axis(channels, tile):
  count = -(-channels // tile)
  sizes = np.array([tile, channels - (count - 1) * tile])
  order = np.zeros(count, np.int64)
  order[-1] = 1
  return (sizes, order) if count > 1 else (sizes[1:], order - 1)


def _axis(
  size, out_size, tile_in, tile_out, kernel, stride, before, after
) -> Axis:
  """First, middle and last tiles along rows or columns.

  A first tile loads as much as a middle one although padding covers part of it;
  a last one loads what its outputs need (DORY's 2D_template_writer).
  """
  count = -(-out_size // tile_out)
  last_out = out_size - (count - 1) * tile_out
  beyond = size + before + after - (out_size * stride + kernel - stride)
  last_in = last_out * stride + kernel - stride - (after - beyond)
  last_in = min(last_in, tile_in) if count > 1 else tile_in
  kinds = np.array(
    [  # in, out, padding before and after
      (tile_in, tile_out, before, 0),
      (tile_in, tile_out, 0, 0),
      (last_in, last_out, before if count == 1 else 0, after),
    ]
  )
  order = np.ones(count, np.int64)
  order[0] = 0
  order[-1] = 2
  used, order = np.unique(order, return_inverse=True)
  in_sizes, out_sizes, in_front, behind = kinds[used].T
  return Axis(in_sizes, out_sizes, in_front, behind, order)


def _ceil_div(a, b):
  return -(-a // b)


def _bytes(count, bits):
  return _ceil_div(count * bits, 8)


def _copy_cycles(
  height, width, pixel_bytes, whole_pixels, whole_rows, target, more=0
):
  """Cycles to move a [height, width] block of pixels, by how it lies in L2.

  One line if it is contiguous, one per row (a 2D transfer) if its pixels are
  whole, else one per pixel, with a command per row (a 3D transfer); see
  dory_dma.c:143-154.
  """

  def line(count):
    least = _ceil_div(count, target.dma_bytes_per_cycle)
    return np.maximum(target.dma_line_cycles, least) + more

  command = target.dma_command_cycles
  by_pixel = height * (width * line(pixel_bytes) + command)
  by_row = height * line(width * pixel_bytes) + command
  at_once = line(height * width * pixel_bytes) + command
  chosen = np.where(whole_rows, at_once, by_row)
  return np.where(whole_pixels, chosen, by_pixel)


def _load_x_cycles(layer, tiles, bits, target):
  height, width = tiles.in_height, tiles.in_width
  if layer.op == "depthwise":  # HWC to CHW, a transfer per byte of channels
    return _whole(np.prod(_planes(tiles, bits, target), axis=0))
  pooled = layer.op in ("avg_pool", "max_pool")
  channels = tiles.out_channels if pooled else layer.in_channels
  copy = _copy_cycles(
    height,
    width,
    _bytes(channels, bits[0]),
    channels == layer.in_channels,
    width == layer.in_width,
    target,
  )
  return _whole(2 * copy if layer.op == "add" else copy)


def _whole(cycles):
  return np.ceil(cycles).astype(np.int64)


def _planes(tiles, bits, target):
  """Transfers of a depthwise input, and cycles of each."""
  lines = tiles.in_height * tiles.in_width
  each = _ceil_div(lines, target.dma_transpose_bytes_per_cycle)
  return (
    _bytes(tiles.out_channels, bits[0]),
    each + target.dma_command_cycles,
  )


def _pushing_cycles(layer, tiles, bits, target):
  """Cores wait while there are more commands than the engine queues."""
  if layer.op != "depthwise":
    return np.zeros(tiles.in_height.shape, np.int64)
  commands, each = _planes(tiles, bits, target)
  return _whole(np.maximum(commands - target.dma_queue_commands, 0) * each)


def _load_w_cycles(layer, channels, bits, target):
  """Weights, k and lambda of a tile of channels; one line each."""
  if not layer.has_weights:
    return np.zeros(channels.shape, np.int64)
  per_channel = layer.weight_count // layer.out_channels
  command, rate = target.dma_command_cycles, target.dma_bytes_per_cycle
  cycles = _ceil_div(_bytes(channels * per_channel, bits[1]), rate) + command
  if bits[2] != 32:
    constants = _bytes(channels, target.constant_bits)
    cycles = cycles + 2 * (_ceil_div(constants, rate) + command)
  return _whole(cycles)


def bias_cycles(layer, out_bits, target):
  """The bias of a linear layer, fetched once."""
  size = bias_bytes(layer, out_bits, target.bias_bits)
  if not size:
    return 0
  lines = _ceil_div(size, target.dma_bytes_per_cycle)
  return int(_whole(lines + target.dma_command_cycles))


def _store_y_cycles(layer, tiles, bits, target):
  whole = tiles.out_channels == layer.out_channels
  copy = _copy_cycles(
    tiles.out_height,
    tiles.out_width,
    _bytes(tiles.out_channels, bits[2]),
    whole,
    tiles.out_width == layer.out_width,
    target,
    target.dma_store_line_cycles,
  )
  return _whole(copy)
