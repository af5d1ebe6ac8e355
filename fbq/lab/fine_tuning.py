"""Fine-tuning of a float network at given bits, by any rule of training.

A `Recipe` is what the settings "qat" stand for; a `FineTuner` carries it out
for any number of assignments, seeds and starts with one compiled step.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from fbq import norms, precision
from fbq.config import brought
from fbq.lab.calibration import ranges_at
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.lab.settings import Distilled, FineTuning, Qat, Stage
from fbq.model import Model
from fbq.nets.graph import Net
from fbq.ptq.folding import fold
from fbq.quantizers.site_ranges import Ranges, site_ends, site_ranges
from fbq.schemes.fixed import Fixed
from fbq.train import evaluation
from fbq.train.distillation import Distillation
from fbq.train.loop import Trainer


class Recipe(NamedTuple):
  """How a network is trained quantized.

  Attributes:
    scheme: rule and grids.
    norm: how batch norms are trained, one of `norms.MODES`.
    freeze_share: share of steps after which norms of "correct_then_freeze"
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


def recipe_of(qat: Qat) -> Recipe:
  """The recipe that settings stand for; ConfigError for an unknown rule."""
  rule = brought("rule", qat.method, "qat.method")
  return Recipe(Fixed(rule), **options_of(qat))


def options_of(qat: Qat) -> dict[str, Any]:
  """`distillation` and `smoothing` of a recipe."""
  return {"distillation": distillation_of(qat), "smoothing": qat.smoothing}


def distillation_of(settings: Distilled) -> Distillation | None:
  """The distillation that settings stand for; None where it counts nothing."""
  if not settings.distillation:
    return None
  return Distillation(settings.distillation, settings.temperature)


def starts(
  net: Net,
  variables: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  recipe: Recipe,
  calibrated: Ranges | None = None,
  bits: Sequence[int] = precision.BITS,
) -> Ranges:
  """{site: {bits: where training starts}} by the recipe's rule.

  Of those sites that the recipe quantizes: ranges, or, where none is learned,
  the ends [2] of activations.

  Args:
    net: the network.
    variables: variables of the float network.
    tensors: activation site -> values before quantizers, of
      `calibration.activations`.
    recipe: how the network will be trained.
    calibrated: ranges of `calibration.calibrate`, which the default recipe has.
    bits: precisions that training may start at.
  """
  # The default recipe starts where calibration ended
  scheme = recipe.scheme
  if calibrated and (scheme, recipe.norm) == (Fixed(), norms.ABSORB):
    return calibrated

  # Rules that learn nothing follow the ends of activations; the others start
  # from weights as they are quantized, folded where norms are
  if not scheme.learns_ranges:
    ends = site_ends(net, tensors)
    found = {site: dict.fromkeys(bits, e) for site, e in ends.items()}
  else:
    params = variables["params"]
    if recipe.norm == norms.CORRECT:
      params = fold(net, variables)[1]["params"]
    start, per_channel = scheme.rule.start, scheme.form.per_channel
    found = site_ranges(net, params, tensors, bits, start, per_channel)

  # A recipe may quantize weights or activations alone
  kind = {"weights": True, "activations": False}.get(scheme.form.quantizes)
  return {
    site: by_bits
    for site, by_bits in found.items()
    if kind is None or site.endswith(".weight") == kind
  }


@dataclasses.dataclass(frozen=True)
class FineTuner:
  """A function (name, variables, starts, assignment, key) -> `Judgement`.

  One compiled step and one evaluator serve all calls.

  Attributes:
    lab: where it trains.
    recipe: how it trains.
    stage: steps, batches and rates.
    more_steps: steps beyond those of the stage.
    range_learning_rate: rate of the ranges, by default that of the stage.
  """

  lab: Lab
  recipe: Recipe
  stage: Stage
  more_steps: int = 0
  range_learning_rate: float | None = None

  @functools.cached_property
  def model(self) -> Model:
    return Model(self.lab.net, self.recipe.scheme, self.recipe.norm)

  @functools.cached_property
  def trainer(self) -> Trainer:
    scheme, rate = self.recipe.scheme, self.range_learning_rate
    if rate is None:
      rate = cast(FineTuning, self.stage).range_learning_rate
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
  def _right(self):
    return evaluation.evaluator(self.model, self.lab.task.objective)

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

  def judge(self, variables: Mapping[str, Any], assignment) -> Judgement:
    """What final variables make of the images of validation and of test."""
    return self.lab.judge(self._right, variables, assignment)

  def train(self, name, variables, starts, assignment, key):
    """(variables, `Judgement`) after training.

    Args:
      name: name of the run, unique in the workdir.
      variables: variables of the float network, the teacher too.
      starts: see `starts`.
      assignment: bits of every site.
      key: random key of the batches.
    """
    (found,) = self.train_many([name], variables, starts, [assignment], key)
    return found

  def train_many(self, names, variables, starts, assignments, key):
    """Yields (variables, `Judgement`) of each of some assignments.

    One after the other on a CPU, else as one program; see `train_points`.

    Args:
      names: name of each run, unique in the workdir.
      variables, starts, key: see `train`.
      assignments: bits of every site, for each run.
    """
    ended = self.lab.results_of_many(
      names,
      "fine-tuning",
      self.trainer,
      [self.start(variables, starts, bits) for bits in assignments],
      [self._run(variables, bits, key) for bits in assignments],
      [functools.partial(self._judged, bits) for bits in assignments],
    )
    for found, results in ended:
      yield found, Judgement.restored(self.lab.task, results)

  def _judged(self, assignment, variables):
    return self.judge(self.final(variables), assignment).results()

  def _run(self, variables, assignment, key):
    """What distinguishes the run of an assignment."""
    run = {"key": key, "bits": self.lab.bits(assignment)}
    if self.recipe.norm == norms.CORRECT:
      last = round(self.recipe.freeze_share * self.trainer.steps)
      run["freeze_step"] = jnp.int32(last)
    if self.recipe.distillation is not None:
      kinds = ("params", "batch_stats")
      run["teacher"] = {kind: variables[kind] for kind in kinds}
    return run

  def __call__(
    self,
    name: str,
    variables: Mapping[str, Any],
    starts: Ranges,
    assignment: precision.Precision,
    key: jax.Array,
  ) -> Judgement:
    return self.train(name, variables, starts, assignment, key)[1]
