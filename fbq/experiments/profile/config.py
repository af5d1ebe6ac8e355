"""What a latency profile can be set to, and its checks before anything runs."""

import dataclasses
from typing import Annotated

from pydantic import Field

from fbq.config import ConfigError, Seed, Settings, brought
from fbq.lab.lab import Lab
from fbq.lab.settings import NetSettings
from hwsim import pulp
from hwsim.targets import Target, family, get_target, ladder_of, simulate
from hwsim.workload import Workload

# Enough of the precisions to find out whether every one fits: the widest, the
# narrowest, and mixtures whose channels come in fours.
_CORNERS = ((8, 8, 8), (2, 2, 2), (8, 2, 8), (2, 8, 8), (2, 8, 2), (8, 2, 2))


class Profiling(Settings):
  """A latency profile; nothing is trained."""

  experiment: str
  "Experiment: a short name, or 'package.module:attribute'."
  net: NetSettings = NetSettings()
  "Network that is costed."
  target: str = "xpulpnn_v1"
  "Hardware that is looked at closely: a short name, or \
  'package.module:attribute'. A PULP cluster stands beside the three of \
  hwsim.pulp, NE16 alone."
  target_overrides: dict[str, int | float | str] = {}
  "Fields of all targets that differ, such as l1_bytes."
  l2_sweep_bytes: tuple[Annotated[int, Field(ge=-(10**9), le=10**9)], ...] = (
    tuple(range(-80_000, 164_000, 4_000))
  )
  "Changes of the L2 left to tensors that are tried, in bytes."
  draws: int = Field(100, ge=0, le=100_000)
  "Draws of all that is assumed of the target, within the ranges of the \
  doubt.py of its family; 0: no intervals."
  seed: Seed = 0
  "Seed of the draws."


def compared(settings: Profiling) -> tuple[Target, list[Target]]:
  """The target of the settings, and all that are compared, it among them."""
  own = brought("target", settings.target, "target")
  stock = [own]
  if isinstance(own, pulp.Target):
    stock = [*pulp.TARGETS, *([] if own in pulp.TARGETS else [own])]
  try:
    get_target(own, settings.target_overrides)  # told first where it is wrong
    targets = [get_target(each, settings.target_overrides) for each in stock]
  except ValueError as error:
    raise ConfigError(f"config.target_overrides: {error}") from error
  return targets[stock.index(own)], targets


def check(settings: Profiling, lab: Lab) -> None:
  """Raises ConfigError for what cannot work.

  It names the layer that fits no tiling, and overrides with which it would.
  """
  workload = lab.net.workload
  target, targets = compared(settings)
  try:
    for each in (target, *targets):
      check_fits(workload, each)
  except ValueError as error:
    sizes = enough_memory(workload, target)
    overrides = (
      f'--config.target_overrides="{settings.target_overrides | sizes}"'
    )
    hint = f" This network runs with {overrides}" if sizes else ""
    raise ConfigError(f"{error}.{hint}") from error


def has_ranges(target: Target) -> bool:
  """Whether ranges are told of how the target is timed."""
  try:
    family(target).doubt.assumptions(target)
  except ValueError:
    return False
  return True


def check_fits(workload: Workload, target: Target) -> None:
  """Raises ValueError, naming the layer, if the target cannot run the net."""
  ladder = ladder_of(target)
  corners = [
    (a, w, o)
    for a, w, o in _CORNERS
    if {a, o} <= {*ladder.activations} and w in ladder.weights
  ]
  for layer, site in zip(workload.layers, workload.output_sites, strict=True):
    for in_bits, weight_bits, out_bits in corners:
      out_bits = out_bits if site is not None else 32
      simulate(layer, in_bits, weight_bits, out_bits, target)


def enough_memory(workload: Workload, target: Target) -> dict[str, int]:
  """Least doublings of L1 and L2 on which the network runs; {} for none."""
  steps = sorted(
    ((i, j) for i in range(6) for j in range(6)), key=lambda ij: (sum(ij), ij)
  )
  for i, j in steps:
    sizes = {"l1_bytes": target.l1_bytes << i, "l2_bytes": target.l2_bytes << j}
    try:
      check_fits(workload, dataclasses.replace(target, **sizes))
    except ValueError:
      continue
    return {k: v for k, v in sizes.items() if v != getattr(target, k)}
  return {}
