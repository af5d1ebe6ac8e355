"""Layers and networks timed on a target: the compiled simulator, called.

A layer is timed at all of its precisions by one call of one compiled function,
whatever layer, network and target it is.
"""

import functools
import importlib.metadata
from typing import NamedTuple

import jax
import numpy as np

from hwsim.latency_table import BITS, LatencyTable
from hwsim.pulp import geometry
from hwsim.pulp.geometry import OPS, Bits, Geometry
from hwsim.pulp.target import Target
from hwsim.pulp.tiling import Tile
from hwsim.pulp.tiling_l3 import L2Tile
from hwsim.pulp.timeline import LayerCycles, Tiling, layer_cycles
from hwsim.workload import Layer, Workload

# XLA's fusion emitters compile this function in 6.6 s of processor time instead
# of 2.9, for code that is a fifth faster; LLVM's level 2 instead of 3 in a
# tenth less, for code that is as fast (level 1 no less; 0: half, 5 times
# slower). What a loop repeats is left in it: a tenth less again, as fast. With
# all of that 2.2 s; tracing takes 0.6 and lowering 0.2 on top. A later XLA may
# not know these options.
OPTIONS: dict[str, bool | int | str] = {}
if importlib.metadata.version("jax").startswith("0.10."):
  OPTIONS["xla_cpu_use_fusion_emitters"] = False
  OPTIONS["xla_backend_optimization_level"] = 2
  OPTIONS["xla_disable_hlo_passes"] = "while-loop-invariant-code-motion"


class Timed(NamedTuple):
  """A layer at all of its precisions; arrays [A, W, O] in the order of `BITS`.

  Attributes:
    cycles: int64 each; without meaning where no tiling fits.
    tiling: how the layer, its channels padded, is cut.
  """

  cycles: LayerCycles
  tiling: Tiling


def latency_table(workload: Workload, target: Target) -> LatencyTable:
  """Cycles of every layer of a network at every precision on a target.

  Each layer is timed alone, its input in L2, as in the published benchmark;
  equal geometries are timed once per process.

  Raises:
    ValueError: a layer fits no tiling of the target, or asks for an operator or
      an activation function that its kernels do not have.
  """
  check_workload(workload, target.name)
  quantized = tuple(site is not None for site in workload.output_sites)
  cycles = [
    layer_table(layer, is_quantized, target)
    for layer, is_quantized in zip(workload.layers, quantized, strict=True)
  ]
  return LatencyTable(
    target.name,
    workload.layers,
    quantized,
    np.stack(cycles),
    ("simulated",) * len(workload.layers),
  )


def layer_table(layer: Layer, quantized: bool, target: Target) -> np.ndarray:
  """Cycles int64[A, W, O] of one layer; constant where a tensor is missing."""
  timed = _timed(layer.geometry, BITS if quantized else (32,) * 3, target)
  fits = timed.tiling.fits_l2 & timed.tiling.fits_l1
  if not fits.all():
    a, w, o = np.argwhere(~fits)[0]
    weight_bits = BITS[w] if layer.has_weights else 8
    bits = BITS[a], weight_bits, BITS[o] if quantized else 32
    _refuse(layer, bits, target, bool(timed.tiling.fits_l2[a, w, o]))
  return timed.cycles.total


def simulate(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
  input_in_l3: bool = False,
) -> LayerCycles:
  """Cycles of one layer on a target at the given precision.

  Args:
    in_bits, weight_bits: 2, 4 or 8; weight bits of a layer without weights do
      not matter.
    out_bits: 2, 4, 8, or 32 for outputs that stay accumulators.
    input_in_l3: whether the layer before left its output in L3. A layer timed
      alone, as in a table, finds its input in L2 if anything fits beside it.

  Raises:
    ValueError: other bits, an operator without a kernel, or a layer that fits
      no tiling.
  """
  bits = in_bits, weight_bits, out_bits
  timed, place = _at(layer, bits, target, input_in_l3)
  tiling = timed.tiling
  if not (tiling.fits_l2[place] and tiling.fits_l1[place]):
    _refuse(layer, bits, target, bool(tiling.fits_l2[place]))
  return LayerCycles(*(int(part[place]) for part in timed.cycles))


def tiles(
  layer: Layer,
  in_bits: int,
  weight_bits: int,
  out_bits: int,
  target: Target,
  input_in_l3: bool = False,
) -> tuple[L2Tile, Tile]:
  """What DORY holds of a layer in L2, and its L1 tile, in whole numbers.

  Raises:
    ValueError: as `simulate`.
  """
  bits = in_bits, weight_bits, out_bits
  timed, place = _at(layer, bits, target, input_in_l3)
  tiling = timed.tiling
  if not (tiling.fits_l2[place] and tiling.fits_l1[place]):
    _refuse(layer, bits, target, bool(tiling.fits_l2[place]))
  part = jax.tree.map(lambda sizes: sizes[place].item(), tiling.in_l2)
  return (
    L2Tile(*map(int, part[:3]), input_in_l3=part.input_in_l3),
    Tile(*(int(sizes[place]) for sizes in tiling.in_l1)),
  )


def check_workload(workload: Workload, target: str) -> None:
  """Raises ValueError, naming the layer, for what no kernel runs.

  So it is found before anything is timed.
  """
  for layer in workload.layers:
    check_op(layer, target)
  for name, function in workload.functions:
    raise ValueError(
      f"layer {name!r}: the kernels of {target!r} end in a ReLU or in "
      f"nothing, not in {function}; take a network without it, or load a table "
      "that was measured on a board (hwsim.latency_io.load)"
    )


def check_op(layer: Layer, target: str) -> None:
  """Raises ValueError if there is no kernel for a layer."""
  if layer.op not in OPS:
    raise ValueError(
      f"layer {layer.name!r}: the kernels of {target!r} have no "
      f"{layer.op}, only {', '.join(OPS)}; take a network without it, or load "
      "a table that was measured on a board (hwsim.latency_io.load)"
    )


def _at(layer, bits, target, input_in_l3) -> tuple[Timed, tuple[int, ...]]:
  """A layer at all precisions, and the place of one."""
  check_op(layer, target.name)
  for what, width, allowed in zip(
    ("input", "weight", "output"), bits, (BITS, BITS, (*BITS, 32)), strict=True
  ):
    if width not in allowed:
      raise ValueError(
        f"layer {layer.name!r}: {what} bits are {width!r}, "
        f"expected one of {allowed}"
      )
  outputs = (32,) * 3 if bits[2] == 32 else BITS
  timed = _timed(layer.geometry, outputs, target, bool(input_in_l3))
  return timed, tuple((*BITS, 32).index(width) % 3 for width in bits)


def grid_of(layer: Layer, out_bits: tuple[int, ...]) -> Bits:
  """The 27 precisions of a layer, float64 each; repeated if it has fewer."""
  weight_bits = BITS if layer.has_weights else (8,) * 3
  grid = np.meshgrid(BITS, weight_bits, out_bits, indexing="ij")
  return Bits(*(width.ravel().astype(np.float64) for width in grid))


@functools.lru_cache(maxsize=10_000)
def _timed(layer, out_bits, target, input_in_l3=False) -> Timed:
  """A layer at 27 precisions; repeated where it has not so many."""
  bits = grid_of(layer, out_bits)
  sizes = Geometry(*map(np.float64, geometry.of_layer(layer)))
  with jax.enable_x64(True):
    timed = _compiled()(sizes, bits, target.constants, input_in_l3)
    timed = jax.device_get(timed)
  cycles, tiling = jax.tree.map(lambda part: part.reshape(3, 3, 3), timed)

  # Exact below 2^53. What fits no tile may be no number at all
  fits = tiling.fits_l2 & tiling.fits_l1
  cycles = LayerCycles(*(np.where(fits, part, 0) for part in cycles))
  if cycles.total.max() >= 2**53:
    raise ValueError(
      f"layer {layer.name!r} takes 2^53 cycles or more on {target.name!r}, "
      "which are not counted exactly; use a faster target"
    )
  return Timed(LayerCycles(*(part.astype(np.int64) for part in cycles)), tiling)


@functools.cache
def _compiled():
  """The simulator over precisions: compiled once for all layers and targets."""

  def one(sizes, bits, target, input_in_l3):
    return layer_cycles(sizes, bits, target, input_in_l3)

  mapped = jax.vmap(one, in_axes=(None, 0, None, None))
  return jax.jit(mapped, compiler_options=OPTIONS)


def _refuse(layer, bits, target, fits_l2):
  """Says which memory a layer does not fit; DORY would stop here too."""
  where = (
    f"layer {layer.name!r} ({layer.op}, {layer.in_channels} -> "
    f"{layer.out_channels} channels, {layer.in_height}x{layer.in_width}"
  )
  at = "/".join(map(str, bits)) + " input/weight/output bits"

  # The error says how much L2 was left, as the share of code is an assumption
  # (`Target.code_reserved_bytes`); and the patch buffers, as no smaller tile
  # makes them smaller.
  if not fits_l2:
    raise ValueError(
      f"{where}) fits no L3 tiling at {at}: target {target.name!r} leaves "
      f"{target.l2_budget_bytes} bytes of L2 to tensors"
      + (" and DORY does not tile additions" if layer.op == "add" else "")
      + "; use a larger l2_bytes or a smaller code_reserved_bytes"
    )
  patch = layer.kernel_height * layer.kernel_width * layer.in_channels
  raise ValueError(
    f"{where}, kernel {layer.kernel_height}x{layer.kernel_width}) fits no tile "
    f"at {at}: even the smallest needs more than the {target.l1_budget_bytes} "
    f"bytes of L1 that target {target.name!r} has"
    + (
      f" (im2col buffers take {2 * target.cores * patch})"
      if layer.op == "conv"
      else ""
    )
    + "; use a target with a larger l1_bytes"
  )
