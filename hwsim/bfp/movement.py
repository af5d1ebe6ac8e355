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
"""

from typing import NamedTuple

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

_WINDOW = "hwrs"  # loops that index rows and columns of the input


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
  """The loops of a convolution, depthwise convolution or linear layer.

  Raises:
    ValueError: the layer has no weights.
  """
  if not layer.has_weights:
    raise ValueError(
      f"layer {layer.name!r}: {layer.op} is not a nest of multiplications; "
      "only conv, depthwise and linear layers are"
    )
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


def touched(outputs, taps, stride: int):
  """Rows of input that `outputs` rows and `taps` kernel rows read, exactly.

  With fewer taps than the stride the rows have gaps between them.
  """
  return np.where(taps >= stride, stride * (outputs - 1) + taps, outputs * taps)


def trips(nest: Nest, tiles: np.ndarray) -> np.ndarray:
  """Trip counts of the tile loops, int64[..., 8], for tile sizes [..., 8]."""
  return -(-np.array(nest.sizes) // tiles)


def footprints(nest: Nest, tiles: np.ndarray) -> np.ndarray:
  """Elements of a tile of input, weights, output: int64[..., 3].

  Args:
    nest: the layer.
    tiles: int64[..., 8], sizes in the order of `LOOPS`.
  """
  g, n, k, c, h, w, r, s = np.moveaxis(tiles, -1, 0)
  rows = touched(h, r, nest.stride)
  columns = touched(w, s, nest.stride)
  return np.stack(
    (g * n * c * rows * columns, g * k * c * r * s, g * n * k * h * w), -1
  )


def compulsory(nest: Nest) -> np.ndarray:
  """Elements of input, weights and output, int64[3]: each moves once."""
  return footprints(nest, np.array(nest.sizes))


def volumes(nest: Nest, tiles: np.ndarray, order: str) -> np.ndarray:
  """Elements of input, weights and output that are moved: int64[..., 3].

  Weights and outputs are exact; the input is exact but for rows that a loop
  which starts again finds still there (counted here, so never too low).

  Args:
    nest: the layer.
    tiles: int64[..., 8], 1 to the size of each loop.
    order: the eight letters of `LOOPS`, innermost first.
  """
  count = trips(nest, tiles)
  size = dict(zip(LOOPS, nest.sizes, strict=True))
  count_of = {d: count[..., i] for i, d in enumerate(LOOPS)}
  tile_of = {d: tiles[..., i] for i, d in enumerate(LOOPS)}

  # A tensor moves again with every trip of a loop that does not index it,
  # unless no loop inside of that one indexes it: then the tile still lies
  # there.
  moved = []
  for tensor in TENSORS:
    volume = np.ones(count.shape[:-1], np.int64)
    first = np.ones(count.shape[:-1], bool)  # no loop over the tensor yet
    slides = dict.fromkeys(_WINDOW, first & False)
    for d in order:
      loops = count_of[d] > 1
      if d not in tensor:
        volume = volume * np.where(first, 1, count_of[d])
      else:
        if d in slides:
          slides[d] = first & loops
        first = first & ~loops

    # Loops that index a tensor visit all of it together, whatever the tiles.
    # Rows and columns of the input are counted apart, as their tiles overlap.
    for d in tensor:
      if tensor is not TENSORS[0] or d not in _WINDOW:
        volume = volume * size[d]
    if tensor is TENSORS[0]:
      for out, tap in ("hr", "ws"):
        volume = volume * _extent(
          (size[out], tile_of[out], slides[out]),
          (size[tap], tile_of[tap], slides[tap]),
          nest.stride,
        )
    moved.append(volume)
  return np.stack(moved, -1)


def _extent(out, tap, stride):
  """Rows of input moved by the loops over output and kernel rows.

  Each is (size, tile, slides): where a loop slides, its tiles overlap their
  predecessors and only new rows move. Rows of kernel tiles with fewer taps
  than the stride have gaps, and sliding over the kernel then fills them: such
  tiles are fetched whole.
  """
  (rows, row_tile, rows_slide), (taps, tap_tile, taps_slide) = out, tap
  row_tile = np.where(rows_slide, rows, row_tile)
  tap_tile = np.where(taps_slide & (tap_tile >= stride), taps, tap_tile)
  row_full, row_rest = _pieces(rows, row_tile)
  tap_full, tap_rest = _pieces(taps, tap_tile)
  return row_full * (
    tap_full * touched(row_tile, tap_tile, stride)
    + touched(row_tile, tap_rest, stride)
  ) + (
    tap_full * touched(row_rest, tap_tile, stride)
    + touched(row_rest, tap_rest, stride)
  )


def _pieces(size, tile):
  """How many whole tiles precede the last one, and the size of that one."""
  full = -(-size // tile) - 1
  return full, size - full * tile
