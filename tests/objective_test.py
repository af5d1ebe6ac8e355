"""Tasks of dense networks: losses, evidence and metrics against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fbq import nets
from fbq.dense import average_precision, class_overlap, matching, overlaps
from fbq.dense.assignment import Assigned
from fbq.dense.mask_loss import mask_loss, masks_of
from fbq.dense.objects import Objects
from fbq.dense.suppression import Detections, detections
from fbq.experiments.bitq import workbench
from fbq.train.detection import detection
from fbq.train.evaluation import Judged, left_out_error
from fbq.train.objective import CLASSIFICATION
from fbq.train.segmentation import segmentation

CLASSES = 3


# ---- Pixels


def test_evidence_of_pixels_is_the_confusion_of_each_image():
  random = np.random.default_rng(0)
  logits = random.normal(size=(5, 6, 6, CLASSES)).astype(np.float32)
  truth = random.integers(0, CLASSES, (5, 6, 6)).astype(np.int32)
  truth[0, :2] = class_overlap.IGNORED
  task = segmentation(6)
  found = np.asarray(jax.jit(task.evidence)(logits, truth))
  for i in range(5):
    told = logits[i].argmax(-1)
    np.testing.assert_array_equal(
      found[i], class_overlap.confusion(truth[i], told, CLASSES)
    )
  whole = class_overlap.confusion(truth, logits.argmax(-1), CLASSES)
  expected = class_overlap.class_overlap(whole).mean
  assert task.metric(found) == pytest.approx(expected)
  pixels = (logits.argmax(-1) == truth)[truth != class_overlap.IGNORED].mean()
  assert task.details(found)["pixel accuracy"] == pytest.approx(pixels)

  # Cross-entropy of the pixels that count, by numpy
  logits = logits.astype(float)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  counted = truth != class_overlap.IGNORED
  rows = np.where(counted, truth, 0)[..., None]
  entropy = -np.take_along_axis(log_p, rows, -1)[..., 0][counted]
  loss, told = task.loss(jnp.asarray(logits, jnp.float32), truth)
  assert float(loss) == pytest.approx(entropy.mean(), rel=1e-5)
  right = (logits.argmax(-1) == truth)[counted].mean()
  assert float(told["accuracy"]) == pytest.approx(right)


def test_a_coarse_map_is_enlarged_between_its_centres():
  """Logits rise from left to right, so the border lies in the middle."""
  logits = np.zeros((1, 2, 2, 2), np.float32)
  logits[0, :, 0], logits[0, :, 1] = [1, 0], [0, 1]
  told = np.asarray(segmentation(8).predictions(jnp.asarray(logits)))
  np.testing.assert_array_equal(told[0], [[0] * 4 + [1] * 4] * 8)


def test_the_error_of_a_metric_of_sets_is_that_of_a_mean_where_it_is_one():
  """Confusions of one pixel: leaving out is as good as the formula."""
  random = np.random.default_rng(1)
  right = random.random(200) < 0.7
  sources = np.repeat(np.arange(20), 10)
  means = [right[sources != s].mean() for s in range(20)]
  expected = Judged(right, sources).error
  assert left_out_error(np.array(means)) == pytest.approx(expected, rel=1e-3)
  assert np.isnan(left_out_error(np.ones(1)))


def test_networks_are_compared_on_the_same_images():
  random = np.random.default_rng(2)
  first = random.integers(0, 9, (40, CLASSES, CLASSES))
  second = first + 5 * np.eye(CLASSES, dtype=int)
  task, sources = segmentation(4), np.arange(40) // 2
  worse, better = (Judged(x, sources, task) for x in (first, second))
  lost, error = worse.loss_to(better)
  assert lost == pytest.approx(better.accuracy - worse.accuracy) and lost > 0
  assert 0 < error < worse.error + better.error
  assert worse.loss_to(worse) == (0.0, 0.0)


# ---- Objects


def boxes_of(random, *shape):
  corner = random.integers(0, 40, (*shape, 2))
  size = random.integers(4, 24, (*shape, 2))
  return np.concatenate([corner, corner + size], -1).astype(np.float32)


def suppressed(scores, boxes):
  """Greedy suppression as a loop over pairs of pixel and class."""
  pairs = sorted(
    ((-scores[a, c], a, c) for a, c in np.ndindex(scores.shape)),
  )
  kept = []
  for score, a, c in pairs:
    rivals = [boxes[b] for _, b, d in kept if d == c]
    apart = overlaps.of_boxes(np.array(rivals), boxes[[a]], [False])
    if -score > 0.001 and not (apart > 0.7).any():
      kept.append((-score, a, c))
  return kept


def test_suppression_is_the_loop_over_pairs():
  random = np.random.default_rng(3)
  for _ in range(5):
    scores = random.random((30, CLASSES)).astype(np.float32) ** 3
    boxes = np.repeat(boxes_of(random, 6), 5, 0)
    boxes += random.integers(0, 3, boxes.shape)
    found = jax.tree.map(np.asarray, detections(scores, boxes))
    expected = suppressed(scores, boxes)[:100]
    count = int((found.scores > 0).sum())
    assert count == len(expected) < 90
    told = zip(found.scores, found.pixels, found.classes, strict=True)
    for one, other in zip(list(told)[:count], expected, strict=True):
      assert one == pytest.approx(other)


def test_crowded_images_keep_their_objects():
  # 70 boxes apart from each other, 20 pixels telling each
  corners = 20.0 * np.stack(np.divmod(np.arange(70), 10), -1)
  boxes = np.repeat(np.concatenate([corners, corners + 16], -1), 20, 0)
  scores = np.zeros((1400, CLASSES), np.float32)
  scores[:, 1] = np.linspace(0.9, 0.1, 1400)
  found = detections(scores, boxes.astype(np.float32))
  assert int((found.scores > 0).sum()) == 70


def random_set(random, images=12):
  """(detections, objects) of a few images with crowds and fillers."""
  shape = images, 6
  objects = Objects(
    boxes_of(random, *shape),
    random.integers(0, CLASSES, shape).astype(np.int32),
    random.random(shape) < 0.8,
    random.random(shape) < 0.15,
  )
  nearly = np.repeat(objects.boxes, 3, 1)
  nearly = nearly + random.integers(-2, 3, nearly.shape).astype(np.float32)
  count = nearly.shape[1]
  scores = -np.sort(-random.random((images, count)).astype(np.float32))
  found = Detections(
    np.where(random.random(scores.shape) < 0.9, scores, 0),
    random.integers(0, CLASSES, scores.shape).astype(np.int32),
    nearly,
    np.zeros(scores.shape, np.int32),
  )
  return found, objects


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_of_matches_is_that_of_images(seed):
  found, objects = random_set(np.random.default_rng(seed))

  def match(detected, truth):
    over = matching.box_overlaps(detected.boxes, truth)
    return matching.matches(detected, over, truth, CLASSES)

  matched = jax.tree.map(np.asarray, jax.jit(jax.vmap(match))(found, objects))
  images = []
  for i in range(len(found.scores)):
    told, there = found.scores[i] > 0, objects.is_object[i]
    crowd = objects.is_crowd[i][there]
    over = overlaps.of_boxes(
      found.boxes[i][told], objects.boxes[i][there], crowd
    )
    images.append(
      average_precision.Image(
        found.scores[i][told],
        found.classes[i][told],
        objects.classes[i][there],
        crowd,
        over,
      )
    )
  expected = average_precision.average_precision(images).mean
  assert 0.01 < expected < 0.9
  assert matching.mean_precision(matched) == pytest.approx(expected, abs=1e-9)


def test_masks_overlap_as_by_numpy():
  random = np.random.default_rng(5)
  found, truth = random.random((2, 4, 7, 7)) < 0.4
  crowd = np.array([False, True, False, True])
  objects = Objects(np.zeros((4, 4)), np.zeros(4), ~crowd, crowd, truth)
  np.testing.assert_allclose(
    matching.mask_overlaps(jnp.asarray(found), objects),
    overlaps.of_masks(found, truth, crowd),
    rtol=1e-5,
  )


NET = nets.build(
  "yolov8", width=0.0625, resolution=64, classes=CLASSES, in_channels=1
)


def perfect(objects):
  """Outputs of a network that knows: the pixel at each centre tells its box."""
  outputs = {}
  for scale, stride in (("p3", 8), ("p4", 16), ("p5", 32)):
    side = 64 // stride
    outputs[f"{scale}.box"] = np.zeros((1, side, side, 64), np.float32)
    outputs[f"{scale}.class"] = np.full(
      (1, side, side, CLASSES), -20, np.float32
    )
  for box, kind in objects:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    column, row = int(x // 8), int(y // 8)
    outputs["p3.class"][0, row, column, kind] = 20
    centre = np.array([column, row]) + 0.5
    sides = np.concatenate([centre - box[:2] / 8, box[2:] / 8 - centre])
    for side, distance in enumerate(sides):
      low = int(distance)
      share = distance - low
      bins = outputs["p3.box"][0, row, column].reshape(4, 16)[side]
      bins[:] = -30
      bins[low] = np.log(max(1 - share, 1e-9))
      bins[low + 1] = np.log(max(share, 1e-9))
      bins += np.arange(16) / 2  # what the objective takes away
  return outputs


def test_a_detector_that_knows_finds_everything():
  placed = [
    (np.array([4.0, 6.0, 30.0, 40.0]), 0),
    (np.array([33.0, 20.0, 60.0, 61.0]), 2),
  ]
  boxes = np.zeros((1, 3, 4), np.float32)
  boxes[0, :2] = [box for box, _ in placed]
  truth = Objects(
    boxes,
    np.array([[0, 2, 0]], np.int32),
    np.array([[True, True, False]]),
    np.zeros((1, 3), bool),
  )
  task = detection(NET)
  outputs = perfect(placed)
  found = jax.tree.map(np.asarray, jax.jit(task.predictions)(outputs))
  assert (found.scores[0] > 0.5).sum() == 2
  np.testing.assert_allclose(
    sorted(found.boxes[0, :2].tolist()), [b for b, _ in placed], atol=1e-3
  )
  evidence_of, loss_of = jax.jit(task.evidence), jax.jit(task.loss)
  evidence = jax.tree.map(np.asarray, evidence_of(outputs, truth))
  assert task.metric(evidence) == 1.0
  assert task.metric(tuple(evidence)) == 1.0
  assert task.details(evidence) == {"AP50": 1.0}

  # Another class, or a box elsewhere, is worse for the loss and the metric
  good, _ = loss_of(outputs, truth)
  wrong = truth._replace(classes=np.array([[1, 2, 0]], np.int32))
  assert loss_of(outputs, wrong)[0] > good
  evidence = jax.tree.map(np.asarray, evidence_of(outputs, wrong))
  assert task.metric(evidence) == 0.5
  moved = truth._replace(boxes=boxes + np.float32(8))
  assert loss_of(outputs, moved)[0] > good


def test_divergence_is_none_from_itself_and_minds_seen_boxes_alone():
  diverge = jax.jit(detection(NET).divergence)
  outputs = perfect([(np.array([4.0, 6.0, 30.0, 40.0]), 0)])
  assert float(diverge(outputs, outputs, 1.0)) == pytest.approx(0, abs=1e-5)
  seen, unseen = dict(outputs), dict(outputs)
  box = outputs["p3.box"].copy()
  box[0, 2, 2] += np.tile(np.arange(16, dtype=np.float32), 4)
  seen["p3.box"] = box
  box = outputs["p3.box"].copy()
  box[0, 7, 7] += np.tile(np.arange(16, dtype=np.float32), 4)
  unseen["p3.box"] = box
  assert float(diverge(outputs, seen, 1.0)) > 1e-3
  assert float(diverge(outputs, unseen, 1.0)) < 1e-5


def test_small_divergences_are_not_lost_in_their_sums():
  random = np.random.default_rng(0)
  outputs = {
    name: random.normal(size=x.shape).astype(np.float32)
    for name, x in perfect([]).items()
  }
  noise = {n: random.normal(size=x.shape) for n, x in outputs.items()}
  compare = workbench.divergence_of(detection(NET))

  def at(size):
    near = {
      n: x.astype(np.float64) + size * noise[n] for n, x in outputs.items()
    }
    return compare([outputs], [near])

  # Second order in what differs
  assert at(1e-4) == pytest.approx(1e-2 * at(1e-3), rel=1e-2)
  assert at(0.0) == 0


def test_classifiers_are_judged_as_ever():
  logits = np.array([[0, 1.0], [2, 1], [0, 3]], np.float32)
  right = np.asarray(CLASSIFICATION.evidence(logits, np.array([1, 1, 1])))
  assert right.tolist() == [True, False, True]
  assert CLASSIFICATION.metric(right) == 2 / 3


# ---- Masks


def test_the_loss_of_masks_is_the_loop_over_pixels_that_answer():
  random = np.random.default_rng(6)
  count, pixels, objects, parts = 2, 9, 3, 4
  coefficients = random.normal(size=(count, pixels, parts)).astype(np.float32)
  prototypes = random.normal(size=(count, 4, 4, parts)).astype(np.float32)
  boxes = boxes_of(random, count, objects) * np.float32(0.4)
  masks = random.random((count, objects, 16, 16)) < 0.5
  positive = random.random((count, pixels)) < 0.5
  answers = random.integers(0, objects, (count, pixels))
  scores = random.random((count, pixels, 1)) * positive[..., None]
  target = Assigned(*map(jnp.asarray, (positive, answers, scores)))

  losses = []
  for i, a in np.argwhere(positive):
    g = answers[i, a]
    left, top, right, bottom = boxes[i, g]
    inside = []
    for y, x in np.ndindex(4, 4):
      if left <= 4 * x + 2 <= right and top <= 4 * y + 2 <= bottom:
        logit = float(coefficients[i, a] @ prototypes[i, y, x])
        share = masks[i, g, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].mean()
        p = 1 / (1 + np.exp(-logit))
        inside.append(-share * np.log(p) - (1 - share) * np.log(1 - p))
    losses.append(np.mean(inside) if inside else 0.0)
  found = mask_loss(coefficients, prototypes, target, boxes, masks)
  assert float(found) == pytest.approx(7.5 * np.mean(losses), rel=1e-4)


def test_masks_end_at_their_box():
  coefficients = np.array([[1.0], [-1.0]], np.float32)
  prototypes = np.ones((4, 4, 1), np.float32)
  boxes = np.array([[2, 4, 6, 12], [0, 0, 16, 16]], np.float32)
  found = np.asarray(masks_of(coefficients, prototypes, boxes, (16, 16)))
  rows, columns = np.nonzero(found[0])
  assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 11, 2, 5)
  assert not found[1].any()


def test_a_network_with_masks_is_judged_by_them():
  net = nets.build(
    "yolov8",
    width=0.0625,
    resolution=64,
    classes=CLASSES,
    in_channels=1,
    masks=True,
  )
  task = detection(net)
  assert task.metric_name == "mask AP"
  box = np.array([8.0, 8.0, 40.0, 40.0])
  outputs = perfect([(box, 1)])
  for scale, side in (("p3", 8), ("p4", 4), ("p5", 2)):
    outputs[f"{scale}.mask"] = np.ones((1, side, side, 32), np.float32)
  # The upper half of the box: prototypes of 4 pixels
  prototypes = np.full((1, 16, 16, 32), -1, np.float32)
  prototypes[0, 2:6, 2:10] = 1
  outputs["prototypes"] = prototypes
  masks = np.zeros((1, 1, 64, 64), bool)
  masks[0, 0, 8:24, 8:40] = True
  truth = Objects(
    box[None, None].astype(np.float32),
    np.array([[1]], np.int32),
    np.array([[True]]),
    np.array([[False]]),
    masks,
  )
  evidence_of, loss_of = jax.jit(task.evidence), jax.jit(task.loss)
  metric = lambda truth: task.metric(
    jax.tree.map(np.asarray, evidence_of(outputs, truth))
  )
  assert metric(truth) > 0.85
  lower = np.roll(masks, 16, 2)
  assert metric(truth._replace(masks=lower)) == 0
  good, parts = loss_of(outputs, truth)
  assert loss_of(outputs, truth._replace(masks=lower))[0] > good

  # Masks alone differ: sure of every pixel, or half and half, so by log 2 for
  # each pixel of the scales, as much as it sees something.
  blank = {**outputs, "prototypes": np.zeros_like(prototypes)}
  diverged = float(jax.jit(task.divergence)(outputs, blank, 1.0))
  seen = sum(
    float(jax.nn.sigmoid(outputs[f"{scale}.class"] - 4.6).max(-1).sum())
    for scale in ("p3", "p4", "p5")
  )
  assert diverged == pytest.approx(seen * np.log(2), rel=1e-3)
  assert float(sum(parts.values())) == pytest.approx(float(good), rel=1e-5)
