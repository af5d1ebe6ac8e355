"""Every target of hwsim by its name, and the simulator of its family."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from hwsim import ne16, pulp
from hwsim.choosing import chosen
from hwsim.latency_table import PULP_LADDER, Ladder, LatencyTable
from hwsim.workload import Layer, Workload

Target = pulp.Target | ne16.Target
TARGETS: tuple[Target, ...] = (*pulp.TARGETS, *ne16.TARGETS)


def latency_table(workload: Workload, target: Target) -> LatencyTable:
  """Cycles of every layer of a network at every precision on a target.

  Raises:
    ValueError: a layer does not run or fit; names the layer.
  """
  if isinstance(target, ne16.Target):
    return ne16.latency_table(workload, target)
  return pulp.latency_table(workload, target)


def simulate(
  layer: Layer, in_bits: int, weight_bits: int, out_bits: int, target: Target
) -> pulp.LayerCycles:
  """Cycles of one layer on a target at the given precision.

  Raises:
    ValueError: other bits than the target has, or a layer that does not run.
  """
  bits = in_bits, weight_bits, out_bits
  if isinstance(target, ne16.Target):
    return ne16.simulate(layer, *bits, target)
  return pulp.simulate(layer, *bits, target)


def ladder_of(target: Target) -> Ladder:
  """The precisions of a target."""
  return target.ladder if isinstance(target, ne16.Target) else PULP_LADDER


def family(target: Target) -> ModuleType:
  """The package of a target: its `many`, tables of many targets at once, and
  its `doubt`, what is assumed, have the same names in each."""
  return ne16 if isinstance(target, ne16.Target) else pulp


def get_target(
  which: str | Target, overrides: Mapping[str, Any] | None = None
) -> Target:
  """The target of that name, or the one given, with some fields replaced.

  Args:
    which: name of one of `TARGETS` or of `pulp.ISS_TARGETS`, or your own.
    overrides: field -> value; None leaves the field. What is replaced stands
      in the name of the result: "xpulpnn_v1 (l1_bytes=128000)".

  Raises:
    ValueError: no target of that name, no such field, or a value of another
      type or out of range; the message has the choices.
  """
  return chosen(which, (*TARGETS, *pulp.ISS_TARGETS), overrides)
