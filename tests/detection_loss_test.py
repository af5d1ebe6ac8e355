"""YOLOv8's assignment and losses against numpy and finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from fbq.dense import boxes
from fbq.dense.assignment import assigned
from fbq.dense.detection_loss import detection_loss, distance_loss


def numpy_ciou(a, b, weight=None):
  """Of two boxes, in plain arithmetic; `weight` that of the aspects."""
  width = [x[2] - x[0] for x in (a, b)]
  height = [x[3] - x[1] for x in (a, b)]
  common = max(0, min(a[2], b[2]) - max(a[0], b[0]))
  common *= max(0, min(a[3], b[3]) - max(a[1], b[1]))
  union = width[0] * height[0] + width[1] * height[1] - common
  iou = common / union
  diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2
  diagonal += (max(a[3], b[3]) - min(a[1], b[1])) ** 2
  middle = [((x[0] + x[2]) / 2, (x[1] + x[3]) / 2) for x in (a, b)]
  apart = sum((p - q) ** 2 for p, q in zip(*middle, strict=True)) / diagonal
  aspect = (
    4
    / math.pi**2
    * (math.atan(width[1] / height[1]) - math.atan(width[0] / height[0])) ** 2
  )
  weight = aspect / (1 - iou + aspect) if weight is None else weight
  return iou - apart - weight * aspect, aspect / (1 - iou + aspect)


def random_boxes(random, count, size=20.0):
  low = random.uniform(0, size, (count, 2))
  high = low + random.uniform(1, size / 2, (count, 2))
  return np.concatenate([low, high], 1).astype(np.float32)


def test_ciou_and_its_gradient():
  """Finite differences with the aspects' weight held, as the paper holds it."""
  random = np.random.default_rng(0)
  first, second = (random_boxes(random, 40) for _ in range(2))
  second[:20] = first[:20] + random.uniform(-1, 1, (20, 4))
  found = np.asarray(jax.jit(boxes.complete_iou)(first, second))
  gradient = np.asarray(
    jax.jit(jax.grad(lambda a: boxes.complete_iou(a, second).sum()))(first)
  )
  for a, b, value, g in zip(first, second, found, gradient, strict=True):
    a, b = np.float64(a), np.float64(b)
    expected, weight = numpy_ciou(a, b)
    assert abs(value - expected) < 1e-5
    for i in range(4):
      step = np.zeros(4)
      step[i] = 1e-5
      up, down = (numpy_ciou(a + s, b, weight)[0] for s in (step, -step))
      assert abs(g[i] - (up - down) / 2e-5) < 2e-4


def test_distances_and_their_loss():
  random = np.random.default_rng(1)
  logits = random.standard_normal((6, 4 * 5)).astype(np.float32)
  target = random.uniform(0, 3.9, (6, 4)).astype(np.float32)
  target[0] = 0, 3, 9, -2  # whole numbers, and out of range

  def loss(logits):
    total, split = 0.0, np.float64(logits).reshape(6, 4, 5)
    for row, distances in zip(split, target, strict=True):
      for side, distance in zip(row, distances, strict=True):
        shares = np.exp(side) / np.exp(side).sum()
        distance = min(max(distance, 0), 3.99)
        low = int(distance)
        above = distance - low
        total -= (1 - above) * np.log(shares[low])
        total -= above * np.log(shares[low + 1])
    return total / 4

  found, gradient = jax.jit(
    jax.value_and_grad(lambda x: distance_loss(x, target).sum())
  )(logits)
  gradient = np.asarray(gradient)
  assert abs(found - loss(logits)) < 1e-4
  for place in [(0, 0), (0, 7), (2, 13), (5, 19)]:
    step = np.zeros(logits.shape)
    step[place] = 1e-5
    slope = (loss(logits + step) - loss(logits - step)) / 2e-5
    assert abs(gradient[place] - slope) < 1e-4

  split = np.float64(logits).reshape(6, 4, 5)
  shares = np.exp(split) / np.exp(split).sum(-1, keepdims=True)
  expected = (shares * np.arange(5)).sum(-1)
  np.testing.assert_allclose(boxes.distances(logits), expected, rtol=1e-5)


def by_loops(scores, found, points, truth, classes, is_object):
  """The assignment, object by object and pixel by pixel."""
  agreement, overlap = {}, {}
  wants = {a: [] for a in range(len(points))}
  for g, box in enumerate(truth):
    if not is_object[g]:
      continue
    for a, (x, y) in enumerate(points):
      if min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 1e-9:
        iou = max(0, numpy_ciou(np.float64(box), np.float64(found[a]))[0])
        overlap[g, a] = iou
        agreement[g, a] = scores[a, classes[g]] ** 0.5 * iou**6
    mine = [a for a in wants if agreement.get((g, a), 0) > 0]
    mine.sort(key=lambda a, g=g: -agreement[g, a])
    for a in mine[:10]:
      wants[a].append(g)
  owner = {}
  for a, those in wants.items():
    if len(those) == 1:
      owner[a] = those[0]
    elif those:
      inside = [g for g in range(len(truth)) if (g, a) in overlap]
      owner[a] = max(inside, key=lambda g, a=a: (overlap[g, a], -g))
  targets = np.zeros(scores.shape)
  for a, g in owner.items():
    own = [b for b, other in owner.items() if other == g]
    best = max(agreement[g, b] for b in own)
    reach = max(overlap[g, b] for b in own)
    targets[a, classes[g]] = agreement[g, a] * reach / (best + 1e-9)
  return owner, targets


def scene(seed, objects=5, side=8):
  random = np.random.default_rng(seed)
  points, strides = boxes.centres([(side, side), (side // 2,) * 2], (4, 8))
  places = np.asarray(points * strides[:, None])
  scores = random.uniform(0.05, 1, (len(places), 3)).astype(np.float32)
  sides = random.uniform(2, 9, (len(places), 4))
  found = np.concatenate([places - sides[:, :2], places + sides[:, 2:]], 1)
  truth = random_boxes(random, objects + 1, 22.0)
  truth[1] = truth[0] + 1.0  # two objects that overlap
  classes = random.integers(0, 3, objects + 1)
  is_object = np.arange(objects + 1) < objects
  return (
    *(scores, found.astype(np.float32), places, truth, classes, is_object),
    *(points, strides),
  )


def test_assignment_is_that_of_loops():
  shared = 0
  for seed in range(6):
    *given, _, _ = scene(seed)
    result = jax.jit(assigned)(*given)
    owner, targets = by_loops(*given)
    positive = np.flatnonzero(result.is_positive)
    assert set(positive) == set(owner), seed
    assert all(result.object[a] == g for a, g in owner.items())
    np.testing.assert_allclose(result.scores, targets, atol=2e-4)
    shared += len(owner)
  assert shared > 60


def test_loss_of_a_batch():
  """That of its images, filled up or not; it falls as boxes are met."""
  one, two = scene(1), scene(2)
  points, strides = one[-2:]
  truth, classes, is_object = (
    jnp.stack([a, b]) for a, b in zip(one[3:6], two[3:6], strict=True)
  )
  logits = jax.random.normal(jax.random.key(0), (2, len(points), 4 * 6))
  class_logits = jax.random.normal(jax.random.key(1), (2, len(points), 3))
  run = jax.jit(detection_loss)
  given = (points, strides, truth, classes, is_object)
  first = run(logits, class_logits, *given)
  # Rows that fill up say nothing
  more = lambda x: jnp.concatenate([x, x[:, :1]], 1)
  absent = jnp.concatenate([is_object, jnp.zeros((2, 1), bool)], 1)
  filled = run(
    logits, class_logits, points, strides, more(truth), more(classes), absent
  )
  np.testing.assert_allclose(filled, first, rtol=1e-6)
  # No objects: classes alone
  none = run(
    logits, class_logits, points, strides, truth, classes, is_object & False
  )
  assert none.boxes == none.distances == 0 and none.classes > 0

  total = lambda x: sum(run(*x, *given))
  step = jax.jit(jax.grad(total))
  x = logits, class_logits
  start = total(x)
  for _ in range(30):
    x = jax.tree.map(lambda p, g: p - 0.02 * g, x, step(x))
  assert np.isfinite(total(x)) and total(x) < 0.95 * start
