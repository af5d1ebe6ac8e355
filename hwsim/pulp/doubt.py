"""What is assumed of a PULP cluster, within which range, and by whom.

Every constant that nobody measured on the hardware that is simulated has a
range here, or in kernel_doubt.py, with its source in docs/facts/pulp.md.
`draws` gives targets within all ranges at once, for `many.latency_tables`. An
assumption is written in `jax.numpy`, so that it may be derived, too; constants
that go together are one assumption.

A range goes from what one source says to what another does. Where the target
takes one of the two, it stands at an end of the range, and draws differ from it
in one direction (`Assumption.end`).
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from hwsim.assumption import Assumption, drawn, ends_of
from hwsim.pulp.geometry import Number
from hwsim.pulp.kernel_doubt import of_kernels
from hwsim.pulp.target import Constants, Target


def assumptions(target: Target) -> tuple[Assumption, ...]:
  """All that is assumed of a target whose kernels are timed as on GVSOC.

  A value of the target outside of a range widens the range to it.

  Raises:
    ValueError: kernels are timed otherwise: their doubts were not measured.
  """
  if target.timing != "gvsoc":
    raise ValueError(
      f"target {target.name!r} times kernels by {target.timing!r}, expected "
      "'gvsoc': ranges are told of what that simulator showed"
    )
  fields = [_field(target, *row) for row in _FIELDS]
  return (*fields, _software(), *of_kernels(target))


# Field, low, high, step, source
_FIELDS = (
  (
    *("code_reserved_bytes", 120_000, 160_000, 1_000),
    "code of MobileNetV1 and V2 in dory_examples (1.1)",
  ),
  (
    *("dma_command_cycles", 2.5, 12, 0.25),
    "2.5 measured on GVSOC; 12 in MATCH's model of GAP9 (correction 2, 3)",
  ),
  (
    *("l3_bytes_per_cycle", 0.5, 0.65, 0),
    "50 MB/s in GVSOC's HyperRAM; 65 MB/s on GAP8 (3)",
  ),
  (
    *("l3_setup_cycles", 750, 3_000, 1),
    "1,500 inferred; halved and doubled (3)",
  ),
)


def _field(target, name, low, high, step, source) -> Assumption:
  own = float(getattr(target, name))

  def apply(constants, value):
    if name == "code_reserved_bytes":
      return constants._replace(l2_budget_bytes=target.l2_bytes - value)
    return constants._replace(**{name: value})

  return Assumption(
    name, own, min(low, own), max(high, own), source, apply, step
  )


def _software() -> Assumption:
  names = ("tile_cycles", "channel_tile_cycles", "layer_start_cycles")

  def apply(constants, factor):
    scaled = {name: getattr(constants, name) * factor for name in names}
    return constants._replace(**scaled)

  return Assumption(
    "software, times",
    *(1.0, 0.95, 1.03),
    "389 cycles a tile measured with clang; 370 in MATCH's model, 400 assumed "
    "before (correction 3, 3)",
    apply,
  )


# ---- Targets within the ranges


def with_values(
  target: Target, values: Mapping[str, Number], rounded: bool = True
) -> Constants:
  """The constants of a target where assumptions have some values.

  Args:
    target: the target.
    values: by name; assumptions left out keep the target's.
    rounded: coefficients of kernels in whole hundredths and software in whole
      cycles, so that sums are exact; else there are derivatives.
  """
  constants = target.constants
  for each in assumptions(target):
    if each.name in values:
      constants = each.apply(constants, values[each.name])
  return _rounded(constants) if rounded else constants


def _rounded(constants):
  hundredths = jax.tree.map(
    lambda part: jnp.rint(100 * part) / 100, constants.kernels
  )
  names = ("tile_cycles", "channel_tile_cycles", "layer_start_cycles")
  whole = {name: jnp.rint(getattr(constants, name)) for name in names}
  return constants._replace(kernels=hundredths, **whole)


def draws(
  target: Target, count: int, seed: int = 0
) -> tuple[Constants, dict[str, np.ndarray]]:
  """Constants of `count` draws, each with a first axis, and what was drawn.

  Args:
    target: the target, whose own values are not among the draws.
    count: how many draws.
    seed: of the random numbers.

  Returns:
    (constants, {name: [count] or [count, 9]}).
  """
  values = drawn(assumptions(target), count, seed)
  return stacked(target, values), values


def ends(target: Target) -> dict[str, Constants]:
  """{name: constants [2] at the low and the high end of that range alone}.

  Where every precision has a value of its own all are at the same end.
  """
  return {
    name: stacked(target, {name: values})
    for name, values in ends_of(assumptions(target)).items()
  }


def stacked(target: Target, values: Mapping[str, np.ndarray]) -> Constants:
  """Constants with a first axis [H] from values that have one."""
  with jax.enable_x64(True):
    made = jax.vmap(functools.partial(with_values, target))(dict(values))
    count = len(next(iter(values.values())))
    return jax.tree.map(
      lambda part: np.broadcast_to(part, (count, *part.shape[1:])),
      jax.device_get(made),
    )
