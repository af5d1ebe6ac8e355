"""How a trained network was judged: by which it is chosen, what is reported."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from fbq.lab.task import Task
from fbq.train.evaluation import Judged

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
  def of(cls, task: Task, validation: np.ndarray, test: np.ndarray) -> Self:
    """From which images of each split were right, bool [N]."""
    return cls(
      Judged(validation, task.validation.sources()),
      Judged(test, task.test.sources()),
    )

  @classmethod
  def restored(cls, task: Task, results: Mapping[str, Any]) -> Self:
    """From the `results` that a finished run keeps."""
    found = []
    for name in _SPLITS:
      bits = np.frombuffer(bytes.fromhex(results[f"{name}_right"]), np.uint8)
      count = getattr(task, name).count
      found.append(np.unpackbits(bits, count=count).astype(bool))
    return cls.of(task, *found)

  def results(self) -> dict[str, Any]:
    """What a finished run keeps: accuracies, and which images were right."""
    kept: dict[str, Any] = {}
    for name, judged in zip(_SPLITS, self, strict=True):
      kept[f"{name}_accuracy"] = judged.accuracy
      kept[f"{name}_right"] = np.packbits(judged.right).tobytes().hex()
    return kept

  def __str__(self):
    return (
      f"accuracy {self.validation.accuracy:.2%} in validation, "
      f"{self.test.accuracy:.2%} in test"
    )
