"""Training and judging of block formats: one compiled step for each scheme."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fbq.lab.fine_tuning import distillation_of
from fbq.lab.held_out import HeldOut
from fbq.lab.judgement import Judgement
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.schemes.block_float import BlockFloat, Data
from fbq.schemes.microscaling import Microscaling
from fbq.schemes.published_formats import (
  MICROSCALING_SCHEMES,
  NOT_TRAINED,
  BlockCandidate,
  rows_in,
)
from fbq.search.format_losses import FormatJudge
from fbq.train import steps
from fbq.train.evaluation import Judged, right_images
from fbq.train.objective import CLASSIFICATION, Objective

Images = tuple[jax.Array, Any]  # with their truth


def divergence_of(objective: Objective) -> Callable[[list, list], float]:
  """(outputs of the reference by batch, outputs) -> mean divergence, >= 0.

  In float64: what nearly equal outputs diverge by is what is left of sums of
  which float32 has seven digits.
  """
  found = jax.jit(lambda x, y: objective.divergence(x, y, 1.0))

  def compare(reference, outputs):
    with jax.enable_x64(True):
      parts = [
        found(*jax.tree.map(lambda x: np.asarray(x, np.float64), both))
        for both in zip(reference, outputs, strict=True)
      ]
      return max(0.0, float(np.mean(jax.device_get(parts))))

  return compare


@dataclasses.dataclass(frozen=True, eq=False)
class Programs:
  """What is compiled for each scheme, once for all seeds.

  Attributes:
    lab: network, data and settings; "qat" is the plan of the training.
    schemes: schemes of block floating point by name, see
      `published_formats.schemes`, and `ELEMENTS` where those are searched; the
      published ones of microscaling formats come with them.
  """

  lab: Lab
  schemes: Mapping[str, BlockFloat | Microscaling]

  def model(self, scheme: str) -> Model:
    """The network in the scheme of this name."""
    known = {**self.schemes, **MICROSCALING_SCHEMES}
    return Model(self.lab.net, known[scheme])

  @functools.lru_cache(maxsize=8)  # noqa: B019  lives as long as the process
  def outputs(self, scheme: str):
    """Compiled (variables, images, `Data`) -> outputs, such as logits."""
    model = self.model(scheme)
    return steps.compile_once(
      lambda v, x, d: model.apply(v, x, train=False, data=d)
    )

  @functools.cached_property
  def evidence(self):
    """Compiled (outputs, truth) -> evidence of every image of a batch."""
    return steps.compile_once(self.lab.task.objective.evidence)

  @functools.cached_property
  def compare(self):
    """How much outputs diverge, see `FormatJudge`; None for classifiers."""
    objective = self.lab.task.objective
    return None if objective is CLASSIFICATION else divergence_of(objective)

  @functools.lru_cache(maxsize=8)  # noqa: B019
  def trainer(self, scheme: str):
    """Compiled step of the training at given formats."""
    plan = self.lab.settings.qat
    model = self.model(scheme)
    return self.lab.trainer(
      plan, model, ("params",), distillation=distillation_of(plan)
    )


class TrainedCandidate(NamedTuple):
  """What training tells of a candidate.

  Attributes:
    training: name of the training.
    untrained_test: test metric of the float network's weights in its formats.
    judged: how it was judged after training.
  """

  training: str
  untrained_test: float
  judged: Judgement


@dataclasses.dataclass(frozen=True, eq=False)
class Workbench:
  """Trains and judges candidates, all from the same float network.

  Attributes:
    programs: what is compiled, with the lab.
    seed: seed of the float network, in the names of trainings.
    variables: variables of the float network.
    tops: int32 [S], largest exponents of its activations.
    key: random key of the batches of every training.
  """

  programs: Programs
  seed: int
  variables: Mapping[str, Any]
  tops: np.ndarray
  key: jax.Array

  def forward(self, scheme: str):
    """(variables, images, rows int32 [S, 3]) -> outputs."""
    outputs, tops = self.programs.outputs(scheme), jnp.asarray(self.tops)
    return lambda v, x, rows: outputs(
      v, x, Data(jnp.asarray(rows, jnp.int32), tops)
    )

  def judge(self, scheme: str, images: Images) -> FormatJudge:
    """Judge of the float network in formats, by calibration images."""
    return FormatJudge(
      self.programs.lab.net,
      self.forward(scheme),
      self.variables,
      images[0],
      self.programs.lab.task.batch,
      self.programs.compare,
      rows_in(scheme),
    )

  def judged(
    self, scheme: str, rows: np.ndarray, split: HeldOut, variables=None
  ) -> Judged:
    """What a network of formats makes of the images of a split.

    Args:
      scheme: name of the scheme.
      rows: formats, int32 [S, 3].
      split: images, batch by batch, as they can be many.
      variables: variables of the network; None: of the float network.
    """
    forward, evidence = self.forward(scheme), self.programs.evidence

    def right(variables, images, truth, rows):
      return evidence(forward(variables, images, rows), truth)

    given = self.variables if variables is None else variables
    found = right_images(right, given, split.batches(), rows)
    return Judged(found, split.sources(), self.programs.lab.task.objective)

  def trained(self, candidate: BlockCandidate) -> TrainedCandidate | None:
    """A candidate after training; None of what is only priced."""
    lab, scheme, rows = self.programs.lab, candidate.scheme, candidate.rows
    if scheme == NOT_TRAINED:
      return None
    with lab.clock.measure("evaluation without training"):
      untrained = self.judged(scheme, rows, lab.task.test)

    name, _, results = self._train(candidate)
    return TrainedCandidate(
      name, untrained.accuracy, Judgement.restored(lab.task, results)
    )

  def told(self, candidate: BlockCandidate, images: jax.Array) -> Any:
    """Outputs of a candidate after its training, which is done."""
    _, variables, _ = self._train(candidate)
    return self.forward(candidate.scheme)(variables, images, candidate.rows)

  def _train(self, candidate: BlockCandidate):
    """(name, variables, results) of a training; what is done is read."""
    lab, scheme, rows = self.programs.lab, candidate.scheme, candidate.rows

    # Named by what is trained, so that equal rows are trained once
    digest = hashlib.sha256(rows.tobytes()).hexdigest()[:10]
    name = f"seed{self.seed}-qat-{scheme}-{digest}"
    splits = lab.task.validation, lab.task.test
    variables, results = lab.run(
      name,
      "quantization-aware training",
      self.programs.trainer(scheme),
      self.variables,
      {
        "key": self.key,
        "formats": jnp.asarray(rows, jnp.int32),
        "tops": jnp.asarray(self.tops),
        "teacher": {
          kind: self.variables[kind] for kind in ("params", "batch_stats")
        },
      },
      lambda variables: Judgement(
        *(self.judged(scheme, rows, split, variables) for split in splits)
      ).results(),
    )
    return name, variables, results
