"""What the exact choice can be set to, and its checks before any training."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from fbq import precision
from fbq.config import Check, ConfigError, Expected, Settings
from fbq.lab import fine_tuning
from fbq.lab.lab import Lab
from fbq.lab.settings import Judged, OnTarget, Seeds, Training
from fbq.search import constraints, exact, problem

Budget = Annotated[float, Field(gt=0, le=1)]
Budgets = Annotated[
  tuple[Budget, ...],
  Check(
    lambda shares: (
      bool(shares) and len({f"{s:.0%}" for s in shares}) == len(shares)
    ),
    "shares of the cycles at 8 bits, above 0 to 1, 1 % apart",
  ),
]
Bytes = Annotated[int, Field(ge=1, le=10**12)]


class Limits(Settings):
  """Memory that an assignment may take."""

  weight_bytes: Bytes = 10**9
  "Bytes of flash for the weights."
  peak_bytes: Bytes = 10**9
  "Bytes of L2 for the activations that live at one time; weights and code, \
  which may lie there too, are not counted."


class Exact(Judged, OnTarget, Training):
  """Precisions without a search by training, chosen exactly."""

  seeds: Seeds = (0,)
  "Seeds of everything that is drawn; the whole pipeline for each."
  calibration_images: int = Field(512, ge=1, le=10**7)
  "Training images on which ranges are calibrated and harm is measured."
  value: Literal["kl", "loss", "mse"] = "kl"
  "What makes a precision harmful, see `fbq.search.sensitivity.OutputChange`."
  budgets: Budgets = (0.75, 0.8, 0.85, 0.9, 0.95)
  "Budgets, as shares of the cycles at 8 bits."
  limits: Limits = Limits()
  "Limits on memory."
  bounds: Annotated[
    tuple[tuple[str, int, int], ...],
    Expected("triples (regular expression, least bits, most bits)"),
  ] = ()
  "(regular expression over tensors, least bits, most bits)."
  ties: Annotated[
    tuple[str | tuple[str, ...], ...],
    Expected("regular expressions, or lists of tensors"),
  ] = ()
  "Regular expressions, or lists of tensors, that share one precision."


def check(settings: Exact, lab: Lab) -> None:
  """Raises ConfigError for what cannot work; of limits, says what could."""
  fine_tuning.recipe_of(settings.qat)
  workload, _ = lab.net.workload, lab.task
  groups = _named("ties", constraints.tie, workload, ties_of(settings))
  _named(
    "bounds",
    constraints.allowed_bits,
    workload,
    groups,
    settings.bounds,
    lab.ladder,
  )
  share = min(settings.budgets)
  cycles = eight_cycles(lab)
  _named(
    f"budgets of {share:g} x {cycles} cycles, under config.limits, bounds and "
    "ties",
    exact.best_value,
    problem_of(settings, lab, None),
    [int(share * cycles)],
  )


def problem_of(settings: Exact, lab: Lab, values: Any) -> problem.Problem:
  """The choice under the settings' limits, bounds and ties.

  Args:
    settings: limits, bounds and ties.
    lab: network and its cycles.
    values: {site: {bits: higher is better}}, or None.
  """
  return problem.make(
    lab.net.workload,
    {"cycles": lab.costs.cycles},
    values,
    bounds=settings.bounds,
    ties=ties_of(settings),
    limits=settings.limits.model_dump(),
    ladder=lab.ladder,
  )


def eight_cycles(lab: Lab) -> int:
  """Cycles of uniform 8 bits."""
  return lab.costs.total(lab.net.workload, precision.uniform(lab.net, 8))


def ties_of(settings: Exact) -> list[str | list[str]]:
  """The ties as `fbq.search.constraints` takes them."""
  return [tie if isinstance(tie, str) else list(tie) for tie in settings.ties]


def _named(setting: str, function: Callable, *arguments):
  """What the function gives, or its ValueError with the setting's name."""
  try:
    return function(*arguments)
  except ValueError as error:
    raise ConfigError(f"config.{setting}: {error}") from error
