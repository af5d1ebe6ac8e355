"""Objects of an image: YOLOv8's loss, and COCO's average precision."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq.dense import boxes, matching, suppression
from fbq.dense.detection_loss import detection_loss
from fbq.dense.objects import Objects
from fbq.nets.graph import Net
from fbq.nets.yolov8 import BINS, SCALES
from fbq.train.objective import Objective, softened_divergence

Array = jax.Array
Outputs = Mapping[str, Array]

# Logits of classes begin here, so that all pixels together do not begin by
# telling that they are full of objects: a probability of 0.01.
_PRIOR = -4.6


class _Told(NamedTuple):
  """What the scales tell, as rows of pixels.

  Attributes:
    box: float32 [B, A, 64], logits of distances.
    classes: float32 [B, A, C], logits.
    points: float32 [A, 2], centres in pixels of their scale.
    strides: float32 [A].
  """

  box: Array
  classes: Array
  points: Array
  strides: Array


def is_detector(net: Net) -> bool:
  """Whether a network has the outputs of YOLOv8."""
  return {f"{s}.{part}" for s in SCALES for part in ("box", "class")} <= {
    node.name for node in net.nodes if node.is_output
  }


def detection(net: Net) -> Objective:
  """Outputs are those of `fbq.nets.yolov8`; truths are `Objects`.

  The divergence is that of all classes, as probabilities of being there or not,
  and that of each pixel's distances, as much as the reference sees something
  there. Distributions of distances of empty pixels mean nothing.

  Args:
    net: network with the outputs `SCALE.box` and `SCALE.class`.
  """
  classes = net.shapes[f"{SCALES[0]}.class"][2]
  read = functools.partial(_read, net)

  def loss(outputs, truth: Objects):
    told = read(outputs)
    parts = detection_loss(
      *told, truth.boxes, truth.classes, truth.is_object & ~truth.is_crowd
    )
    # Ultralytics multiplies by the images of a batch; the mean over them needs
    # no other rate for other batches.
    parts = {
      name: part / len(told.box) for name, part in parts._asdict().items()
    }
    return sum(parts.values()), parts

  def divergence(reference, outputs, temperature):
    first, second = read(reference), read(outputs)
    both = [
      jnp.stack([x, jnp.zeros_like(x)], -1)
      for x in (first.classes, second.classes)
    ]
    of_classes = softened_divergence(*both, temperature).sum(-1)
    split = lambda x: x.reshape(*x.shape[:-1], 4, BINS)
    of_sides = softened_divergence(
      split(first.box), split(second.box), temperature
    ).sum(-1)
    seen = jax.nn.sigmoid(first.classes).max(-1)
    return (of_classes + seen * of_sides).sum(1).mean()

  def predictions(outputs):
    told = read(outputs)
    return jax.vmap(suppression.detections)(
      jax.nn.sigmoid(told.classes), _decoded(told)
    )

  def evidence(outputs, truth: Objects):
    def match(found, objects):
      overlaps = matching.box_overlaps(found.boxes, objects)
      return matching.matches(found, overlaps, objects, classes)

    return jax.vmap(match)(predictions(outputs), truth._replace(masks=None))

  return Objective(
    "box AP",
    loss,
    divergence,
    evidence,
    lambda found: matching.mean_precision(matching.Matches(*found)),
    predictions,
  )


def _read(net: Net, outputs: Outputs) -> _Told:
  """Rows of pixels of all scales, the finest first."""
  rows = lambda part: jnp.concatenate(
    [
      x.reshape(len(x), -1, x.shape[-1])
      for x in (outputs[f"{scale}.{part}"] for scale in SCALES)
    ],
    axis=1,
  )
  sides = [net.shapes[f"{scale}.box"][:2] for scale in SCALES]
  strides = [net.input_shape[0] // height for height, _ in sides]
  points, widths = boxes.centres(sides, strides)
  return _Told(rows("box"), rows("class") + _PRIOR, points, widths)


def _decoded(told: _Told) -> Array:
  """Boxes float32 [B, A, 4] in pixels of the image."""
  sides = boxes.distances(told.box)
  return boxes.around(told.points, sides) * told.strides[:, None]
