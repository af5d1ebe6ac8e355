"""Every target of hwsim by its name, and the simulator of its family."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from hwsim import ne16, pulp
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


def get_target(
  which: str | Target, overrides: Mapping[str, Any] | None = None
) -> Target:
  """The target of that name, or the one given, with some fields replaced.

  Args:
    which: name of one of `TARGETS`, or your own.
    overrides: field -> value; None leaves the field. What is replaced stands
      in the name of the result: "xpulpnn_v1 (l1_bytes=128000)".

  Raises:
    ValueError: no target of that name, no such field, or a value of another
      type or out of range; the message has the choices.
  """
  by_name = {target.name: target for target in TARGETS}
  target = by_name.get(which) if isinstance(which, str) else which
  if not isinstance(target, Target):
    raise ValueError(
      f"unknown target {which!r}; expected one of {list(by_name)}, or your own "
      "Target"
    )

  given = {k: v for k, v in (overrides or {}).items() if v is not None}
  fields = [f.name for f in dataclasses.fields(target) if f.name != "name"]
  for name in given:
    if name not in fields:
      close = difflib.get_close_matches(name, fields, 1)
      hint = f"; did you mean {close[0]!r}?" if close else "."
      raise ValueError(
        f"target {target.name!r} has no field {name!r}{hint} It has "
        f"{', '.join(fields)}."
      )
  if not given:
    return target
  said = ", ".join(f"{name}={value}" for name, value in given.items())
  return dataclasses.replace(target, name=f"{target.name} ({said})", **given)
