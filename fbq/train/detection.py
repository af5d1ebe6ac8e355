"""Objects of an image, with masks: YOLOv8's loss, COCO's average precision."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fbq import backend
from fbq.dense import boxes, matching, suppression
from fbq.dense.detection_loss import detection_loss, targets
from fbq.dense.mask_loss import mask_loss, masks_of
from fbq.dense.objects import Objects
from fbq.nets.graph import Net
from fbq.nets.yolov8 import BINS, SCALES
from fbq.train.objective import Objective, softened_divergence

Array = jax.Array
Outputs = Mapping[str, Array]

# Logits of classes begin here, so that all pixels together do not begin by
# telling that they are full of objects: a probability of 0.01.
_PRIOR = -4.6
# And each further bin of a distance begins e^-0.5 as likely as that before it:
# a mean of 1.5 pixels of the scale. From even bins, a mean of 7.5, boxes of
# small objects overlap them so little that no pixel answers for any, and the
# network learns that there is nothing (64x64 scenes, 500 steps).
_FALL = -0.5


class Masked(NamedTuple):
  """Detections with their masks.

  Attributes:
    detections: those of each image.
    masks: bool [B, D, H, W].
  """

  detections: suppression.Detections
  masks: Array


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


def tells_masks(net: Net) -> bool:
  """Whether a detector tells masks too."""
  return any(n.is_output and n.name == "prototypes" for n in net.nodes)


def detection(net: Net) -> Objective:
  """Outputs are those of `fbq.nets.yolov8`; truths are `Objects`.

  With masks they are what is judged, without them boxes are.

  The divergence is that of all classes, as probabilities of being there or not,
  and that of each pixel's distances, as much as the reference sees something
  there. Distributions of distances of empty pixels mean nothing. Of masks it is
  that of being in the mask or not, a mean over the pixels of the prototypes,
  for the pixels in which the reference sees most.

  Args:
    net: network with the outputs `SCALE.box` and `SCALE.class`, and
      `SCALE.mask` and `prototypes` if it tells masks.
  """
  has_masks = tells_masks(net)
  image = net.input_shape[0], net.input_shape[1]
  classes = net.shapes[f"{SCALES[0]}.class"][2]
  read = functools.partial(_read, net)

  def loss(outputs, truth: Objects):
    told = read(outputs)
    objects = truth.boxes, truth.classes, truth.is_object & ~truth.is_crowd
    parts = detection_loss(*told, *objects)
    # Ultralytics multiplies by the images of a batch; the mean over them needs
    # no other rate for other batches.
    parts = {
      name: part / len(told.box) for name, part in parts._asdict().items()
    }
    if has_masks:
      parts["masks"] = mask_loss(
        _rows(outputs, "mask"),
        outputs["prototypes"],
        targets(*told, *objects),
        truth.boxes,
        truth.masks,
      )
    return sum(parts.values(), jnp.float32(0)), parts

  def divergence(reference, outputs, temperature):
    first, second = read(reference), read(outputs)
    of_classes = _of_shares(first.classes, second.classes, temperature).sum(-1)
    split = lambda x: x.reshape(*x.shape[:-1], 4, BINS)
    of_sides = softened_divergence(
      split(first.box), split(second.box), temperature
    ).sum(-1)
    seen = jax.nn.sigmoid(first.classes).max(-1)
    found = (of_classes + seen * of_sides).sum(1)
    if has_masks:
      weights, rows = jax.lax.top_k(seen, min(suppression.MOST, seen.shape[1]))
      masks = [_mask_logits(told, rows) for told in (reference, outputs)]
      of_masks = _of_shares(masks[0], masks[1], temperature).mean(-1)
      found += (weights * of_masks).sum(1)
    return found.mean()

  def predictions(outputs):
    told = read(outputs)
    height, width = image
    inside = jnp.clip(
      _decoded(told), 0, jnp.array([width, height, width, height])
    )
    found = jax.vmap(suppression.detections)(
      jax.nn.sigmoid(told.classes), inside
    )
    if not has_masks:
      return found
    own = jax.vmap(lambda x, rows: x[rows])
    chosen = own(_rows(outputs, "mask"), found.pixels)
    masks = jax.vmap(masks_of, in_axes=(0, 0, 0, None))
    prototypes = outputs["prototypes"]
    return Masked(found, masks(chosen, prototypes, found.boxes, image))

  def evidence(outputs, truth: Objects):
    def match(found, objects):
      if has_masks:
        overlaps = matching.mask_overlaps(found.masks, objects)
        found = found.detections
      else:
        overlaps = matching.box_overlaps(found.boxes, objects)
      return matching.matches(found, overlaps, objects, classes)

    truth = truth if has_masks else truth._replace(masks=None)
    return jax.vmap(match)(predictions(outputs), truth)

  # What is judged has all digits on every backend; the loss need not.
  def exactly(function):
    @functools.wraps(function)
    def call(*given):
      with backend.products(exact=True):
        return function(*given)

    return call

  return Objective(
    "mask AP" if has_masks else "box AP",
    loss,
    exactly(divergence),
    exactly(evidence),
    lambda found: matching.mean_precision(matching.Matches(*found)),
    exactly(predictions),
    lambda found: {
      "AP50": float(matching.precisions(matching.Matches(*found))[0])
    },
  )


def _of_shares(reference: Array, logits: Array, temperature: float) -> Array:
  """[...] KL divergence of being there or not, of logits [...]."""
  both = [jnp.stack([x, jnp.zeros_like(x)], -1) for x in (reference, logits)]
  return softened_divergence(both[0], both[1], temperature)


def _mask_logits(outputs: Outputs, rows: Array) -> Array:
  """[B, K, P]: what some pixels' masks are before they are cut, `rows` [B, K].

  `P` is the number of the prototypes' pixels.
  """
  own = jnp.take_along_axis(_rows(outputs, "mask"), rows[..., None], 1)
  prototypes = outputs["prototypes"]
  flat = prototypes.reshape(len(prototypes), -1, prototypes.shape[-1])
  return jnp.einsum("bkc,bpc->bkp", own, flat)


def _read(net: Net, outputs: Outputs) -> _Told:
  """Rows of pixels of all scales, the finest first."""
  sides = [net.shapes[f"{scale}.box"][:2] for scale in SCALES]
  strides = [net.input_shape[0] // height for height, _ in sides]
  points, widths = boxes.centres(sides, strides)
  fall = _FALL * jnp.tile(jnp.arange(BINS, dtype=jnp.float32), 4)
  return _Told(
    _rows(outputs, "box") + fall,
    _rows(outputs, "class") + _PRIOR,
    points,
    widths,
  )


def _rows(outputs: Outputs, part: str) -> Array:
  """float32 [B, A, ..]: what all scales tell of a part, the finest first."""
  scales = (outputs[f"{scale}.{part}"] for scale in SCALES)
  flat = [x.reshape(len(x), -1, x.shape[-1]) for x in scales]
  return jnp.concatenate(flat, axis=1)


def _decoded(told: _Told) -> Array:
  """Boxes float32 [B, A, 4] in pixels of the image."""
  sides = boxes.distances(told.box)
  return boxes.around(told.points, sides) * told.strides[:, None]
