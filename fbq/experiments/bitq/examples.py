"""Test images with what networks tell of them: the paper's figure 4."""

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from fbq.dense.suppression import Detections
from fbq.lab.task import Task

COUNT = 4  # images that are shown
_SURE = 0.3  # score from which on a detection is drawn


class Grid(NamedTuple):
  """Whole numbers from 0 to 255 in rows, as a record holds them."""

  shape: tuple[int, ...]
  text: str

  @classmethod
  def of(cls, array: Any) -> Self:
    """From an array of such numbers."""
    array = np.asarray(array).astype(np.uint8)
    return cls(array.shape, base64.b85encode(array.tobytes()).decode())

  @property
  def array(self) -> np.ndarray:
    """The numbers, uint8."""
    kept = np.frombuffer(base64.b85decode(self.text), np.uint8)
    return kept.reshape(self.shape)


class Box(NamedTuple):
  """A detection: left, top, right and bottom in pixels, class, score."""

  edges: tuple[float, float, float, float]
  kind: int
  score: float


class Told(NamedTuple):
  """What a network tells of one image, or what is true.

  Attributes:
    boxes: detections; none of a class map.
    classes: class of every pixel; None of a detector.
    masks: detections by pixel, 0 where there is none, numbered from 1; None of
      networks that tell no masks.
  """

  boxes: tuple[Box, ...] = ()
  classes: Grid | None = None
  masks: Grid | None = None


class Example(NamedTuple):
  """An image.

  Attributes:
    image: grey levels [R, R].
    truth: what is there.
    networks: name of a network -> what it tells.
  """

  image: Grid
  truth: Told
  networks: dict[str, Told]


def examples(
  task: Task, images: Any, truth: Any, outputs: Mapping[str, Any]
) -> tuple[Example, ...]:
  """The first few images of a batch.

  Args:
    task: task of the networks.
    images: float32 [B, H, W, C].
    truth: truth of the task.
    outputs: name of a network -> its outputs of the images.
  """
  told = {
    name: jax.device_get(task.objective.predictions(found))
    for name, found in outputs.items()
  }
  truth = jax.device_get(truth)
  return tuple(
    Example(
      Grid.of(np.round(255 * np.asarray(images[i]).mean(-1))),
      _true(truth, i),
      {name: _told(found, i) for name, found in told.items()},
    )
    for i in range(min(COUNT, len(images)))
  )


def _true(truth: Any, i: int) -> Told:
  if isinstance(truth, np.ndarray):
    return Told(classes=Grid.of(truth[i]))
  rows = np.flatnonzero(truth.is_object[i])
  boxes = (
    Box(_edges(truth.boxes[i, g]), int(truth.classes[i, g]), 1.0) for g in rows
  )
  return Told(tuple(boxes))


def _edges(box: np.ndarray) -> tuple[float, float, float, float]:
  left, top, right, bottom = (round(float(x), 2) for x in box)
  return left, top, right, bottom


def _told(found: Any, i: int) -> Told:
  if isinstance(found, np.ndarray):
    return Told(classes=Grid.of(found[i]))
  detected = found if isinstance(found, Detections) else found.detections
  rows = np.flatnonzero(detected.scores[i] >= _SURE)
  boxes = tuple(
    Box(
      _edges(np.asarray(detected.boxes[i, d])),
      int(detected.classes[i, d]),
      round(float(detected.scores[i, d]), 3),
    )
    for d in rows
  )
  if isinstance(found, Detections):
    return Told(boxes)
  numbers = np.arange(1, len(rows) + 1)[:, None, None] * found.masks[i, rows]
  # The best detection lies above
  seen = np.where(numbers > 0, numbers, 256).min(0, initial=256)
  return Told(boxes, masks=Grid.of(np.where(seen == 256, 0, seen)))
