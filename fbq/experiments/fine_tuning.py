"""Fine-tuning of a float network at given bits, by any rule of training.

A `Recipe` is what a stage's settings "qat" stand for; a `FineTuner` carries it
out for any number of assignments, seeds and starts with one compiled step.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from fbq import doors, norms, precision
from fbq.experiments.stage_settings import Demand
from fbq.experiments.stages import Lab, ranges_at
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.ptq.folding import fold
from fbq.quantizers.site_ranges import Ranges, site_ends, site_ranges
from fbq.schemes.fixed import Fixed
from fbq.train import steps
from fbq.train.distillation import Distillation
from fbq.train.loop import Trainer

SETTINGS = {
  "method": str,
  "distillation": float,
  "temperature": float,
  "smoothing": float,
}
KNOWN_RULES = (
  f"one of {tuple(doors.KNOWN['rule'])}, or your own fbq.quantizers.qat_rules."
  "Rule as 'package.module:attribute'"
)


class Recipe(NamedTuple):
  """How a network is trained quantized.

  Attributes:
    scheme: rule and grids.
    norm: of `norms.MODES`.
    freeze_share: of the steps after which batch norms of "correct_then_freeze"
      stand still.
    distillation: from the float network, if any.
    smoothing: decay of averages of what is trained, which are then what is
      evaluated; 0 for none.
  """

  scheme: Fixed = Fixed()
  norm: str = norms.ABSORB
  freeze_share: float = 1.0
  distillation: Distillation | None = None
  smoothing: float = 0.0


def recipe_of(qat: ConfigDict) -> Recipe:
  """The recipe that settings of `SETTINGS` stand for."""
  return Recipe(Fixed(doors.resolve("rule", qat.method)), **options_of(qat))


def options_of(qat: ConfigDict) -> dict[str, Any]:
  """`distillation` and `smoothing` of settings that may have them."""
  share, heat, decay = (
    float(qat[name]) if name in qat else default
    for name, default in (
      ("distillation", 0.0),
      ("temperature", 1.0),
      ("smoothing", 0.0),
    )
  )
  rule = Distillation(share, heat) if share else None
  return {"distillation": rule, "smoothing": decay}


def is_rule(name: str) -> bool:
  """Whether a rule of training stands behind `name`."""
  try:
    doors.resolve("rule", name)
  except doors.DoorError:
    return False
  return True


def demands(qat: ConfigDict, where: str = "qat") -> Iterator[Demand]:
  """What can be asked of settings of `SETTINGS`, see `stage_settings`."""
  for name, is_met, expected in (
    ("method", is_rule, KNOWN_RULES),
    ("distillation", lambda share: 0 <= share <= 1, "0 to 1"),
    ("temperature", lambda heat: 0 < heat < 1e3, "a positive number"),
    ("smoothing", lambda decay: 0 <= decay < 1, "0 to below 1"),
  ):
    if name in qat:
      yield f"{where}.{name}", is_met(qat[name]), expected


def starts(
  net: Net,
  variables: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  recipe: Recipe,
  calibrated: Ranges | None = None,
) -> Ranges:
  """{site: {bits: where training starts}} by the recipe's rule.

  Of those sites that the recipe quantizes: ranges, or, where none is learned,
  the ends [2] of activations.

  Args:
    net: the network.
    variables: of its float model.
    tensors: activation site -> values before quantizers, of
      `stages.activations`.
    recipe: of the training.
    calibrated: of `stages.calibrate`, which are those of the default recipe.
  """
  scheme = recipe.scheme
  if calibrated and (scheme, recipe.norm) == (Fixed(), norms.ABSORB):
    return calibrated
  if not scheme.learns_ranges:
    ends = site_ends(net, tensors)
    found = {site: dict.fromkeys(precision.BITS, e) for site, e in ends.items()}
  else:
    params = variables["params"]
    if recipe.norm == norms.CORRECT:
      params = fold(net, variables)[1]["params"]
    start, per_channel = scheme.rule.start, scheme.form.per_channel
    found = site_ranges(
      net, params, tensors, start=start, per_channel=per_channel
    )
  kind = {"weights": True, "activations": False}.get(scheme.form.quantizes)
  return {
    site: by_bits
    for site, by_bits in found.items()
    if kind is None or site.endswith(".weight") == kind
  }


@dataclasses.dataclass(frozen=True)
class FineTuner:
  """A function (name, variables, starts, assignment, key) -> test accuracy.

  One compiled step and one evaluator serve all calls.

  Attributes:
    lab: of the experiment.
    recipe: of the training.
    stage: its plan is the setting of this name.
    more_steps: than the plan says.
    range_learning_rate: if none, the plan has it.
  """

  lab: Lab
  recipe: Recipe = Recipe()
  stage: str = "fine_tuning"
  more_steps: int = 0
  range_learning_rate: float | None = None

  @functools.cached_property
  def model(self) -> Model:
    return Model(self.lab.net, self.recipe.scheme, self.recipe.norm)

  @functools.cached_property
  def trainer(self) -> Trainer:
    scheme, rate = self.recipe.scheme, self.range_learning_rate
    if rate is None:
      rate = self.lab.config[self.stage].range_learning_rate
    return self.lab.trainer(
      self.stage,
      self.model,
      ("params", "ranges") if scheme.learns_ranges else ("params",),
      more_steps=self.more_steps,
      distillation=self.recipe.distillation,
      smoothing=self.recipe.smoothing,
      range_rule=scheme.rule,
      range_learning_rate=rate,
    )

  @functools.cached_property
  def _correct(self):
    return steps.evaluator(self.model)

  def start(
    self, variables: Mapping[str, Any], starts: Ranges, assignment
  ) -> dict[str, Any]:
    """Variables before training, of a float network's and `starts` of it."""
    kinds = {kind: variables[kind] for kind in ("params", "batch_stats")}
    collection = self.recipe.scheme.collection
    return {**kinds, collection: ranges_at(starts, assignment)}

  def final(self, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What is evaluated and deployed: the smoothed, where there are."""
    kept = {k: v for k, v in variables.items() if k != "smoothed"}
    return kept | variables.get("smoothed", {})

  def accuracy(self, variables: Mapping[str, Any], assignment) -> float:
    """Of final variables on the test images."""
    return self.lab.accuracy(self._correct, variables, assignment)

  def train(self, name, variables, starts, assignment, key):
    """(variables, {"test_accuracy": ..}) after training.

    Args:
      name: of the run, unique in the workdir.
      variables: of the float network, the teacher too.
      starts: see `starts`.
      assignment: bits of every site.
      key: of the batches.
    """
    run = {"key": key, "bits": self.lab.bits(assignment)}
    if self.recipe.norm == norms.CORRECT:
      last = round(self.recipe.freeze_share * self.trainer.steps)
      run["freeze_step"] = jnp.int32(last)
    if self.recipe.distillation is not None:
      kinds = ("params", "batch_stats")
      run["teacher"] = {kind: variables[kind] for kind in kinds}
    return self.lab.run(
      name,
      "fine-tuning",
      self.trainer,
      self.start(variables, starts, assignment),
      run,
      lambda v: {"test_accuracy": self.accuracy(self.final(v), assignment)},
    )

  def __call__(
    self,
    name: str,
    variables: Mapping[str, Any],
    starts: Ranges,
    assignment: precision.Precision,
    key: jax.Array,
  ) -> float:
    return self.train(name, variables, starts, assignment, key)[1][
      "test_accuracy"
    ]
