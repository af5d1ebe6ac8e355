"""A discrete-event simulation of a layer on the cluster, used only by tests.

It plays what DORY's generated code does, event by event: one process runs the
tile loop on the cores, the DMA engine serves a read and a write queue, L3 one
queue. The cores pay for programming a transfer, in parallel where DORY spreads
its commands over them; the closed form adds that to the transfer instead.
Neither `hwsim.pulp` nor a schedule of `pulp_referee` is used: tiles, padding
and transfers are worked out here, one tile at a time. Taken from there are the
choice of tile (checked against DORY's solver) and the cycles of a kernel call
(checked against an instruction-level simulator).
"""

import dataclasses
import math

import numpy as np
from hwsim_events import Channel, Clock
from pulp_referee.kernels import Tiles, kernel_cycles
from pulp_referee.tiling import tile_l1
from pulp_referee.tiling_l3 import tile_l2


def split_axis(size, out_size, tile_in, tile_out, kernel, stride, pads):
  """(rows loaded, rows made, padding before, padding after) tile by tile."""
  before, after = pads
  parts = []
  for start in range(0, out_size, tile_out):
    made = min(tile_out, out_size - start)
    first, last = start == 0, start + tile_out >= out_size
    if last and not first:  # from its first input row to the end of its reach
      top = start * stride - before
      loaded = min(top + (made - 1) * stride + kernel, size) - top
      loaded = min(loaded, tile_in)
    else:
      loaded = tile_in
    parts.append((loaded, made, before * first, after * last))
  return parts


class Transfer:
  """Lines of the DMA engine, and the commands that start them."""

  def __init__(self, cycles, commands):
    self.cycles, self.commands = cycles, commands


def block(rows, columns, pixel, whole_pixel, whole_row, target, more=0):
  """A copy of rows x columns pixels, line by line; each may take more."""
  rate = target.dma_bytes_per_cycle
  if whole_pixel and whole_row:
    lines, commands = [rows * columns * pixel], 1
  elif whole_pixel:
    lines, commands = [columns * pixel] * rows, 1
  else:
    lines, commands = [pixel] * (rows * columns), rows
  each = [
    max(target.dma_line_cycles, math.ceil(n / rate)) + more for n in lines
  ]
  return Transfer(sum(each), commands)


class Tile:
  """One tile: its transfers, lists of `Transfer`, and its kernel, cycles."""

  def __init__(self, layer, bits, target, n, row, column, kernels):
    in_bits, weight_bits, out_bits = bits
    rate = target.dma_bytes_per_cycle
    h_in, h_out, top, bottom = row
    w_in, w_out, left, right = column
    if layer.op == "depthwise":
      planes = math.ceil(n * in_bits / 8)
      plane = math.ceil(h_in * w_in / target.dma_transpose_bytes_per_cycle)
      self.x = [Transfer(planes * plane, planes)]
    else:
      pooled = layer.op.endswith("pool")
      channels = n if pooled else layer.in_channels
      pixel = math.ceil(channels * in_bits / 8)
      whole = channels == layer.in_channels, w_in == layer.in_width
      self.x = [block(h_in, w_in, pixel, *whole, target)]
      if layer.op == "add":
        self.x *= 2
    self.w = []
    if layer.has_weights:
      filters = layer.weight_count // layer.out_channels * n
      sizes = [filters * weight_bits / 8]
      if out_bits != 32:
        sizes += [n * target.constant_bits / 8] * 2
      self.w = [Transfer(math.ceil(math.ceil(b) / rate), 1) for b in sizes]
    whole = n == layer.out_channels, w_out == layer.out_width
    pixel = math.ceil(n * out_bits / 8)
    more = target.dma_store_line_cycles
    self.y = [block(h_out, w_out, pixel, *whole, target, more)]
    shape = n, h_in, w_in, h_out, w_out, top, bottom, left, right
    if shape not in kernels:
      tiles = Tiles(*(np.array([v]) for v in shape))
      kernels[shape] = kernel_cycles(layer, tiles, *bits, target).item()
    self.kernel = kernels[shape]


def l2_layer(layer, bits, target, tile):
  """Cycles of a layer whose tensors lie in L2, by simulation."""
  top, bottom, left, right = layer.padding
  rows = split_axis(
    layer.in_height,
    layer.out_height,
    tile.in_height,
    tile.out_height,
    layer.kernel_height,
    layer.stride,
    (top, bottom),
  )
  columns = split_axis(
    layer.in_width,
    layer.out_width,
    tile.in_width,
    tile.out_width,
    layer.kernel_width,
    layer.stride,
    (left, right),
  )
  kernels = {}
  tiles = []
  for start in range(0, layer.out_channels, tile.out_channels):
    n = min(tile.out_channels, layer.out_channels - start)
    for row in rows:
      for column in columns:
        part = Tile(layer, bits, target, n, row, column, kernels)
        tiles.append((start, part))

  clock = Clock()
  read, write = Channel(clock), Channel(clock)

  def issue(transfers, channel, ends):
    for transfer in transfers:
      share = math.ceil(transfer.commands / target.cores)
      yield share * target.dma_command_cycles
      # The engine queues some commands; cores wait until the others are done
      waiting = max(transfer.commands - target.dma_queue_commands, 0)
      done = transfer.cycles * waiting / transfer.commands
      if waiting:
        yield channel.transfer(done)
      ends.append(channel.transfer(transfer.cycles - done))

  def cluster():
    yield target.layer_start_cycles
    first = tiles[0][1].x + tiles[0][1].w
    if layer.op == "linear" and bits[2] == 32:
      bias = layer.out_channels * target.bias_bits / 8
      first = [
        Transfer(math.ceil(bias / target.dma_bytes_per_cycle), 1),
        *first,
      ]
    for transfer in first:
      ends = []
      yield from issue([transfer], read, ends)
      yield ends[0]
    stored = []
    for i, (start, tile) in enumerate(tiles):
      yield target.tile_cycles
      if i == 0 or start != tiles[i - 1][0]:
        yield target.channel_tile_cycles
      pending = []
      if i + 1 < len(tiles):
        following, after = tiles[i + 1]
        yield from issue(after.x, read, pending)
        if following != start:
          yield from issue(after.w, read, pending)
      yield tile.kernel + target.barrier_cycles
      yield from pending + stored
      stored = []
      yield from issue(tile.y, write, stored)
    yield from stored

  clock.start(cluster())
  return clock.run()


def whole_bytes(channels, *widths):
  """The fewest channels, at least these, that fill bytes at every width."""
  while any(channels * bits % 8 for bits in widths):
    channels += 1
  return channels


def simulate(layer, in_bits, weight_bits, out_bits, target):
  """Cycles of a layer, from L3 where it does not fit L2, by simulation."""
  bits = in_bits, weight_bits, out_bits
  layer = deployed(layer, bits)
  cut = tile_l2(layer, *bits, target)
  if cut.is_whole(layer):
    return l2_layer(layer, bits, target, tile_l1(layer, *bits, target))
  tile = tile_l1(layer, *bits, target, cut)
  k, s = layer.kernel_height, layer.stride
  step = cut.out_height
  if cut.input_in_l3:
    step = min(step, (cut.in_height - k + s) // s)
  clock = Clock()
  l3 = Channel(clock)

  def move(count, width):
    return l3.transfer(
      target.l3_setup_cycles
      + math.ceil(count * width / 8 / target.l3_bytes_per_cycle)
    )

  ranges = [
    (start, min(start + step, layer.out_height))
    for start in range(0, layer.out_height, step)
  ]
  parts = []
  for start, stop in ranges:
    low = start * s - layer.padding[0]
    high = (stop - 1) * s - layer.padding[0] + k
    inside = range(max(low, 0), min(high, layer.in_height))
    parts.append((len(inside), max(-low, 0), max(high - layer.in_height, 0)))
  channels = [
    min(cut.out_channels, layer.out_channels - n)
    for n in range(0, layer.out_channels, cut.out_channels)
  ]

  def load_w(n):
    if len(channels) == 1:
      return None
    per_channel = layer.weight_count // layer.out_channels * weight_bits
    if out_bits != 32:
      per_channel += 2 * target.constant_bits
    elif layer.op == "linear":
      per_channel += target.bias_bits
    return move(n, per_channel)

  def load_x(j):
    if not cut.input_in_l3:
      return None
    return move(parts[j][0] * layer.in_width * layer.in_channels, in_bits)

  def store_y(j):
    if len(ranges) == 1 or cut.out_height == layer.out_height:
      return None
    start, stop = ranges[j]
    return move((stop - start) * layer.out_width * layer.out_channels, out_bits)

  def layer_process():
    for first in (load_w(channels[0]), load_x(0)):
      if first:
        yield first
    stored = None
    for j, (height, top, bottom) in enumerate(parts):
      more = j + 1 < len(parts)
      arriving = load_x(j + 1) if more else None
      for q, n in enumerate(channels):
        weights = None
        if q + 1 < len(channels) or more:
          weights = load_w(channels[(q + 1) % len(channels)])
        part = dataclasses.replace(
          layer,
          in_channels=n if layer.op == "depthwise" else layer.in_channels,
          out_channels=n,
          in_height=height,
          padding=(top, bottom, *layer.padding[2:]),
        )
        part = deployed(part, bits)
        yield l2_layer(part, bits, target, clipped(tile, part))
        if weights:
          yield weights
      for end in (arriving, stored):
        if end:
          yield end
      stored = store_y(j)
    if stored:
      yield stored

  clock.start(layer_process())
  return clock.run()


def clipped(tile, part):
  """The layer's tile in a slice that may be smaller than it."""
  return tile._replace(
    in_channels=min(tile.in_channels, part.in_channels),
    out_channels=min(tile.out_channels, part.out_channels),
    in_height=min(tile.in_height, part.in_height),
    out_height=min(tile.out_height, part.out_height),
  )


def deployed(layer, bits):
  """The layer with channels padded to whole bytes."""
  in_bits, weight_bits, out_bits = bits
  if layer.op in ("conv", "linear"):
    c_in = whole_bytes(layer.in_channels, in_bits, weight_bits)
    c_out = whole_bytes(layer.out_channels, out_bits)
  else:
    widths = bits if layer.has_weights else (in_bits, out_bits)
    c_in = c_out = whole_bytes(layer.in_channels, *widths)
  return dataclasses.replace(layer, in_channels=c_in, out_channels=c_out)
