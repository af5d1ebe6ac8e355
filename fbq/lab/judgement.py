"""How a trained network was judged: by which it is chosen, what is reported."""

import base64
import io
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from fbq.lab.task import Task
from fbq.train.evaluation import Judged
from fbq.train.objective import CLASSIFICATION

_SPLITS = ("validation", "test")


class Judgement(NamedTuple):
  """A network on the images that nothing was trained on.

  Attributes:
    validation: what everything is chosen by.
    test: what is reported, and nothing is chosen by.
  """

  validation: Judged
  test: Judged

  @classmethod
  def of(cls, task: Task, validation: Any, test: Any) -> Self:
    """From the evidence of each split; of classifiers which are right."""
    return cls(
      Judged(validation, task.validation.sources(), task.objective),
      Judged(test, task.test.sources(), task.objective),
    )

  @classmethod
  def restored(cls, task: Task, results: Mapping[str, Any]) -> Self:
    """From the `results` that a finished run keeps."""
    found = []
    for name in _SPLITS:
      if task.objective is not CLASSIFICATION:
        found.append(_unpacked(results[f"{name}_evidence"]))
        continue
      bits = np.frombuffer(bytes.fromhex(results[f"{name}_right"]), np.uint8)
      count = getattr(task, name).count
      found.append(np.unpackbits(bits, count=count).astype(bool))
    return cls.of(task, *found)

  def results(self) -> dict[str, Any]:
    """What a finished run keeps: metrics, and the evidence of images."""
    kept: dict[str, Any] = {}
    for name, judged in zip(_SPLITS, self, strict=True):
      kept[f"{name}_accuracy"] = judged.accuracy
      if judged.objective is not CLASSIFICATION:
        kept[f"{name}_evidence"] = _packed(judged.evidence)
        continue
      kept[f"{name}_right"] = np.packbits(judged.right).tobytes().hex()
    return kept

  def __str__(self):
    return (
      f"{self.test.objective.metric_name} "
      f"{self.validation.accuracy:.2%} in validation, "
      f"{self.test.accuracy:.2%} in test"
      + "".join(f", {k} {v:.2%}" for k, v in self.test.details.items())
    )


def _packed(evidence: Any) -> str:
  """The arrays of a tree that is an array or a tuple of them, as a text."""
  file = io.BytesIO()
  np.savez_compressed(file, *jax.tree.leaves(evidence))
  return base64.b85encode(file.getvalue()).decode()


def _unpacked(text: str) -> Any:
  """An array, or the tuple of them, that `_packed` made a text of."""
  with np.load(io.BytesIO(base64.b85decode(text))) as stored:
    arrays = tuple(stored[name] for name in stored.files)
  return arrays[0] if len(arrays) == 1 else arrays
