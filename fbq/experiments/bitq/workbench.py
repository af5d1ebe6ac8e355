"""Training and judging of block formats: one compiled step for each scheme."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fbq.lab.fine_tuning import distillation_of
from fbq.lab.lab import Lab
from fbq.model import Model
from fbq.schemes.block_float import BlockFloat, Data
from fbq.schemes.published_formats import NOT_TRAINED, BlockCandidate
from fbq.search.format_losses import FormatJudge
from fbq.train import steps
from fbq.train.evaluation import right_images

Images = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Workbench:
  """Trains and judges candidates, all from the same float network.

  Attributes:
    lab: network, data and settings; "qat" is the plan of the training.
    schemes: what is compiled, by name, see `published_formats.schemes`.
    variables: variables of the float network.
    tops: int32 [S], largest exponents of its activations.
    key: random key of the batches of every training.
    validation: images and labels of the training split, to choose by.
  """

  lab: Lab
  schemes: Mapping[str, BlockFloat]
  variables: Mapping[str, Any]
  tops: np.ndarray
  key: jax.Array
  validation: Images

  @functools.lru_cache(maxsize=8)  # noqa: B019  lives as long as the process
  def forward(self, scheme: str):
    """Compiled (variables, images, rows int32 [S, 3]) -> logits."""
    model = Model(self.lab.net, self.schemes[scheme])
    logits = steps.compile_once(
      lambda v, x, d: model.apply(v, x, train=False, data=d)
    )
    tops = jnp.asarray(self.tops)
    return lambda v, x, rows: logits(
      v, x, Data(jnp.asarray(rows, jnp.int32), tops)
    )

  @functools.lru_cache(maxsize=8)  # noqa: B019
  def _trainer(self, scheme: str):
    plan = self.lab.settings.qat
    model = Model(self.lab.net, self.schemes[scheme])
    return self.lab.trainer(
      plan, model, ("params",), distillation=distillation_of(plan)
    )

  def judge(self, scheme: str, images: Images, variables=None) -> FormatJudge:
    """Judge of the float network, or of other variables."""
    return FormatJudge(
      self.lab.net,
      self.forward(scheme),
      self.variables if variables is None else variables,
      images[0],
      np.asarray(images[1]),
      self.lab.task.batch,
    )

  def trained(self, candidate: BlockCandidate) -> dict[str, Any]:
    """What training tells of a `BlockNetwork`; {} of what is only priced."""
    if candidate.scheme == NOT_TRAINED:
      return {}
    with self.lab.clock.measure("evaluation without training"):
      untrained = self._tested(candidate, self.variables)

    # Named by what is trained, so that equal rows are trained once
    digest = hashlib.sha256(candidate.rows.tobytes()).hexdigest()[:10]
    name = f"qat-{candidate.scheme}-{digest}"
    _, results = self.lab.run(
      name,
      "quantization-aware training",
      self._trainer(candidate.scheme),
      self.variables,
      {
        "key": self.key,
        "formats": jnp.asarray(candidate.rows, jnp.int32),
        "tops": jnp.asarray(self.tops),
        "teacher": {
          kind: self.variables[kind] for kind in ("params", "batch_stats")
        },
      },
      lambda variables: {
        "validation": self.judge(
          candidate.scheme, self.validation, variables
        ).accuracy(candidate.rows),
        "test": self._tested(candidate, variables),
      },
    )
    return {"training": name, "untrained_test": untrained, **results}

  def _tested(self, candidate, variables):
    """By the program of `judge`, batch by batch: test sets can be large."""
    forward = self.forward(candidate.scheme)

    def right(variables, images, labels, rows):
      chosen = np.asarray(forward(variables, images, rows)).argmax(-1)
      return chosen == np.asarray(labels)

    batches = self.lab.task.test.batches()
    found = right_images(right, variables, batches, candidate.rows)
    return float(found.mean())
