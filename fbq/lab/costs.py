"""What a network costs on the hardware of an experiment: a table of cycles."""

from typing import NamedTuple

import numpy as np

from fbq.config import ConfigError, brought, require
from fbq.config_words import cut
from fbq.files import user_path
from fbq.lab.settings import OnTarget
from hwsim import latency_io
from hwsim.latency_table import LatencyTable
from hwsim.pulp import Target, get_target, latency_table
from hwsim.workload import Workload

OUTPUT_BITS = 8  # of every quantized output, as in the published benchmark


class Costs(NamedTuple):
  """The hardware and its cycles.

  Attributes:
    target: simulated hardware; None where every layer was measured.
    table: cycles of every layer at every precision.
    cycles: int64 [L, A, W], those with outputs of `OUTPUT_BITS`.
  """

  target: Target | None
  table: LatencyTable
  cycles: np.ndarray

  @property
  def name(self) -> str:
    """Name of the hardware."""
    return self.table.target or "the measured board"


def build(settings: OnTarget, workload: Workload) -> Costs:
  """The costs of a network; ConfigError if the hardware cannot run it."""
  path = user_path(settings.measured_latency or "")
  target = target_of(settings)
  try:
    if target is None:
      table = latency_io.load(path, workload, OUTPUT_BITS)
    else:
      table = latency_table(workload, target)
      if settings.measured_latency:
        table = latency_io.merge(table, path, OUTPUT_BITS)
  except (ValueError, OSError) as error:
    raise ConfigError(cut(str(error), 1500)) from error
  return Costs(target, table, table.for_output_bits(OUTPUT_BITS))


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
