"""Layers on many targets at once: ranges of a design, draws of what is assumed.

    constants = stack([dataclasses.replace(GAP9_NE16, l1_bytes=size) for ...])
    latency_tables(workload, constants)          # int64 cycles[H, L, 1, 7, 1]

All of NE16's code is of `H` targets (`timeline.layer_cycles`): tiles are chosen
for all of them in one array, and targets that cut a layer alike are timed
together. What runs on the cores takes the compiled programs of
`hwsim.pulp.many`.
"""

from collections.abc import Sequence

import numpy as np

from hwsim import pulp
from hwsim.latency_table import BITS, Ladder
from hwsim.ne16.kernels import mode_of
from hwsim.ne16.target import GAP9_NE16, Constants, Target
from hwsim.ne16.timeline import layer_cycles
from hwsim.pulp.many import Tables, joined
from hwsim.workload import Layer, Workload


def stack(targets: Sequence[Target]) -> Constants:
  """The constants of `H` targets: each an array with a first axis [H]."""
  return joined(target.constants for target in targets)


def latency_tables(workload: Workload, constants: Constants) -> Tables:
  """Cycles of every layer at every precision on many targets.

  Those that `hwsim.ne16.latency_table` gives of each of them.

  Args:
    workload: `L` layers; equal geometries are timed once.
    constants: those of `H` targets, see `stack`.

  Raises:
    ValueError: an operator or an activation function that neither NE16 nor the
      cores have; names the layer.
  """
  check_functions(workload)
  keys = []
  for layer, site in zip(workload.layers, workload.output_sites, strict=True):
    if mode_of(layer) is None:
      pulp.table.check_op(layer, "the cores")
    keys.append((layer.geometry, site is not None))
  ladder = GAP9_NE16.ladder
  found = {
    key: _of_layer(*key, constants, ladder) for key in dict.fromkeys(keys)
  }
  cycles = np.stack([found[key][0] for key in keys], axis=1)
  fits = np.stack([found[key][1] for key in keys], axis=1)
  return Tables(cycles, fits, fits)


def check_functions(workload: Workload) -> None:
  """Raises ValueError, naming the layer, for what no kernel ends in."""
  for name, function in workload.functions:
    raise ValueError(
      f"layer {name!r}: NE16 and the kernels of the cores end in a ReLU or in "
      f"nothing, not in {function}; take a network without it, or load a table "
      "that was measured on a board (hwsim.latency_io.load)"
    )


def _of_layer(
  layer: Layer, quantized: bool, constants: Constants, ladder: Ladder
) -> tuple[np.ndarray, np.ndarray]:
  """(int64[H, 1, W, 1], bool[H]): cycles, 0 where it does not fit; whether it
  fits at all bits of its weights."""
  if mode_of(layer) is None:
    tables, *_ = pulp.many.of_layer(layer, quantized, constants.cores)
    at_8 = BITS.index(8)
    cycles = tables[:, at_8, at_8, at_8]
    fits = cycles > 0
    cycles = np.rint(cycles * constants.cores_times).astype(np.int64)[:, None]
  else:
    out_bytes = 1 if quantized else 4
    timed = [
      layer_cycles(layer, bits, out_bytes, constants)
      for bits in (ladder.weights if layer.has_weights else (8,))
    ]
    cycles = np.stack([each.cycles.total for each in timed], axis=1)
    fits = np.all([each.fits_l2 & each.fits_l1 for each in timed], axis=0)
  shape = len(cycles), 1, len(ladder.weights), 1
  return np.broadcast_to(cycles[:, None, :, None], shape), fits
