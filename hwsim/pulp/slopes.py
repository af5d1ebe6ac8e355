"""How fast the cycles of a network change with what is assumed.

Derivatives of the compiled simulator with respect to every value of
`doubt.assumptions`, tiles being as they are: what they say is true of small
changes, and cheap where there are many constants. Memories have none, as all
that they change is how layers are cut.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from hwsim.pulp import doubt, geometry, table
from hwsim.pulp.geometry import Bits, Geometry
from hwsim.pulp.target import Target
from hwsim.pulp.timeline import layer_cycles
from hwsim.workload import Layer


def network_slopes(
  layers: Sequence[tuple[Layer, tuple[int, int, int]]], target: Target
) -> dict[str, np.ndarray]:
  """{assumption: change of all cycles for a change of its value by 1}.

  An array [9] where every input and weight precision has a value of its own.

  Args:
    layers: every layer of a network and its (input, weight, output) bits; 8
      for weights that it does not have, 32 for accumulators.
    target: one of `doubt.assumptions`.
  """
  given = doubt.assumptions(target)
  values = {
    each.name: np.full(each.size, each.center).squeeze() for each in given
  }
  total = {name: np.zeros_like(value) for name, value in values.items()}
  with jax.enable_x64(True):
    for layer, bits in layers:
      found = _gradient(target)(
        values,
        Geometry(*np.array(geometry.of_layer(layer), np.float64)),
        Bits(*np.array(bits, np.float64)),
      )
      for name, slope in jax.device_get(found).items():
        total[name] = total[name] + slope
  return total


@functools.lru_cache(maxsize=8)
def _gradient(target: Target):
  """Compiled once for all layers and precisions of a target."""

  def total(values, sizes, bits):
    constants = doubt.with_values(target, values, rounded=False)
    return layer_cycles(sizes, bits, constants, rounded=False)[0].total

  return jax.jit(jax.grad(total), compiler_options=table.OPTIONS)
