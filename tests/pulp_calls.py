"""Parts of the compiled simulator, called on single tiles and layers."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from hwsim.pulp import geometry, kernels, tiling, tiling_l3
from hwsim.pulp.geometry import Bits, Geometry


class Tiles(NamedTuple):
  """Sizes of `T` tiles as a kernel receives them; each an int64[T]."""

  out_channels: np.ndarray
  in_height: np.ndarray
  in_width: np.ndarray
  out_height: np.ndarray
  out_width: np.ndarray
  top: np.ndarray
  bottom: np.ndarray
  left: np.ndarray
  right: np.ndarray


@functools.cache
def _cores():
  def one(layer, sizes, bits, costs):
    n, h_in, w_in, h, w, top, bottom, left, right = sizes
    rows = kernels.Span(h_in, h, top, bottom)
    columns = kernels.Span(w_in, w, left, right)
    return kernels.core_cycles(
      Geometry(*layer), n, rows, columns, Bits(*bits), costs
    )

  return jax.jit(jax.vmap(one, in_axes=(None, 0, None, None)))


def core_cycles(layer, tiles, in_bits, weight_bits, out_bits, target):
  """Cycles of each core in one kernel call per tile, float64[T, 8]."""
  sizes = np.array(geometry.of_layer(layer), np.float64)
  bits = np.array([in_bits, weight_bits, out_bits], np.float64)
  with jax.enable_x64(True):
    found = _cores()(
      sizes, np.array(tiles, np.float64).T, bits, target.constants.kernels
    )
    return np.asarray(found)


def kernel_cycles(layer, tiles, in_bits, weight_bits, out_bits, target):
  """Cycles of one kernel call per tile, float64[T]: of its slowest core."""
  bits = in_bits, weight_bits, out_bits
  return core_cycles(layer, tiles, *bits, target).max(axis=1)


@functools.cache
def _tilers():
  return jax.jit(tiling.tile_l1), jax.jit(tiling_l3.tile_l2)


def _call(tiler, layer, bits, target, *others):
  """A tile of whole numbers, or None; channels are taken as they are."""
  with jax.enable_x64(True):
    sizes = (np.float64(size) for size in geometry.of_layer(layer))
    widths = (np.float64(width) for width in bits)
    tile, fits = tiler(
      Geometry(*sizes), Bits(*widths), target.constants, *others
    )
    return type(tile)(*(int(size) for size in tile)) if fits else None


def tile_l1(layer, in_bits, weight_bits, out_bits, target):
  """The L1 tile of a layer that lies in L2."""
  return _call(_tilers()[0], layer, (in_bits, weight_bits, out_bits), target)


def tile_l2(layer, in_bits, weight_bits, out_bits, target, input_in_l3=False):
  """The part of a layer that L2 holds."""
  bits = in_bits, weight_bits, out_bits
  tile = _call(_tilers()[1], layer, bits, target, input_in_l3)
  return tile and tile._replace(input_in_l3=bool(tile.input_in_l3))


def is_whole(part, layer):
  return part == (
    layer.out_channels, layer.in_height, layer.out_height, False
  )  # fmt: skip
