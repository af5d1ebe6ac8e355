"""Data that a tiled loop nest moves between two memories, in elements.

One tile of the input, of the weights and of the output lies in the near memory
at a time; a loop order fetches what the next tile needs and the last did not
hold. The model is MOpt's (Li et al., ASPLOS 2021), which BitQ prices in bits,
on integers: whole trips, clipped edge tiles, the true stride. Padding counts as
input, as in MOpt.

Loops, by letter: `g` groups, `n` batch, `k` output channels and `c` input
channels of a group, `h` and `w` output rows and columns, `r` and `s` kernel
rows and columns. Groups index all three tensors; a depthwise convolution has
one channel per group (k = c = 1), which BitQ and MOpt do not cover.

`footprints` and `volumes` are of one tile, or of many whose sizes are arrays.
Counts pass 2^31: call them within `jax.enable_x64(True)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hwsim.workload import Layer

LOOPS = "gnkchwrs"
TENSORS = ("gnchwrs", "gkcrs", "gnkhw")
"""Loops that index the input, the weights and the output."""

ORDERS = (
  "wnhkcrsg",
  "hnwkcrsg",
  "scrnkhwg",
  "rcsnkhwg",
  "kwnchrsg",
  "khncwrsg",
  "ksnchwrg",
  "krnchwsg",
)
"""Eight loop orders, innermost loop first: for every tiling each other order
moves at least as much of each tensor as one of these.

The eight classes of MOpt; groups go outermost. A loop over groups indexes all
tensors, so all loops outside of it fetch everything again, and taking it out
of a nest (its tiles then have one group) multiplies every volume by the number
of groups and lets no loop reuse less.
"""


Array = jax.Array | np.ndarray


class Nest(NamedTuple):
  """Trip counts of the eight loops over single elements, and the stride."""

  g: int
  n: int
  k: int
  c: int
  h: int
  w: int
  r: int
  s: int
  stride: int = 1

  @property
  def sizes(self) -> tuple[int, ...]:
    return self[:8]


def nest_of(layer: Layer, batch: int = 1) -> Nest:
  """The loops of a layer with weights or of a product of two activations.

  A transposed convolution, whose patches do not overlap, is pointwise with as
  many outputs as a patch has. A product of activations has no kernel; its
  second operand takes the place of the weights, and images and heads, which
  index all three tensors, are groups.

  Raises:
    ValueError: the layer multiplies nothing.
  """
  if not layer.multiplies:
    raise ValueError(
      f"layer {layer.name!r}: {layer.op} is not a nest of multiplications; "
      "only layers with weights and matmuls are"
    )
  if layer.op == "matmul":
    groups = batch * layer.in_width
    columns, sums = layer.out_channels, layer.in_channels
    return Nest(groups, 1, columns, sums, layer.in_height, 1, 1, 1)
  if layer.op == "conv_transpose":
    patch = layer.out_channels * layer.kernel_height * layer.kernel_width
    pixels = layer.in_height, layer.in_width
    return Nest(1, batch, patch, layer.in_channels, *pixels, 1, 1)
  one = layer.op == "depthwise"
  return Nest(
    layer.in_channels if one else 1,
    batch,
    1 if one else layer.out_channels,
    1 if one else layer.in_channels,
    layer.out_height,
    layer.out_width,
    layer.kernel_height,
    layer.kernel_width,
    layer.stride,
  )


def loops_inside(order: str) -> np.ndarray:
  """Loops that index a tensor and lie inside of a loop: int32[3, 8], bit sets.

  Args:
    order: the eight letters of `LOOPS`, innermost first.
  """
  within = [order[: order.index(loop)] for loop in LOOPS]
  return np.array(
    [
      [
        sum(1 << LOOPS.index(d) for d in loops if d in tensor)
        for loops in within
      ]
      for tensor in TENSORS
    ],
    np.int32,
  )


def touched(outputs, taps, stride):
  """Rows of input that `outputs` rows and `taps` kernel rows read, exactly.

  With fewer taps than the stride the rows have gaps between them.
  """
  wide = stride * (outputs - 1) + taps
  return jnp.where(taps >= stride, wide, outputs * taps)


def footprints(
  tile: Array, stride: Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Elements of a tile of input, weights and output.

  Args:
    tile: int[8, ...], sizes in the order of `LOOPS`.
    stride: stride of the layer.
  """
  g, n, k, c, h, w, r, s = tile
  rows, columns = touched(h, r, stride), touched(w, s, stride)
  return g * n * c * rows * columns, g * k * c * r * s, g * n * k * h * w


def volumes(
  sizes: Array,
  stride: Array,
  tile: Array,
  trips: Array,
  inside: Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Elements of input, weights and output that are moved.

  Weights and outputs are exact; the input is exact but for rows that a loop
  which starts again finds still there (counted here, so never too low).

  Args:
    sizes: int64[8], trips of the loops over single elements.
    stride: stride of the layer.
    tile: int64[8, ...], 1 to the size of each loop.
    trips: int64[8, ...], tiles along each loop.
    inside: int32[3, 8], `loops_inside` of a loop order.
  """
  g, n, k, c, h, w, r, s = sizes
  loops = sum(
    (count > 1).astype(jnp.int32) << i for i, count in enumerate(trips)
  )

  # A tensor moves again with every trip of a loop that does not index it,
  # unless no loop inside of that one indexes it: then the tile still lies
  # there.
  def times(tensor, others):
    count = 1
    for i in map(LOOPS.index, others):
      count *= jnp.where(loops & inside[tensor, i] != 0, trips[i], 1)
    return count

  # A loop over rows of the input slides if no loop inside of it changes tiles.
  def rows(out, tap):
    out, tap = (
      (sizes[i], tile[i], trips[i], loops & inside[0, i] == 0)
      for i in (LOOPS.index(out), LOOPS.index(tap))
    )
    return _extent(out, tap, stride)

  # Loops that index a tensor visit all of it together, whatever the tiles.
  # Rows and columns of the input are counted apart, as their tiles overlap.
  return (
    times(0, "k") * g * n * c * rows("h", "r") * rows("w", "s"),
    times(1, "nhw") * g * k * c * r * s,
    times(2, "crs") * g * n * k * h * w,
  )


def _extent(out, tap, stride):
  """Rows of input moved by the loops over output and kernel rows.

  Each is (size, tile, trips, slides): where a loop slides, its tiles overlap
  their predecessors and only new rows move. Rows of kernel tiles with fewer
  taps than the stride have gaps, and sliding over the kernel then fills them:
  such tiles are fetched whole.
  """
  taps, tap_tile, tap_trips, taps_slide = tap
  taps_slide &= tap_tile >= stride
  row_full, row_tile, row_rest = _pieces(*out)
  tap_full, tap_tile, tap_rest = _pieces(taps, tap_tile, tap_trips, taps_slide)
  return row_full * (
    tap_full * touched(row_tile, tap_tile, stride)
    + touched(row_tile, tap_rest, stride)
  ) + (
    tap_full * touched(row_rest, tap_tile, stride)
    + touched(row_rest, tap_rest, stride)
  )


def _pieces(size, tile, trips, slides):
  """Whole tiles before the last one, their size, and the size of that one."""
  full = jnp.where(slides, 0, trips - 1)
  return full, tile, size - full * tile
