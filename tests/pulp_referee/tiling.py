"""L2 -> L1 tiling: the choice DORY's solver makes, ties included."""

import dataclasses
import functools

from hwsim.pulp.target import Target
from hwsim.workload import Layer
from pulp_referee.tiling_l3 import L2Tile
from pulp_referee.tiling_search import (
  Memory,
  Part,
  Tile,
  fits_whole,
  im2col_bytes,
  pad_channels,
  tile_add,
  tile_conv,
  tile_depthwise,
  tile_pool,
)


def tile_l1(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
  part: L2Tile | None = None,
) -> Tile:
  """The tile DORY moves between L2 and L1: one for all slices of a layer.

  Args:
    layer: geometry, channels already padded to whole bytes.
    in_bits, weight_bits: 2, 4 or 8.
    out_bits: 2, 4, 8 or 32 (not quantized).
    target: target whose L1 budget and buffering count.
    part: what L2 holds of the layer at once; None if all.

  Raises:
    ValueError: no tile fits the budget.
  """
  # Only what the choice depends on: targets that differ in other constants
  # share the cache.
  memory = Memory(
    target.l1_budget_bytes,
    target.double_buffering,
    target.cores,
    target.constant_bits,
    target.bias_bits,
  )
  held = (
    layer
    if part is None
    else _held(layer, part, (in_bits, weight_bits, out_bits))
  )
  tile = _tile(held.geometry, in_bits, weight_bits, out_bits, memory)

  # The patch buffers are named because no smaller tile makes them smaller.
  if tile is None:
    im2col = im2col_bytes(layer, target.cores)
    raise ValueError(
      f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
      f"{layer.out_channels} channels, {layer.in_height}x{layer.in_width}, "
      f"kernel {layer.kernel_height}x{layer.kernel_width}) fits no tile at "
      f"{in_bits}/{weight_bits}/{out_bits} input/weight/output bits: even "
      f"the smallest needs more than the {memory.budget} bytes of L1 that "
      f"target {target.name!r} has"
      + (f" (im2col buffers take {im2col})" if im2col else "")
      + "; use a target with a larger l1_bytes"
    )
  return tile


def _held(layer: Layer, part: L2Tile, bits) -> Layer:
  """An inner slice of a layer, as DORY's tiler sees it."""
  height, rows = part.in_height, part.out_height
  kernel, stride = layer.kernel_height, layer.stride
  if rows < layer.out_height:
    height = rows * stride + kernel - stride
  if part.in_height < layer.in_height:
    rows = (part.in_height - kernel + stride) // stride
  channels = layer.in_channels
  if layer.op == "depthwise":
    channels = part.out_channels
  held = Part(**vars(layer), rows=rows, l2_height=part.in_height)
  held = dataclasses.replace(
    held,
    in_channels=channels,
    out_channels=part.out_channels,
    in_height=height,
  )
  return pad_channels(held, *bits)


@functools.lru_cache(maxsize=100_000)
def _tile(layer, in_bits, weight_bits, out_bits, memory) -> Tile | None:
  bits = in_bits, weight_bits, out_bits
  if fits_whole(layer, bits, memory):
    return Tile(
      layer.in_channels,
      layer.out_channels,
      layer.in_height,
      layer.in_width,
      layer.out_height,
      layer.out_width,
    )
  if layer.op in ("conv", "linear"):
    return tile_conv(layer, bits, memory)
  if layer.op == "depthwise":
    return tile_depthwise(layer, bits, memory)
  if layer.op == "add":
    return tile_add(layer, bits, memory)
  return tile_pool(layer, bits, memory)
