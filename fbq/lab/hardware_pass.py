"""The hardware pass of an experiment: by the target's cycles, or with care."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from pydantic import Field

from fbq.config import ConfigError, Settings, Share, require
from fbq.lab.costs import Costs
from fbq.lab.settings import OnTarget
from fbq.search import quantile
from fbq.search.free_bits import Raise, changes, free_bits
from fbq.search.problem import layer_factors
from hwsim.pulp import Target, doubt, many
from hwsim.workload import Workload


class Care(Settings):
  """How the hardware pass takes what is assumed of the target."""

  quantile: Share = 0.0
  "0: the pass lowers the cycles of the target; else what the network takes in \
  this share of the draws of all that is assumed of it."
  draws: int = Field(100, ge=1, le=10_000)
  "Draws, within the ranges of hwsim/pulp/doubt.py."


class HardwarePass(NamedTuple):
  """The Free Bits pass on the costs of an experiment.

  Attributes:
    costs: target and its cycles.
    care: how it takes what is assumed of it.
    drawn: cycles [H, L, A, W] or [H, L, A, W, O] of the draws, if it does.
  """

  costs: Costs
  care: Care
  drawn: np.ndarray | None = None

  def __call__(
    self, workload: Workload, precision: Mapping[str, int]
  ) -> tuple[dict[str, int], list[Raise]]:
    """(assignment after the pass, changes by layer in the target's cycles)."""
    ladder, cycles = self.costs.table.ladder, self.costs.cycles
    if self.drawn is None:
      return free_bits(workload, cycles, precision, ladder)
    start = ladder.at_least(precision)
    bits = quantile.free_bits(
      workload, self.drawn, start, self.care.quantile, ladder
    )
    factors = layer_factors(workload, cycles, ladder)
    return bits, changes(workload, factors, start, bits, ladder)


def of(
  settings: OnTarget, care: Care, costs: Costs, workload: Workload
) -> HardwarePass:
  """The pass of an experiment; ConfigError where nothing can be drawn."""
  if not care.quantile:
    return HardwarePass(costs, care)
  if not isinstance(costs.target, Target) or settings.measured_latency:
    raise ConfigError(
      f"config.care.quantile is {care.quantile}, expected 0 where cycles were "
      "measured or are not of a PULP cluster: there is nothing to draw"
    )
  try:
    constants, _ = doubt.draws(costs.target, care.draws)
    found = many.latency_tables(workload, constants)
  except ValueError as error:
    raise ConfigError(f"config.care.quantile: {error}; or 0") from error
  misfit = workload.layers[int(np.argmin(found.fits.all(axis=0)))].name
  require(
    bool(found.fits.all()),
    "care.quantile",
    care.quantile,
    f"0, or a target that {misfit!r} fits in every draw",
  )
  own = costs.output_bits == "reader"
  cycles = found.cycles if own else found.cycles[..., -1]
  return HardwarePass(costs, care, cycles)
