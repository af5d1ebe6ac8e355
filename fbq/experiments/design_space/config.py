"""What a design space can be set to, and its checks before it is timed."""

import itertools
import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from fbq import precision
from fbq.config import ConfigError, Expected, Seed, Settings, brought, require
from fbq.files import user_path
from fbq.lab.lab import Lab
from fbq.lab.settings import Bits, NetSettings, OutputBits
from fbq.nets.graph import Net
from fbq.search import problem
from fbq.search.value import Values, from_harm
from hwsim import reading
from hwsim.latency_table import Ladder
from hwsim.targets import (
  Target,
  family,
  get_target,
  ladder_of,
  latency_table,
)

MOST = 20_000  # designs
_Value = int | float | str
Fields = Annotated[
  dict[str, tuple[_Value, ...]],
  Expected("{field of the target: the values that it takes, ...}"),
]


class DesignSpace(Settings):
  """Targets over ranges of their fields, and one within its doubts."""

  experiment: str
  "Experiment: a short name, or 'package.module:attribute'."
  net: NetSettings = NetSettings()
  "Network that is costed."
  target: str = "xpulpnn_v1"
  "Hardware, a PULP cluster or NE16: a short name, or \
  'package.module:attribute'."
  target_overrides: dict[str, int | float | str] = {}
  "Fields of the target that differ."
  fields: Fields = {}
  "Values of fields that are tried, all with all: l1_bytes, conv_library or \
  any other of the target. The two of most values are the axes of the \
  heat map."
  output_bits: OutputBits = 8
  "Bits at which outputs are timed: 8, as published, or 'reader'."
  least_bits: Bits = 4
  "What the best assignment may not go below: it is the fastest of those that \
  are nowhere less precise than these bits, the Free Bits pass made exact."
  sensitivities: str = ""
  "sensitivities.json of a run of the exact choice, whose harms are then the \
  proxy of accuracy; '': 4^-bits of every tensor, the power of its rounding."
  measure: str = "kl"
  "Which harm of that file: kl, loss or mse."
  draws: int = Field(200, ge=0, le=100_000)
  "Draws of all that is assumed of the target, within the ranges of \
  the doubt.py of its family; 0: no intervals."
  seed: Seed = 0
  "Seed of the draws."
  quantile: float = Field(0.9, ge=0.5, le=1)
  "Share of the draws in which the careful passes keep what they promise."
  precisions: str = ""
  "Folder of assignments (precision/*.json of a run), whose order is judged."


def target_of(settings: DesignSpace) -> Target:
  """The target in the middle; ConfigError if it is none."""
  own = brought("target", settings.target, "target")
  try:
    return get_target(own, settings.target_overrides)
  except ValueError as error:
    raise ConfigError(f"config.target_overrides: {error}") from error


def designs(settings: DesignSpace) -> Iterator[tuple[tuple, Target]]:
  """(values of the fields, target) of every design, the last field fastest."""
  own = target_of(settings)
  for values in itertools.product(*settings.fields.values()):
    overrides = dict(zip(settings.fields, values, strict=True))
    yield values, get_target(own, overrides)


def uniforms(net: Net, ladder: Ladder) -> dict[str, dict[str, int]]:
  """Name -> bits of the uniform networks of 8, 4 and 2 bits, as hardware has
  them: "8/4" where activations have 8 bits only."""
  found = {}
  for bits in (8, 4, 2):
    most = min(rung for rung in ladder.activations if rung >= bits)
    found[f"{most}/{bits}"] = ladder.at_least(precision.uniform(net, bits))
  return found


def values_of(settings: DesignSpace, lab: Lab) -> Values:
  """What each precision of each tensor is worth: minus its harm."""
  net, rungs = lab.net, ladder_of(target_of(settings))
  if not settings.sensitivities:
    power = {site: {b: 4.0**-b for b in rungs.of(site)} for site in _free(lab)}
    return from_harm(net, power)
  path = user_path(settings.sensitivities)
  try:
    measured = reading.json_of(path)
    harm = {
      site: {
        int(bits): float(of[settings.measure]) for bits, of in found.items()
      }
      for site, found in measured.items()
    }
    values = from_harm(net, harm)
    problem.make(net.workload, {}, values, ladder=rungs)
  except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
    raise ConfigError(
      f"config.sensitivities: {path} does not hold {settings.measure!r} of "
      f"every tensor of {net.name}: {error}; give sensitivities.json of a run "
      "of configs/digits_exact.py for this network"
    ) from error
  return values


def _free(lab):
  return lab.net.workload.free_sites


def check(settings: DesignSpace, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; times nothing."""
  own = target_of(settings)
  count = math.prod(len(values) for values in settings.fields.values())
  require(
    0 < count <= MOST,
    "fields",
    {name: len(values) for name, values in settings.fields.items()},
    f"values of each, 1 to {MOST:,} together",
  )
  for name, values in settings.fields.items():
    require(
      len(set(values)) == len(values),
      f"fields.{name}",
      values,
      "no value twice",
    )
  try:
    for _ in designs(settings):
      pass
  except ValueError as error:
    raise ConfigError(f"config.fields: {error}") from error
  try:
    latency_table(lab.net.workload, own)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  if settings.draws:
    try:
      family(own).doubt.assumptions(own)
    except ValueError as error:
      raise ConfigError(f"config.draws: {error}; or 0") from error
  values_of(settings, lab)
  if settings.precisions:
    folder = user_path(settings.precisions)
    require(
      folder.is_dir() and any(folder.glob("*.json")),
      "precisions",
      settings.precisions,
      "a folder of assignments, as precision/ of a run",
    )
