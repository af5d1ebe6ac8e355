"""What a network costs on the hardware of an experiment: a table of cycles."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fbq.config import ConfigError, brought, require
from fbq.config_words import cut
from fbq.files import user_path
from fbq.lab.settings import OnTarget, OutputBits
from hwsim import latency_io
from hwsim.latency_table import (
  BITS,
  Ladder,
  LatencyTable,
  layer_cycles,
)
from hwsim.targets import Target, get_target, ladder_of, latency_table
from hwsim.workload import Workload

PUBLISHED = 8  # bits of every quantized output in the published benchmark
WORTH_TELLING = 0.01  # of 8/8's cycles: two ways to time that differ by more


class Costs(NamedTuple):
  """The hardware and its cycles.

  Attributes:
    target: simulated hardware; None where every layer was measured.
    table: cycles of every layer at every precision.
    output_bits: bits at which outputs are timed, see `OnTarget`.
  """

  target: Target | None
  table: LatencyTable
  output_bits: OutputBits

  @property
  def name(self) -> str:
    """Name of the hardware."""
    return self.table.target or "the measured board"

  @property
  def cycles(self) -> np.ndarray:
    """int64 [L, A, W, O], or [L, A, W] where outputs are timed at 8 bits."""
    if self.output_bits == "reader":
      return self.table.cycles
    return self.table.for_output_bits(self.output_bits)

  @property
  def for_gates(self) -> np.ndarray:
    """`cycles` along 2, 4 and 8 bits, of which gates choose.

    Where the hardware has not these bits, of the next that it has: an array
    [L, 3, 3] or [L, 3, 3, 3] whatever the ladder.
    """
    activations, weights = (
      [min(i for i, rung in enumerate(rungs) if rung >= bits) for bits in BITS]
      for rungs in self.table.ladder
    )
    found = self.cycles[:, activations][:, :, weights]
    return found[..., activations] if found.ndim == 4 else found

  def by_layer(
    self, workload: Workload, precision: Mapping[str, int]
  ) -> np.ndarray:
    """Cycles int64 [L] of every layer under an assignment."""
    # A layer's own output site has the bits at which it is read.
    own = "site" if self.output_bits == "reader" else self.output_bits
    return layer_cycles(self.table, workload, precision, own)

  def total(self, workload: Workload, precision: Mapping[str, int]) -> int:
    """Cycles of the whole network under an assignment."""
    return int(self.by_layer(workload, precision).sum())

  @property
  def other(self) -> "Costs":
    """The same hardware, its outputs timed the other way."""
    is_own = self.output_bits == "reader"
    return self._replace(output_bits=PUBLISHED if is_own else "reader")

  @property
  def convention(self) -> str:
    """How outputs are timed, in a few words."""
    if self.output_bits == "reader":
      return "outputs at their readers' bits"
    return "8-bit outputs"

  def otherwise(
    self, workload: Workload, precision: Mapping[str, int]
  ) -> dict[str, str]:
    """{the other way to time outputs: change from 8/8's cycles} if it differs.

    Nothing where both ways are within a point of 8/8's cycles, or where what
    was measured tells the one alone.
    """
    measured = any(p.startswith("measured") for p in self.table.provenance)
    if measured and self.output_bits != "reader":
      return {}
    eight = dict.fromkeys(workload.sites, 8) | dict(workload.fixed_bits)
    change, other = (
      costs.total(workload, precision) / costs.total(workload, eight) - 1
      for costs in (self, self.other)
    )
    if abs(other - change) <= WORTH_TELLING:
      return {}
    return {f"with {self.other.convention}": f"{other:+.1%} cycles"}


def build(settings: OnTarget, workload: Workload) -> Costs:
  """The costs of a network; ConfigError if the hardware cannot run it."""
  path = user_path(settings.measured_latency or "")
  target = target_of(settings)
  timed = "site" if settings.output_bits == "reader" else settings.output_bits
  try:
    if target is None:
      precisions = latency_io.ladder_of(path)
      table = latency_io.load(path, workload, timed, precisions)
    else:
      table = latency_table(workload, target)
      if settings.measured_latency:
        table = latency_io.merge(table, path, timed)
  except (ValueError, OSError) as error:
    said = cut(str(error), 1500)
    if target is None and settings.output_bits == "reader":
      said += "; config.output_bits=8 needs rows of 8 output bits alone"
    raise ConfigError(said) from error
  return Costs(target, table, settings.output_bits)


def ladder(settings: OnTarget) -> Ladder:
  """The precisions of the hardware; where all is measured, those of the file.

  Raises:
    ConfigError: the file cannot be read.
  """
  target = target_of(settings)
  if target is not None:
    return ladder_of(target)
  try:
    return latency_io.ladder_of(user_path(settings.measured_latency))
  except (ValueError, OSError) as error:
    raise ConfigError(cut(str(error), 1500)) from error


def target_of(settings: OnTarget) -> Target | None:
  """The hardware that settings name; None if a measured table is all of it.

  Raises:
    ConfigError: an unknown target, or fields that it does not have.
  """
  if not settings.target:
    require(
      bool(settings.measured_latency),
      "target",
      settings.target,
      "the name of a target, or a measured table of every layer in "
      "config.measured_latency",
    )
    require(
      not settings.target_overrides,
      "target_overrides",
      settings.target_overrides,
      "{} where a measured table is the whole target",
    )
    return None
  target = brought("target", settings.target, "target")
  try:
    return get_target(target, settings.target_overrides)
  except ValueError as error:
    raise ConfigError(f"config.target_overrides: {error}") from error
