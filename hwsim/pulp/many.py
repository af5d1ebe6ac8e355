"""Layers on many targets at once: ranges of a design, draws of what is assumed.

    constants = stack([dataclasses.replace(XPULPNN_V1, l1_bytes=size) for ...])
    latency_tables(workload, constants)            # int64 cycles[H, L, A, W, O]

The compiled simulator of `table.py`, mapped over `H` targets besides the 27
precisions, in two programs: how a layer is cut, which memories alone decide, is
worked out once for all targets that share theirs; then its cycles. Targets come
in chunks of one size, so that each program is compiled once.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from hwsim.latency_table import (
  BITS,
  PULP_LADDER,
  Ladder,
  OutputBits,
  encode,
)
from hwsim.pulp import geometry, table, timeline
from hwsim.pulp.geometry import Geometry
from hwsim.pulp.target import Constants, Target
from hwsim.workload import Layer, Workload

T = TypeVar("T")

# What decides how a layer is cut
MEMORIES = (
  *("l1_budget_bytes", "l2_budget_bytes", "double_buffering"),
  *("constant_bits", "bias_bits"),
)
_CUTS, _TARGETS = 4, 16  # at once


class Tables(NamedTuple):
  """Cycles on `H` targets.

  Attributes:
    cycles: int64[H, L, A, W, O], as those of a `LatencyTable`; 0 where a layer
      does not fit.
    fits: bool[H, L], whether a layer runs at all of its precisions.
    fits_at_8: the same with outputs of 8 bits alone, which need other room.
  """

  cycles: np.ndarray
  fits: np.ndarray
  fits_at_8: np.ndarray


def stack(targets: Sequence[Target]) -> Constants:
  """The constants of `H` targets: each an array with a first axis [H]."""
  return jax.tree.map(
    lambda *values: np.stack(values), *(each.constants for each in targets)
  )


def joined(parts: Iterable[T]) -> T:
  """Constants of a family with a first axis each, one behind the other."""
  return jax.tree.map(lambda *values: np.concatenate(values), *parts)


def latency_tables(workload: Workload, constants: Constants) -> Tables:
  """Cycles of every layer at every precision on many targets.

  Those that `hwsim.pulp.latency_table` gives of each of them.

  Args:
    workload: `L` layers; equal geometries are timed once.
    constants: those of `H` targets, see `stack`.

  Raises:
    ValueError: an operator or an activation function without a kernel; names
      the layer.
  """
  table.check_workload(workload, "these targets")
  keys = [
    (layer.geometry, site is not None)
    for layer, site in zip(workload.layers, workload.output_sites, strict=True)
  ]
  found = {key: of_layer(*key, constants) for key in dict.fromkeys(keys)}
  parts = [[found[key][i] for key in keys] for i in range(3)]
  return Tables(*(np.stack(part, axis=1) for part in parts))


def network_cycles(
  cycles: np.ndarray,
  workload: Workload,
  precision: Mapping[str, int],
  output_bits: OutputBits = 8,
  ladder: Ladder = PULP_LADDER,
) -> np.ndarray:
  """Cycles int64[H] of a network under one assignment on `H` targets.

  Args:
    cycles: int64[H, L, A, W, O] of `latency_tables`.
    workload: names the precision sites.
    precision: bits of every free site.
    output_bits: as in `hwsim.latency_table.layer_cycles`.
    ladder: precisions of the targets.
  """
  row = np.array([list(workload.site_bits(precision).values())])
  [codes] = encode(workload, row, output_bits=output_bits, ladder=ladder)
  if output_bits != "site":
    cycles = cycles[..., ladder.activations.index(output_bits)]
  flat = cycles.reshape(*cycles.shape[:2], -1)
  return flat[:, np.arange(len(codes)), codes].sum(axis=1)


def of_layer(
  layer: Layer, quantized: bool, constants: Constants
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(int64[H, A, W, O], bool[H], bool[H]) of one layer, see `Tables`."""
  bits = table.grid_of(layer, BITS if quantized else (32,) * 3)
  sizes = Geometry(*np.array(geometry.of_layer(layer), np.float64))
  memories = np.stack([getattr(constants, name) for name in MEMORIES], axis=1)
  distinct, of_target = np.unique(memories, axis=0, return_inverse=True)

  with jax.enable_x64(True):
    # How it is cut, by what is distinct among memories
    first = jax.tree.map(lambda values: values[0], constants)
    cuts = _chunked(
      lambda rows: _cuts()(sizes, bits, first, rows), distinct, _CUTS
    )
    cuts = jax.tree.map(lambda values: values[of_target.ravel()], cuts)

    # What that takes on each target
    total = _chunked(
      lambda rows: _cycles()(sizes, bits, *rows), (cuts, constants), _TARGETS
    )

  # What fits no tile may be no number at all
  fits = cuts.fits_l1 & cuts.fits_l2
  total = np.where(fits, total, 0)
  if total.max(initial=0) >= 2**53:
    raise ValueError(
      f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
      f"{layer.out_channels} channels) takes 2^53 cycles or more on one of "
      "these targets, which are not counted exactly; use faster ones"
    )
  at_8 = fits.reshape(-1, 3, 3, 3)[..., BITS.index(8)]
  return (
    total.astype(np.int64).reshape(-1, 3, 3, 3),
    fits.all(axis=1),
    at_8.all(axis=(1, 2)),
  )


def _chunked(function, rows, size):
  """What a function of `size` rows gives of any number; the last repeats."""
  count = len(jax.tree.leaves(rows)[0])
  found = []
  for start in range(0, count, size):
    at = np.minimum(np.arange(start, start + size), count - 1)
    part = function(jax.tree.map(lambda values, at=at: values[at], rows))
    found.append(jax.device_get(part))
  return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *found)


@functools.cache
def _cuts():
  """Tilings over memories [M, 5] and precisions, compiled once."""

  def one(sizes, bits, target, memories):
    target = target._replace(**dict(zip(MEMORIES, memories, strict=True)))
    return timeline.tiling(sizes, bits, target, np.False_)

  over_bits = jax.vmap(one, in_axes=(None, 0, None, None))
  mapped = jax.vmap(over_bits, in_axes=(None, None, None, 0))
  return jax.jit(mapped, compiler_options=table.OPTIONS)


@functools.cache
def _cycles():
  """Cycles over targets, each with its tilings, and precisions."""

  def one(sizes, bits, cut, target):
    return timeline.cycles_as_cut(sizes, bits, cut, target).total

  over_bits = jax.vmap(one, in_axes=(None, 0, 0, None))
  mapped = jax.vmap(over_bits, in_axes=(None, None, 0, 0))
  return jax.jit(mapped, compiler_options=table.OPTIONS)
