"""The tilings of a layer that can be best somewhere in a box of prices.

Written for one layer, box and memory size; `jax.vmap` maps it over all three.
Shapes are static: candidates are numbered, and looked at `CHUNK` at a time.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hwsim.bfp.candidates import Candidates
from hwsim.bfp.movement import (
  ORDERS,
  Array,
  footprints,
  loops_inside,
  volumes,
)

KEPT = 1 << 12
"""Tilings that a sweep has room for. In the whole box of BitQ's prices
ResNet-18's keep at most 184 of 268,569 at 16 bits and 856 at 8; a walk that
keeps more is repeated with room for them."""

CHUNK = 1024
"""Candidates that are looked at together. Larger ones are as fast on large
layers and slower on the small ones of SRAM traffic."""

NEVER = np.iinfo(np.int64).max

_INSIDE = np.stack([loops_inside(order) for order in ORDERS])


def walk(
  these: Candidates,
  low: Array,
  high: Array,
  capacity: Array,
  out_moves: Array,
  room: int,
) -> tuple[jax.Array, jax.Array]:
  """The candidates that can be best somewhere in a box of prices.

  One is out if it does not fit at the lowest prices, or if at all prices of the
  box it moves more than one that fits everywhere.

  Args:
    these: tiles of the layer.
    low, high: int64[3], corners of the box, in units per element of input,
      weights and output.
    capacity: int64[], units that the memory holds.
    out_moves: int64[], times a moved output counts.
    room: tilings that are kept.

  Returns:
    int64[15, room + CHUNK], columns of three elements moved, three held, eight
    sizes and the order; int32[], how many columns are meant, or more than
    `room` if they have no room: the columns are then worthless.
  """
  chunk, chunks = _numbered(these, out_moves)

  # What surely fits and moves least: elements, units at the highest prices.
  def least(j, state):
    columns, meant = chunk(j)
    fits = meant & (at(high, columns[3:6]) <= capacity)
    units = jnp.where(fits, at(high, columns[:3]), NEVER)
    best = units.argmin()
    better = units[best] < state[1]
    return (
      jnp.where(better, columns[:3, best], state[0]),
      jnp.where(better, units[best], state[1]),
    )

  start = jnp.zeros(3, jnp.int64), jnp.int64(NEVER)
  moved, _ = lax.fori_loop(0, chunks, least, start)

  # What a tiling moves more costs the least where it is cheap, what it moves
  # less saves the most where it is dear. Most chunks keep nothing: columns are
  # put together again where one does.
  def keep(j, state):
    kept, count = state
    columns, meant = chunk(j)
    fits = meant & (at(low, columns[3:6]) <= capacity)
    more = columns[:3] - moved[:, None]
    saved = at(high, jnp.maximum(-more, 0))
    best = fits & (at(low, jnp.maximum(more, 0)) <= saved)

    def push(kept):
      first = chunk(j)[0][:, jnp.argsort(~best, stable=True)]
      return lax.dynamic_update_slice_in_dim(kept, first, count, 1)

    kept = lax.cond(best.any(), push, lambda kept: kept, kept)
    return kept, count + best.sum(dtype=jnp.int32)

  kept = jnp.zeros((15, room + CHUNK), jnp.int64)
  return lax.fori_loop(0, chunks, keep, (kept, jnp.int32(0)))


def _numbered(these, out_moves):
  """A function number -> columns of a chunk and which are meant; how many."""
  totals = these.counts.prod(1)
  chunks = -(-totals // CHUNK)
  ends = jnp.cumsum(chunks)
  trips = -(-these.sizes[:, None] // these.tiles)

  # Tiles are numbered: the size of the last loop changes fastest.
  steps = jnp.ones_like(these.counts)
  steps = steps.at[:, :-1].set(these.counts[:, :0:-1].cumprod(1)[:, ::-1])
  steps, counts = (n.astype(jnp.int32) for n in (steps, these.counts))

  def chunk(j):
    order = jnp.searchsorted(ends, j, side="right")
    number = (j - ends[order] + chunks[order]) * CHUNK + jnp.arange(CHUNK)
    passed = lax.div(number.astype(jnp.int32)[None], steps[order][:, None])
    digits = lax.rem(passed, counts[order][:, None])
    tile = jnp.take_along_axis(these.tiles[order], digits, 1)
    inputs, weights, outputs = volumes(
      these.sizes,
      these.stride,
      tile,
      jnp.take_along_axis(trips[order], digits, 1),
      jnp.asarray(_INSIDE)[order],
    )
    moved = inputs, weights, out_moves * outputs
    held = footprints(tile, these.stride)
    columns = jnp.stack((*moved, *held, *tile, jnp.full(CHUNK, order)))
    return columns, number < totals[order]

  return chunk, ends[-1]


def at(prices, elements):
  """Units of elements of input, weights and output at some prices."""
  return sum(
    price * count for price, count in zip(prices, elements, strict=True)
  )


def in_room(
  room: int, program: Callable[..., tuple[jax.Array, jax.Array]], *arguments
) -> tuple[np.ndarray, int]:
  """What a program of 64-bit integers finds, and how many columns it kept.

  Args:
    room: columns that it has room for at first.
    program: takes `arguments` and the room; returns an array, and how many
      columns it had to keep.
    arguments: passed on.
  """
  while True:
    with jax.enable_x64(True):
      found, count = program(*arguments, room=room)
    if count <= room:
      return np.asarray(found), int(count)
    room *= 16
